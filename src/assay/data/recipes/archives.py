"""The files in which data sets are distributed: located, compared with their digests, read member by member."""

import hashlib
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from assay.util.progress import WorkCallback, no_progress
from assay.util.validate import described, reject

_PART = 2**22
Files = Mapping[str, Path]
"""The archives of a data set by their names."""


@dataclass(frozen=True)
class Archive:
    """A file as its authors distribute it.

    Attributes:
        name: of the file.
        where: the page or address to get it from.
        md5: its digest as it is published; None where none is.
    """

    name: str
    where: str
    md5: str | None = None


def locate(archives: Sequence[Archive], source: Path) -> Files:
    """The archives in a folder.

    Args:
        archives: which.
        source: the folder.

    Raises:
        ValueError: some are not there; the message says where to get each.
    """
    missing = [archive for archive in archives if not (source / archive.name).is_file()]
    if missing:
        needed = "; ".join(f"{archive.name} (from {archive.where})" for archive in missing)
        reject("source", f"a folder with {needed}", described(str(source)))
    return {archive.name: source / archive.name for archive in archives}


def compare_digests(archives: Sequence[Archive], files: Files, work: WorkCallback = no_progress) -> None:
    """Compare archives with their published digests.

    Raises:
        ValueError: one differs.
    """
    for archive in archives:
        if archive.md5 is None:
            continue
        path, digest, done = files[archive.name], hashlib.md5(usedforsecurity=False), 0
        size = path.stat().st_size
        with path.open("rb") as stream:
            while part := stream.read(_PART):
                digest.update(part)
                done += len(part)
                work(f"comparing {archive.name}", done, size)
        if digest.hexdigest() != archive.md5:
            expected = f"the published file, MD5 {archive.md5} (get it again, or --unchecked to take this one)"
            reject(archive.name, expected, described(f"MD5 {digest.hexdigest()}"))


def members(archive: Path | IO[bytes], name: str = "") -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The files in a zip or tar archive, in its order, each with what reads it. Nothing is written to disk.

    Args:
        archive: the file, or a stream of one.
        name: of a stream, for messages.

    Raises:
        ValueError: it is damaged, or of another format.
    """
    label = name or str(archive)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                for entry in opened.infolist():
                    if not entry.is_dir():
                        yield entry.filename, lambda entry=entry: opened.read(entry)  # type: ignore[misc]
            return
        with _open_tar(archive) as packed:
            for member in packed:
                if member.isfile():
                    yield member.name, lambda member=member: _content(packed, member)  # type: ignore[misc]
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        reject(label, "a sound zip or tar archive", described(f"{type(error).__name__}: {error}"))


def _open_tar(archive: Path | IO[bytes]) -> tarfile.TarFile:
    if isinstance(archive, Path):
        return tarfile.open(archive)
    archive.seek(0)  # asking whether it is a zip has moved it
    return tarfile.open(fileobj=archive)


def _content(packed: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = packed.extractfile(member)
    return b"" if stream is None else stream.read()


def parts_of(name: str) -> tuple[str, ...]:
    """The folders and the file name of a member.

    Example:
        >>> parts_of("./set/train/cat/7.png")
        ('set', 'train', 'cat', '7.png')
    """
    return PurePosixPath(name).parts
