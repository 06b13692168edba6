"""A read-only HTTP server for reports, on the loopback address only.

Pages are found by keys in a list that the server makes itself: no part of a request is ever used as a path.
"""

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

from assay.core.outcome import Status
from assay.report.run_index import RunRow, render_index
from assay.store.catalogue import Catalogue, ListedRun
from assay.util.text import plain

_PATIENCE = 10.0
"""Seconds until a connection that says nothing is closed."""
_LONGEST = 2000
"""Characters of an address at most."""
_CHUNK = 2**20
"""Bytes of a page that are in memory at once."""
_WAITING, _AT_ONCE = 128, 256
"""Connections that wait to be taken, and threads for those that were."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NONE: Mapping[str, str] = MappingProxyType({})
_FOREIGN: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": "sandbox allow-scripts; default-src 'none'; img-src data:; "
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'",
    }
)
"""Of pages that somebody else may have made: on top of their own policy, alone in an origin of their own."""
_HOSTS = ("127.0.0.1", "localhost")


class _Server(ThreadingHTTPServer):
    """A thread for each connection, as a browser may open one and say nothing; not more than `_AT_ONCE` at once."""

    request_queue_size = _WAITING

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.room = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a thread, as soon as there is room for one; a connection that finds none is closed."""
        if self.room.acquire(timeout=_PATIENCE):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of single connections."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection; ``catalogue`` is set by `serve`."""

    catalogue: Catalogue
    server_version, sys_version = "assay", ""
    timeout = _PATIENCE

    def do_GET(self) -> None:
        """Answer a request; ignore clients that have disconnected."""
        with suppress(ConnectionError, TimeoutError):
            self._answer()

    def _answer(self) -> None:
        if self.headers.get("Host", "").partition(":")[0] not in _HOSTS:  # another name that leads here
            self._send(HTTPStatus.FORBIDDEN, b"use http://127.0.0.1 or http://localhost")
        elif len(self.path) > _LONGEST:
            self._send(HTTPStatus.REQUEST_URI_TOO_LONG, b"URL too long")
        else:
            self._show(self.path.partition("?")[0].strip("/").split("/"))

    def _show(self, path_parts: list[str]) -> None:
        runs = self.catalogue.runs()
        if path_parts == [""]:
            self._send(HTTPStatus.OK, index(runs).encode(), "text/html; charset=utf-8")
            return
        page = _page(runs, path_parts)
        try:
            file = None if page is None else page.open("rb")
        except OSError:  # gone meanwhile
            file = None
        if file is None:
            self._send(HTTPStatus.NOT_FOUND, b"no such page")
            return
        with file:
            left = os.fstat(file.fileno()).st_size
            self._begin(HTTPStatus.OK, left, "text/html; charset=utf-8", _FOREIGN)
            while left and (part := file.read(min(left, _CHUNK))):
                self.wfile.write(part)
                left -= len(part)

    def _send(self, status: HTTPStatus, body: bytes, content_type: str = "text/plain") -> None:
        self._begin(status, len(body), content_type)
        self.wfile.write(body)

    def _begin(self, status: HTTPStatus, size: int, kind: str, more: Mapping[str, str] = _NONE) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, **more, "Content-Type": kind, "Content-Length": str(size)}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Do not log requests."""


def serve(root: Path, port: int) -> ThreadingHTTPServer:
    """A server on the loopback address for the runs below a folder; use as a context manager.

    Args:
        root: the folder.
        port: to listen on; 0 for any that is free.
    """
    handler = type("Handler", (_Handler,), {"catalogue": Catalogue(root.resolve())})
    return _Server(("127.0.0.1", port), handler)


def index(runs: list[ListedRun]) -> str:
    """The list of runs as a page."""
    rows = []
    for run in runs:
        status = run.status
        done = sum(cell.done for cell in status.cells) if status else 0
        total = sum(cell.n for cell in status.cells) if status else 0
        state = _state(run)
        models = tuple(dict.fromkeys(cell.names.model for cell in status.cells)) if status else ()
        survived = [
            cell.counts.get(Status.SURVIVED.label, 0) / cell.done
            for cell in (status.cells if status else ())
            if cell.done and cell.names.curve is None
        ]
        rows.append(
            RunRow(
                name=plain(run.name),
                title=plain(status.title) if status and status.title else "",
                state=state,
                models=tuple(plain(m) for m in models),
                done=done,
                total=total,
                lowest=min(survived) if survived else None,
                pages=tuple((name, f"/{run.key}/{name}") for name in run.pages),
            )
        )
    return render_index(rows)


def _state(run: ListedRun) -> str:
    """How far a run is, in a word or two; why its ledger cannot be read; nothing where only pages are there."""
    if run.unreadable or run.status is None:
        return plain(run.unreadable, 300) if run.unreadable else ""
    if run.status.holder:
        return f"running ({run.status.holder})"
    return "finished" if run.status.finished else "not finished"


def _page(runs: list[ListedRun], path_parts: list[str]) -> Path | None:
    if len(path_parts) != 2:
        return None
    run = next((run for run in runs if run.key == path_parts[0]), None)
    return None if run is None else run.pages.get(path_parts[1])
