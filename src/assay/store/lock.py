"""The write lock of a run's folder."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assay.store.sqlite import connect
from assay.util.output_folder import (
    LEDGER,
    LOCK,
    Owned,
    foreign_files,
    holder_named,
    locked,
    read_record,
    require_empty,
    write_record,
)
from assay.util.validate import described, reject

COMMAND = "run"
"""The command recorded for a run's folder."""
_PATIENCE = 1.0


@contextmanager
def hold_run(folder: Path) -> Iterator[None]:
    """Lock a run's folder against other writers.

    Args:
        folder: empty, new, or that of a run; made if it is missing.

    Raises:
        ValueError: another process holds it, it contains foreign files and no run, or its ledger is not one.
        OSError: it cannot be written to.
    """
    require_own_folder(folder)
    if (folder / LEDGER).exists():  # somebody else's file of that name: no lock is left beside it
        connect(folder / LEDGER, write=False).close()
    with locked(folder, _PATIENCE):
        require_own_folder(folder)
        yield


def require_own_folder(folder: Path) -> None:
    """Refuse a folder in which there is something, and no ledger.

    Raises:
        ValueError: the folder holds other files; the message names them.
    """
    if folder.exists() and not folder.is_dir():
        reject("out", "a folder, such as runs/new", described(f"{folder}, which is a file"))
    if not (folder / LEDGER).exists():
        record = read_record(folder)
        if record is not None and record.command != COMMAND:
            reject(
                "out",
                "a new or empty folder, or that of an earlier run (choose another with -o)",
                described(f"{folder}, a folder of assay {record.command}"),
            )
        if record is None or {name.partition("/")[0] for name in record.files}.isdisjoint(foreign_files(folder)):
            require_empty(folder)


def claim_run_folder(folder: Path, *files: str) -> None:
    """Record that a folder belongs to a run, before there is a ledger.

    Args:
        folder: which this process holds.
        files: names or patterns of what is written there.
    """
    if not (folder / LEDGER).exists() and read_record(folder) is None:
        write_record(folder, Owned(secrets.token_hex(8), COMMAND, files))


def holder(folder: Path) -> str:
    """Who is writing to a run's folder, such as ``process 12 on host``; empty for nobody."""
    try:
        import fcntl
    except ImportError:  # elsewhere than on POSIX systems there is no shared lock
        return _probe_holder(folder)
    try:
        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # a shared lock: any number of readers
    except BlockingIOError:
        return holder_named(folder) or "another process"
    except OSError:
        return ""
    return ""


def _probe_holder(folder: Path) -> str:
    from filelock import FileLock, Timeout

    if not (folder / LOCK).is_file() or not os.access(folder / LOCK, os.W_OK):
        return ""
    try:
        with FileLock(folder / LOCK, timeout=0):
            return ""
    except Timeout:
        return holder_named(folder) or "another process"
