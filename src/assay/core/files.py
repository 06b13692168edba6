"""Files that are either whole or not there."""

import os
import re
import tempfile
from pathlib import Path


def atomic_write(path: Path, content: bytes | str) -> Path:
    """Write a file so that its name never stands for half of it, whatever happens meanwhile.

    A temporary file in the same folder is written, flushed to disk and renamed over the name.

    Args:
        path: where; missing folders are made.
        content: bytes, or text in UTF-8.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)
    return path


def sweep(folder: Path) -> int:
    """Remove what interrupted writes have left in a folder.

    Returns:
        How many files.
    """
    left = list(folder.glob(".*.part"))
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


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
