"""The folder that a command writes to: empty, new or its own; one process at a time; a record of the files it owns."""

import json
import os
import platform
import re
import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from assay.util.files import DIGESTS, RECORD, atomic_write, digests_of, run_of, sha256, sweep
from assay.util.validate import described, reject

LOCK, HOLDER = ".lock", ".holder"
LEDGER = "ledger.sqlite"
PATIENCE = 1.0
"""Seconds that a writer waits for the lock: readers hold the lock briefly."""
_OURS = frozenset({LOCK, HOLDER, RECORD, DIGESTS})
_HELD = r"process \d+ on .*"
"""What is in the file that names the holder of a lock."""
_INNER = frozenset({"images", "data", "trail", "cards", "examples"})
"""Folders that runs write to, and that are no runs themselves."""
_BEGUN = (f".{HOLDER}.*.part", f".{RECORD}.*.part")
"""What a process leaves that is killed before the record is there."""
_SHOWN = 3


@dataclass(frozen=True)
class Owned:
    """What a folder's record says.

    Attributes:
        run: number of the run, which its temporary files carry in their names.
        command: that writes there.
        files: names relative to the folder, or patterns such as ``trail/*``.
        digests: whether the SHA-256 of each file is noted beside the record; a ledger has its own.
    """

    run: str
    command: str
    files: tuple[str, ...]
    digests: bool = False

    def owns(self, name: str) -> bool:
        """Whether a file is the run's own."""
        return any(fnmatchcase(name, pattern) for pattern in self.files)


def out_folder(out: str | Path, name: str = "out") -> Path:
    """The folder of a run.

    Raises:
        ValueError: an empty path, or something that is no folder.

    Example:
        >>> out_folder("")
        Traceback (most recent call last):
        ValueError: out: expected a folder, such as runs/new, got ''
    """
    if not str(out).strip():
        reject(name, "a folder, such as runs/new", str(out))
    path = Path(out)
    if path.exists() and not path.is_dir():
        reject(name, "a folder, such as runs/new", described(f"{path}, which is a file"))
    return path


def foreign_files(folder: Path) -> list[str]:
    """The files and folders in a folder that no run of assay has put there, sorted.

    Locks, a record and folders with runs of their own do not count.
    """
    if not folder.is_dir():
        return []
    run = run_of(folder)
    left = (*_BEGUN, *((f".*.{run}-*.part",) if run else ()))
    return sorted(
        path.name
        for path in folder.iterdir()
        if not _is_ours(path)
        and not _is_inner_run(path)
        and not any(fnmatchcase(path.name, pattern) for pattern in left)
    )


def _is_ours(path: Path) -> bool:
    """Whether a file is the record or a lock of a run: by what it holds, as others may have files of these names."""
    if path.name not in _OURS or not path.is_file():
        return False
    if run_of(path.parent, deep=False) or (path.parent / LEDGER).exists():
        return True
    try:  # what a process leaves that is killed before the record is there
        content = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return (path.name == LOCK and not content) or (path.name == HOLDER and re.fullmatch(_HELD, content) is not None)


def _is_inner_run(path: Path) -> bool:
    """Whether a folder is one of a run of its own, and not of a name that runs write to themselves."""
    return _is_run(path) and path.name not in _INNER


def require_empty(folder: Path) -> None:
    """Refuse a folder with other people's files in it.

    Raises:
        ValueError: it holds some; the first of them are named.
    """
    there = foreign_files(folder)
    if there:
        reject(
            "out",
            "a new or empty folder, or one of the same run (choose another with -o)",
            described(f"{folder}, in which there is {_names(there)}"),
        )


def claim(
    folder: Path,
    command: str,
    files: Collection[str],
    adopt: Callable[[Path], bool] = lambda _: False,
    remade: Collection[str] = (),
) -> Owned:
    """Claim a folder for a command: an empty one, a new one, or one that this command has written to before.

    The record is written before anything else. What interrupted writes of the same run have left is removed.

    Args:
        folder: where; made if it is missing.
        command: that writes there, such as ``"train"``.
        files: names or patterns of all that it will write, relative to the folder.
        adopt: whether a folder without a record is nevertheless one of this command, from a version that kept none.
        remade: files that are only written, never read back: damage in them is of no account.

    Returns:
        What the record says.

    Raises:
        ValueError: the folder holds files that this command did not write, or a file that is damaged. Nothing has been
            written then.
    """
    check_claim(folder, command, files, adopt)
    require_undamaged(folder, remade)
    known = read_record(folder)
    run = known.run if known is not None else secrets.token_hex(8)
    owned = Owned(run, command, tuple(dict.fromkeys((*(known.files if known else ()), *files))), digests=True)
    folder.mkdir(parents=True, exist_ok=True)
    if known != owned:
        write_record(folder, owned)
    for place in (folder, *(path for path in folder.iterdir() if path.is_dir() and not _is_run(path))):
        sweep(place)
    return owned


def check_claim(
    folder: Path, command: str, files: Collection[str], adopt: Callable[[Path], bool] = lambda _: False
) -> None:
    """As `claim`, but nothing is written."""
    known = read_record(folder)
    if known is None:
        if (folder / LEDGER).exists() or not (foreign_files(folder) and adopt(folder)):
            require_empty(folder)
        return
    if known.command != command:
        reject(
            "out",
            f"a new or empty folder, or one of assay {command} (choose another with -o)",
            described(f"{folder}, a folder of assay {known.command}"),
        )
    there = [path.relative_to(folder).as_posix() for pattern in files for path in folder.glob(pattern)]
    strange = sorted(name for name in there if not known.owns(name))
    if strange:
        reject(
            "out",
            "a folder without other files of the names that this command writes",
            described(f"{folder} with {_names(strange)}, which this run did not write"),
        )


def require_undamaged(folder: Path, remade: Collection[str] = ()) -> None:
    """Compare the files of a folder with the digests that were noted when they were written.

    Args:
        folder: with a record.
        remade: files, or patterns, that are not compared.

    Raises:
        ValueError: a file has changed since.
    """
    for name, digests in digests_of(folder).items():
        path = folder / name
        if path.is_file() and not any(fnmatchcase(name, part) for part in remade) and sha256(path) not in digests:
            reject(
                "out",
                f"{name} as it was written (restore it from a copy, or delete it to have it made again)",
                described(f"a damaged file in {folder}"),
            )


def read_record(folder: Path) -> Owned | None:
    """The record of a folder; None where there is none, or one that cannot be read."""
    try:
        known: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return Owned(
            str(known["run"]), str(known["command"]), tuple(map(str, known["files"])), bool(known.get("digests"))
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(folder: Path, owned: Owned) -> None:
    """Write the record of a folder."""
    lines = {
        "format": 1,
        "run": owned.run,
        "command": owned.command,
        "files": list(owned.files),
        "digests": owned.digests,
    }
    atomic_write(folder / RECORD, json.dumps(lines, indent=1))


@contextmanager
def locked(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold a folder: no other process writes to it meanwhile.

    The lock belongs to the process and goes with it, however it ends.

    Args:
        folder: is made if it is missing.
        patience: seconds to wait for another process.

    Raises:
        ValueError: another process holds it.
        OSError: it cannot be written to.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=patience, poll_interval=0.02)
    except Timeout:
        who = holder_named(folder) or "another process"
        reject(
            "out",
            "a folder that no other process is writing to (assay status only reads)",
            described(f"{folder}, which {who} holds"),
        )
    try:
        atomic_write(folder / HOLDER, f"process {os.getpid()} on {platform.node()}")
        yield
        (folder / HOLDER).unlink(missing_ok=True)
    finally:
        lock.release()


def holder_named(folder: Path) -> str:
    """The process that wrote its name into a folder last; empty where there is none."""
    try:
        return (folder / HOLDER).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _is_run(path: Path) -> bool:
    """Whether a folder is one of a run of assay."""
    if path.is_symlink() or not path.is_dir():
        return False
    return (path / RECORD).is_file() or (path / LEDGER).is_file()


def _names(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_SHOWN])
    more = len(names) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
