"""Atomic writes, and the digests of written files."""

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

RECORD, DIGESTS = ".assay.json", ".digests"
"""The files in a folder that say which run of assay writes there, and the SHA-256 of what it has written."""
_LEVELS = 3
"""Folders of a run lie at most so deep below the one with its record."""


def atomic_write(path: Path, content: bytes | str) -> Path:
    """Write a file so that its name never stands for half of it, whatever happens meanwhile.

    A temporary file in the same folder is written, flushed to disk and renamed over the name. Inside a run's folder its
    name holds the number of the run, so that `sweep` can tell it from other people's files.

    Args:
        path: where; missing folders are made.
        content: bytes, or text in UTF-8.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    run = run_of(path.parent)
    prefix = f".{path.name[:100]}.{run}-" if run else f".{path.name[:100]}."
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if run:
            _note_digest(path, data)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)
    return path


def sweep(folder: Path) -> int:
    """Remove the temporary files that interrupted writes of this folder's run have left in it, and no others.

    Returns:
        How many files.
    """
    run = run_of(folder)
    left = list(folder.glob(f".*.{run}-*.part")) if run else []
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def run_of(folder: Path, *, deep: bool = True) -> str:
    """The number of the run that a folder belongs to; empty for none.

    Args:
        folder: any.
        deep: whether those around it are looked at, too.
    """
    owner = _record_of(folder, _LEVELS if deep else 0)
    return "" if owner is None else str(owner[1]["run"])


def _record_of(folder: Path, levels: int = _LEVELS) -> tuple[Path, dict[str, Any]] | None:
    """The nearest folder with a record, and what the record says."""
    here = Path(folder).absolute()
    for place in (here, *here.parents[:levels]):
        try:
            record = json.loads((place / RECORD).read_text(encoding="utf-8"))
            run = record["run"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(run, str) and re.fullmatch("[0-9a-f]{16}", run):
            return place, record
    return None


def _note_digest(path: Path, data: bytes) -> None:
    """Add the SHA-256 of a file to the list of its run, before the file has its name.

    Runs with a ledger keep digests there.
    """
    owner = _record_of(path.parent)
    if owner is None or path.name.startswith(".") or not owner[1].get("digests"):
        return
    line = {"name": path.absolute().relative_to(owner[0]).as_posix(), "sha256": hashlib.sha256(data).hexdigest()}
    with (owner[0] / DIGESTS).open("ab+") as file:
        cut = file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n"  # by a kill: no line is lost to it
        file.write(b"\n" * bool(cut) + json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def digests_of(folder: Path) -> dict[str, tuple[str, ...]]:
    """The last two digests of each file that a run has written: after a kill the one before may be there.

    Args:
        folder: with the run's record.
    """
    digests: dict[str, tuple[str, ...]] = {}
    try:
        lines = (folder / DIGESTS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return digests
    for text in lines:
        try:
            line = json.loads(text)
            digests[line["name"]] = (*digests.get(line["name"], ())[-1:], line["sha256"])
        except (ValueError, KeyError, TypeError):  # the line that a kill has cut off
            continue
    return digests


def is_as_written(path: Path) -> bool:
    """Whether a file has the content with which its run has written it; True if no digest is recorded."""
    owner = _record_of(path.parent)
    if owner is None:
        return True
    digests = digests_of(owner[0]).get(path.absolute().relative_to(owner[0]).as_posix(), ())
    return not digests or sha256(path) in digests


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_name(text: str) -> str:
    """A name, whatever it holds, as part of a file's name.

    Example:
        >>> file_name("PGD-AT (4/255)"), file_name("../..")
        ('PGD-AT-4-255', 'unnamed')
    """
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "unnamed"


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
