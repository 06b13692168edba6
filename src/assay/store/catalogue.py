"""The runs below a folder, for the server; a ledger's status is cached until the ledger changes."""

import hashlib
import sqlite3
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from assay.store.manifest import MANIFEST
from assay.store.sqlite import NAME
from assay.store.status import RunStatus, read_status

PAGES = {"report": "report.html", "diagnosis": "diagnosis.html", "signatures": "signatures.html"}
"""The pages that a run may have, by name."""
_DEPTH = 4
_INNER = frozenset({"images", "data", "examples", "trail", "cards"})
"""Folders inside a run's that hold no runs."""
_FRESH = 1.0
"""Seconds for which a list is shown as it is."""
_CACHE_FACTOR = 10.0
"""While a run is writing, cache its status for this many times the time that reading took."""

Stamp = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ListedRun:
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

    @property
    def key(self) -> str:
        """Its key in URLs, independent of other runs."""
        return hashlib.sha256(self.name.encode(errors="surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True)
class _CachedStatus:
    """What was read of a ledger.

    Attributes:
        stamp: times and sizes of its files.
        status: how far it is.
        unreadable: why it cannot be read.
        until: of the monotonic clock: until then it is shown though the files have changed.
    """

    stamp: Stamp
    status: RunStatus | None
    unreadable: str
    until: float


@dataclass
class Catalogue:
    """The runs below a folder. One thread reads at a time; the others wait for the result.

    Args:
        root: the folder, resolved.
    """

    root: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _read: dict[Path, _CachedStatus] = field(default_factory=dict)
    _runs: list[ListedRun] = field(default_factory=list)
    _until: float = 0.0

    def runs(self) -> list[ListedRun]:
        """The runs, at most four levels deep, in the order of their names; links are not followed."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._runs = [run for folder in sorted(_folders(self.root, _DEPTH)) if (run := self._shown(folder))]
                self._until = time.monotonic() + _FRESH
            return self._runs

    def _shown(self, folder: Path) -> ListedRun | None:
        pages = {name: folder / file for name, file in PAGES.items() if _is_inside(folder / file, self.root)}
        status, unreadable = self._status(folder) if _is_inside(folder / NAME, self.root) else (None, "")
        if not (pages or unreadable or status is not None):
            return None
        return ListedRun(folder, folder.relative_to(self.root).as_posix(), status, pages, unreadable)

    def _status(self, folder: Path) -> tuple[RunStatus | None, str]:
        cached, stamp, now = self._read.get(folder), _stamp(folder), time.monotonic()
        if cached is not None and ((cached.stamp == stamp and not cached.unreadable) or now < cached.until):
            return cached.status, cached.unreadable
        status, unreadable = None, ""
        try:
            status = read_status(folder)
        except (OSError, ValueError, KeyError, TypeError, sqlite3.Error) as error:  # the other runs are shown
            unreadable = f"ledger unreadable: {type(error).__name__}: {error}"
        took = time.monotonic() - now
        wait = max(
            _CACHE_FACTOR * took, _FRESH if unreadable else 0
        )  # what could not be read is tried again after that
        self._read[folder] = _CachedStatus(stamp, status, unreadable, time.monotonic() + wait)
        return status, unreadable


def list_runs(root: Path) -> list[ListedRun]:
    """The runs below a folder, at most four levels deep, in the order of their names; links are not followed."""
    return Catalogue(root).runs()


def _stamp(folder: Path) -> Stamp:
    """Times and sizes of the files that decide what is shown of a run."""
    stamps = []
    for name in (NAME, f"{NAME}-wal", MANIFEST, ".holder"):
        try:
            info = (folder / name).stat()
        except OSError:
            stamps.append((0, 0))
        else:
            stamps.append((info.st_mtime_ns, info.st_size))
    return tuple(stamps)


def _folders(root: Path, depth: int) -> list[Path]:
    if depth <= 0:
        return [root]
    try:
        inner = [path for path in root.iterdir() if path.name not in _INNER and path.is_dir() and not path.is_symlink()]
    except OSError:  # gone meanwhile, or not ours to read
        return [root]
    return [root, *(folder for path in inner for folder in _folders(path, depth - 1))]


def _is_inside(path: Path, root: Path) -> bool:
    """Whether a file is there, and really below the folder."""
    return path.is_file() and path.resolve().is_relative_to(root)
