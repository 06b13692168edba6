"""Small text files beside images: class names."""

from pathlib import Path

from assay.util.validate import described, reject

_MOST = 2**24


def read_text(path: Path) -> str:
    """The text of a file in UTF-8.

    Args:
        path: a file that is there.

    Raises:
        ValueError: it is no text in UTF-8, or larger than 16 MiB.
    """
    size = path.stat().st_size
    if size > _MOST:
        reject(f"file {path}", f"a text file of at most {_MOST:,} bytes", described(f"{size:,} bytes"))
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        reject(f"file {path}", "text in UTF-8", described(f"a byte that is none, at position {error.start}"))


def read_lines(path: Path) -> tuple[str, ...]:
    """The lines of a file in UTF-8, without empty ones."""
    return tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
