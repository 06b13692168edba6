"""``parquet:path``: tables with one encoded image and one label a row, as dataset hubs store them.

Format: https://huggingface.co/docs/datasets/about_dataset_features: an image column of ``struct<bytes, path>`` or of
bytes, an integer label column; class names in the schema's metadata under ``huggingface``, or as a plain list under
``class_names``. Without names the classes are the numbers up to the largest label of what was read.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.data.arrays import class_names, labels
from assay.data.dataset import Dataset
from assay.data.decode import MODES, decode_images, decode_mask
from assay.data.spec import MissingData, Request, one_set, quote_words, refuse_part
from assay.util.validate import described, nearest, reject

OPTIONS = ("image", "label", "mask", "classes", "size", "mode", "holdout", "seed", "max_gib")

_IMAGE = ("image", "img")
_LABEL = ("label", "labels", "fine_label", "y")


def load(request: Request) -> Dataset:
    """Load one parquet file, or the shards that a pattern names.

    ``{split}`` in the path is filled in, and ``*`` in the file name matches shards; a path without ``{split}`` is one
    set, divided 80/20. Options: ``image``, ``label``, ``mask`` name the columns; ``classes`` the classes (``a,b,c``);
    ``size``, ``mode``, ``holdout``, ``seed`` and ``max_gib`` as for folders.

    Args:
        request: path, options and split.

    Returns:
        The images of the split, uint8.

    Raises:
        ImportError: pyarrow is missing or broken.
        ValueError: no such file, it is no parquet file, a column is missing or of another kind, or an image is damaged.
    """
    refuse_part(request)
    path = request.place()
    paths = sorted(path.parent.glob(path.name)) if "*" in path.name else [path]
    if not paths or not all(p.is_file() for p in paths):
        reject("parquet path", "a file (or a pattern with * that matches some)", str(path), error=MissingData)
    return one_set(table(paths, request, request.title()), request)


def table(paths: Sequence[Path], request: Request, name: str) -> Dataset:
    """Decode parquet files into one set.

    Args:
        paths: the shards, in order.
        request: the options.
        name: what a report calls it.

    Returns:
        All their rows, in order.

    Raises:
        ImportError: pyarrow is missing or broken.
        ValueError: as for `load`.
    """
    files = [_open_file(path) for path in paths]
    schema = files[0].schema_arrow
    image = _column(request, "image", schema, _IMAGE, _holds_images)
    label = _column(request, "label", schema, _LABEL, _holds_labels)
    mask = request.text("mask")
    if mask is not None and (mask not in schema.names or not _holds_images(schema.field(mask).type)):
        reject("option mask", f"a column of images ({quote_words(schema.names)})", mask)
    for path, file in zip(paths, files, strict=True):
        if not file.schema_arrow.equals(schema):
            reject(
                f"parquet {path}", "the same columns as the first file", described(quote_words(file.schema_arrow.names))
            )
    count, size = sum(file.metadata.num_rows for file in files), request.size()
    if count == 0:
        reject(f"parquet {paths[0]}", "at least one row", described("none"))
    mode, limit = request.choice("mode", "auto", MODES), request.limit_bytes()
    x = decode_images(_encoded(files, image), count, mode=mode, size=size, limit=limit)
    y = _labels(files, label)
    names = request.names("classes") or _named(schema, label)
    masks = None if mask is None else _masks(files, mask, x, size)
    return Dataset(x, y, class_names(names, y), masks, name=name)


def _open_file(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except Exception as error:
        expected = 'pyarrow (pip install "assay[parquet]")'
        reject("parquet", expected, described(f"{type(error).__name__}: {error}"), error=ImportError)
    try:
        return parquet.ParquetFile(path)
    except Exception as error:
        reject(f"parquet {path}", "a sound parquet file", described(f"{type(error).__name__}: {error}"))


def _column(request: Request, role: str, schema: Any, usual: Collection[str], fits: Any) -> str:
    """The column for a role: the one that the option names, a usual name, or the only one of its kind."""
    option = request.text(role)
    fitting = [field.name for field in schema if fits(field.type)]
    if option is not None:
        if option not in schema.names:
            got = repr(option) + nearest(option, schema.names)
            reject(f"option {role}", f"a column ({quote_words(schema.names)})", described(got))
        if option not in fitting:
            kind = "images (struct<bytes, path> or bytes)" if role == "image" else "whole numbers"
            reject(f"option {role}", f"a column of {kind}", described(f"{option!r} of {schema.field(option).type}"))
        return option
    column = next((name for name in usual if name in fitting), None) or (fitting[0] if len(fitting) == 1 else None)
    if column is None:
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        reject("parquet", f"one column that is plainly the {role} (or option {role}= naming it)", described(columns))
    return column


def _holds_images(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type)
    return _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _holds_labels(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind))


def _encoded(files: Sequence[Any], column: str) -> Iterator[tuple[str, bytes]]:
    """The encoded image of every row, a thousand rows in memory at a time."""
    row = 0
    for file in files:
        for batch in _batches(file, column):
            values = batch.column(0)
            if batch.schema.field(0).type.num_fields:
                values = values.field("bytes")
            for data in values.to_pylist():
                if data is None:
                    reject(f"parquet row {row}", f"image bytes in {column!r}", described("none (a path alone?)"))
                yield f"row {row}", data
                row += 1


def _batches(file: Any, column: str) -> Iterator[Any]:
    try:
        yield from file.iter_batches(batch_size=1024, columns=[column])
    except (OSError, ValueError) as error:  # what pyarrow's errors derive from
        reject("parquet", f"a sound column {column!r}", described(f"{type(error).__name__}: {error}"))


def _labels(files: Sequence[Any], column: str) -> Tensor:
    parts = [batch.column(0) for file in files for batch in _batches(file, column)]
    missing = sum(part.null_count for part in parts)
    if missing:
        reject(f"column {column!r}", "a label in every row", described(f"{missing} without"))
    return labels(np.concatenate([part.to_numpy(zero_copy_only=False) for part in parts]), f"column {column!r}")


def _masks(files: Sequence[Any], column: str, x: Tensor, size: tuple[int, int] | None) -> Tensor:
    out = np.empty((len(x), 1, *x.shape[2:]), np.bool_)
    for row, (name, data) in zip(out, _encoded(files, column), strict=True):
        mask = decode_mask(data, name, size=size)
        if mask.shape != row.shape[1:]:
            expected = f"the size of its image, {x.shape[2]}×{x.shape[3]}"
            reject(f"mask {name}", expected, described("×".join(map(str, mask.shape))))
        row[0] = mask
    return torch.from_numpy(out)


def _named(schema: Any, label: str) -> tuple[str, ...] | None:
    """Class names from the hub's metadata, or from a plain ``class_names``, where they are there and well formed."""
    stored = schema.metadata or {}
    if b"class_names" in stored and b"huggingface" not in stored:
        return tuple(name.strip() for name in stored[b"class_names"].decode("utf-8", "replace").split(","))
    try:
        feature = json.loads(stored[b"huggingface"])["info"]["features"][label]
        names = feature["names"]
    except (KeyError, TypeError, ValueError):
        return None
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None
