"""A small server for the reports of many runs: loopback only, read only, nothing but reports.

Pages are found by number in a list that the server makes itself: no part of a request is ever used as a path.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

from assay.core.outcome import Status
from assay.report.index import Entry, render_index
from assay.report.text import plain
from assay.runs.database import NAME
from assay.runs.status import RunStatus, status_of

_DEPTH = 4
_PATIENCE = 10.0
"""Seconds until a connection that says nothing is closed."""
_PAGES = {"report": "report.html", "diagnosis": "diagnosis.html", "signatures": "signatures.html"}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NONE: Mapping[str, str] = MappingProxyType({})
_FOREIGN: Mapping[str, str] = MappingProxyType({
    "Content-Security-Policy": "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'",
})  # fmt: skip
"""Of pages that somebody else may have made: on top of their own policy, alone in an origin of their own."""
_HOSTS = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Shown:
    """One run.

    Attributes:
        folder: where it is.
        name: its place below the folder that is served.
        status: how far it is; None where only pages are there.
        pages: its pages, by name.
        unreadable: why its ledger cannot be read; empty where it can, or where there is none.
    """

    folder: Path
    name: str
    status: RunStatus | None
    pages: dict[str, Path]
    unreadable: str = ""


def found(root: Path) -> list[Shown]:
    """The runs below a folder, at most four levels deep, in the order of their names; links are not followed."""
    runs = []
    for folder in sorted(_folders(root, _DEPTH)):
        pages = {name: folder / file for name, file in _PAGES.items() if _own(folder / file, root)}
        status, unreadable = None, ""
        if _own(folder / NAME, root):
            try:
                status = status_of(folder)
            except (OSError, ValueError, KeyError, TypeError, sqlite3.Error) as error:  # the other runs are shown
                unreadable = f"ledger unreadable: {type(error).__name__}: {error}"
        if pages or unreadable or status is not None:
            runs.append(Shown(folder, folder.relative_to(root).as_posix(), status, pages, unreadable))
    return runs


def serve(root: Path, port: int) -> HTTPServer:
    """A server on the loopback address for the runs below a folder; use as a context manager.

    Args:
        root: the folder.
        port: to listen on; 0 for any that is free.
    """
    root = root.resolve()

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "assay", ""
        timeout = _PATIENCE

        def do_GET(self) -> None:
            """Answer; one who has gone away meanwhile gets none."""
            with suppress(ConnectionError):
                self._answer()

        def _answer(self) -> None:
            if self.headers.get("Host", "").partition(":")[0] not in _HOSTS:  # another name that leads here
                self._send(HTTPStatus.FORBIDDEN, b"only by the loopback address", "text/plain")
                return
            words = self.path.partition("?")[0].strip("/").split("/")
            runs = found(root)
            if words == [""]:
                self._send(HTTPStatus.OK, index(runs).encode(), "text/html; charset=utf-8")
                return
            page = _page(runs, words)
            if page is None:
                self._send(HTTPStatus.NOT_FOUND, b"no such page", "text/plain")
                return
            self._send(HTTPStatus.OK, page.read_bytes(), "text/html; charset=utf-8", _FOREIGN)

        def _send(self, status: HTTPStatus, body: bytes, kind: str, more: Mapping[str, str] = _NONE) -> None:
            self.send_response(status)
            told = {**_HEADERS, **more, "Content-Type": kind, "Content-Length": str(len(body))}
            for name, value in told.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: what was asked for is nobody's business."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)  # a browser may open a connection and say nothing


def index(runs: list[Shown]) -> str:
    """The list of runs as a page."""
    entries = []
    for number, run in enumerate(runs):
        status = run.status
        done = sum(cell.done for cell in status.cells) if status else 0
        total = sum(cell.n for cell in status.cells) if status else 0
        state = _state(run)
        models = tuple(dict.fromkeys(cell.words.model for cell in status.cells)) if status else ()
        survived = [cell.counts.get(Status.SURVIVED.label, 0) / cell.done for cell in (status.cells if status else ())
                    if cell.done and cell.words.curve is None]  # fmt: skip
        entries.append(Entry(
            name=plain(run.name), title=plain(status.title) if status and status.title else "", state=state,
            models=tuple(plain(m) for m in models), done=done, total=total,
            lowest=min(survived) if survived else None,
            pages=tuple((name, f"/{number}/{name}") for name in run.pages),
        ))  # fmt: skip
    return render_index(entries)


def _state(run: Shown) -> str:
    """How far a run is, in a word or two; why its ledger cannot be read; nothing where only pages are there."""
    if run.unreadable or run.status is None:
        return plain(run.unreadable, 300) if run.unreadable else ""
    if run.status.holder:
        return f"running ({run.status.holder})"
    return "finished" if run.status.finished else "not finished"


def _page(runs: list[Shown], words: list[str]) -> Path | None:
    if len(words) != 2 or not words[0].isascii() or not words[0].isdigit() or int(words[0]) >= len(runs):
        return None
    return runs[int(words[0])].pages.get(words[1])


def _folders(root: Path, depth: int) -> list[Path]:
    inner = [path for path in root.iterdir() if path.is_dir() and not path.is_symlink() and depth > 0]
    return [root, *(folder for path in inner for folder in _folders(path, depth - 1))]


def _own(path: Path, root: Path) -> bool:
    """Whether a file is there, and really below the folder."""
    return path.is_file() and path.resolve().is_relative_to(root)
