"""``idx:path``: the MNIST family's idx files, plain or gzipped.

Format: http://yann.lecun.com/exdb/mnist/ ("the IDX file format"): two zero bytes, a type code, the number of axes,
one big-endian uint32 an axis, the data.
"""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from assay.data.arrays import class_names, labels, pixels
from assay.data.capacity import check_memory
from assay.data.dataset import Dataset
from assay.data.spec import MissingData, Request
from assay.data.text import read_lines
from assay.util.validate import described, reject

OPTIONS = ("classes", "max_gib")

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4"}
_PREFIXES = {"train": ("train",), "test": ("t10k", "test"), "val": ("val", "valid")}


def load(request: Request) -> Dataset:
    """Load a folder of idx files: ``train-images-idx3-ubyte``, ``t10k-labels-idx1-ubyte`` …, with ``.gz`` or without.

    Class names come from the option ``classes`` (``a,b,c``), else from a file ``classes.txt`` beside them (one name
    a line), else they are the numbers.

    Args:
        request: path of the folder, options and split.

    Returns:
        The images of the split, uint8 ``(n, 1, h, w)``.

    Raises:
        ValueError: a file is missing or ambiguous, its header is wrong, or its length is not what the header says.
    """
    root = request.place()
    if not root.is_dir():
        reject("idx path", "a folder that holds idx files", str(root), error=MissingData)
    if request.split == "all":
        reject("split", "'train' or 'test' for idx files", request.split)
    limit = request.limit_bytes()
    images, label_file = _find_file(root, request.split, "images"), _find_file(root, request.split, "labels")
    for path, role in ((images, "images"), (label_file, "labels")):
        if path is None:
            prefix = _PREFIXES[request.split][0]
            there = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "an empty folder"
            reject(f"idx {root}", f"a file {prefix}-{role}-idx…-ubyte[.gz]", described(there))
    x = pixels(read(cast(Path, images), axes=3, limit=limit), "idx images", "nhw")
    label_files = {s: _find_file(root, s, "labels") for s in _PREFIXES}
    ys = {s: labels(read(p, axes=1, limit=limit), "idx labels") for s, p in label_files.items() if p is not None}
    names = request.names("classes") or _lines(root / "classes.txt")
    return Dataset(x, ys[request.split], class_names(names, *ys.values()), name=root.name)


def read(path: Path, *, axes: int, limit: float = 2.0**33) -> NDArray[Any]:
    """Read one idx file.

    Args:
        path: the file; gzipped where its name ends in ``.gz``.
        axes: how many axes it must have.
        limit: the most bytes of data.

    Returns:
        The array, read-only.

    Raises:
        ValueError: a wrong header, fewer or more bytes than it says, or more than ``limit``.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            return _array(stream, path, axes, limit)
    except (EOFError, OSError, zlib.error) as error:
        reject(f"idx {path}", "a complete file", described(f"{type(error).__name__}: {error}"))


def _array(stream: Any, path: Path, axes: int, limit: float) -> NDArray[Any]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or magic[3] != axes:
        expected = f"the magic number of an idx file of bytes with {axes} axes (00 00 08 {axes:02d})"
        reject(f"idx {path}", expected, described(magic.hex(" ") or "an empty file"))
    head = stream.read(4 * axes)
    if len(head) < 4 * axes:
        reject(f"idx {path}", f"{4 * axes} bytes of extents", described(f"{len(head)} bytes"))
    shape = struct.unpack(f">{axes}I", head)
    dtype = np.dtype(_TYPES[magic[2]])
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    if size > limit:
        expected = f"at most {limit / 2**30:g} GiB (option max_gib)"
        reject(f"idx {path}", expected, described(f"{size / 2**30:.1f} GiB, shape {shape}"))
    check_memory(f"idx {path}", shape[0], size / max(shape[0], 1))
    data = stream.read(size + 1)
    if len(data) != size:
        got = f"{len(data)} bytes" if len(data) < size else "more bytes"
        reject(f"idx {path}", f"{size} bytes of data for the shape {shape}", described(got))
    return np.frombuffer(data, dtype).reshape(shape)


def _find_file(root: Path, split: str, role: str) -> Path | None:
    """The one file of a split and role; the unpacked one where both forms are there."""
    for prefix in _PREFIXES[split]:
        names = [p for p in sorted(root.iterdir()) if p.name.startswith((f"{prefix}-{role}", f"{prefix}_{role}"))]
        plain = [p for p in names if p.suffix != ".gz"]
        chosen = plain or names
        if len(chosen) > 1:
            reject(f"idx {root}", f"one file {prefix}-{role}…", described(", ".join(p.name for p in chosen)))
        if chosen:
            return chosen[0]
    return None


def _lines(path: Path) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    return read_lines(path)
