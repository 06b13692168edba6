"""``npz:path``: NumPy archives, read without pickle and only after their headers were checked.

Format: NumPy's NEP 1 (``.npy`` headers) inside a zip archive.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from assay.data.arrays import LAYOUTS, class_names, foreground, labels, pixels
from assay.data.capacity import check_memory
from assay.data.dataset import Dataset
from assay.data.spec import MissingData, Request, one_set, quote_words, refuse_part
from assay.util.validate import described, nearest, reject

OPTIONS = ("x", "y", "mask", "classes", "layout", "holdout", "seed", "max_gib")

_SPLIT_KEYS = (("x_{split}", "y_{split}"), ("{split}_images", "{split}_labels"), ("{split}_x", "{split}_y"))
_SPLIT_MASKS = ("mask_{split}", "masks_{split}", "{split}_mask", "{split}_masks")
_PLAIN_X = ("x", "images", "image", "data")
_PLAIN_Y = ("y", "labels", "label", "targets")
_PLAIN_MASKS = ("mask", "masks")
_CLASSES = ("classes", "class_names")


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        count = 1
        for extent in self.shape:
            count *= extent
        return count * self.dtype.itemsize


class _Keys(NamedTuple):
    x: str
    y: str
    mask: str | None
    labels: tuple[str, ...]
    """The labels of every split, where the file is divided."""

    @property
    def divided(self) -> bool:
        return bool(self.labels)


def load(request: Request) -> Dataset:
    """Load images from a NumPy archive.

    The arrays are ``x_train``, ``y_train``, ``x_test``, ``y_test`` (or ``train_images``, ``train_labels``, …) with
    ``mask_train`` … where there are masks; or one set ``x``, ``y``, ``mask``, which is divided 80/20. Options:
    ``x``, ``y``, ``mask`` name the arrays (``{split}`` is filled in); ``classes`` names the classes (``a,b,c``);
    ``layout`` the order of the axes; ``holdout`` and ``seed`` the division; ``max_gib`` the size allowed.

    Args:
        request: path, options and split.

    Returns:
        The images of the split.

    Raises:
        ValueError: the file is not such an archive, holds pickles, is too large, or lacks an array.
    """
    path = request.place()
    headers = _headers(path)
    keys = _select_arrays(request, headers, path)
    needed = {key for key in (keys.x, keys.y, keys.mask) if key is not None}
    if "{split}" not in request.path and not keys.divided:
        refuse_part(request)
    _check_size(path, {key: headers[key] for key in needed}, request.limit_bytes())
    arrays = {key: _read(path, key) for key in sorted(needed)}
    y = labels(arrays[keys.y], f"array {keys.y!r}")
    data = Dataset(
        x=pixels(arrays[keys.x], f"array {keys.x!r}", request.choice("layout", "auto", LAYOUTS)),
        y=y,
        classes=_classes(request, headers, path, y, keys),
        masks=None if keys.mask is None else foreground(arrays[keys.mask], f"array {keys.mask!r}"),
        name=request.title(),
    )
    return data if keys.divided else one_set(data, request)


def _headers(path: Path) -> dict[str, _Header]:
    """The shape and dtype of every array, without reading one."""
    if not path.is_file():
        reject("npz path", "a file", str(path), error=MissingData)
    headers: dict[str, _Header] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(".npy"):
                    with archive.open(member) as stream:
                        headers[member.removesuffix(".npy")] = _header(stream)
    except Exception as error:
        expected = "a sound archive written by numpy.savez"
        reject(f"npz {path}", expected, described(f"{type(error).__name__}: {error}"))
    return headers


def _header(stream: Any) -> _Header:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return _Header(tuple(int(extent) for extent in shape), dtype)


def _select_arrays(request: Request, headers: Mapping[str, _Header], path: Path) -> _Keys:
    """Which arrays to read."""
    usual_x, usual_y = _pair(headers)
    x, y = request.text("x", usual_x), request.text("y", usual_y)
    divided = "{split}" in f"{x} {y}"
    if divided and request.split == "all":
        reject("split", "'train', 'val' or 'test' for an archive that is divided", request.split)
    for role, key in (("x", x), ("y", y)):
        wanted = _fill_split(key, request.split) or f"{role}_{{split}} or {role}"
        if wanted not in headers:
            got = described(f"{quote_words(headers)}{nearest(wanted, headers)}")
            reject(f"npz {path}", f"an array {wanted!r} (or option {role}= naming it)", got)
    mask = _fill_split(request.text("mask"), request.split)
    if mask is not None and mask not in headers:
        reject(f"npz {path}", f"an array {mask!r} for the masks", described(quote_words(headers)))
    if mask is None:
        usual = (_fill_split(key, request.split) for key in (_SPLIT_MASKS if divided else _PLAIN_MASKS))
        mask = next((key for key in usual if key in headers), None)
    every = dict.fromkeys(_fill_split(y, split) or "" for split in ("train", "val", "test")) if divided else ()
    there = tuple(key for key in every if key in headers)
    return _Keys(str(_fill_split(x, request.split)), str(_fill_split(y, request.split)), mask, there)


def _fill_split(key: str | None, split: str) -> str | None:
    return None if key is None else key.replace("{split}", split)


def _pair(headers: Mapping[str, _Header]) -> tuple[str | None, str | None]:
    """The arrays of images and labels by their usual names; with ``{split}`` where the file is divided."""
    for x, y in _SPLIT_KEYS:
        if any(_fill_split(x, split) in headers for split in ("train", "test")):
            return x, y
    return next((key for key in _PLAIN_X if key in headers), None), next((k for k in _PLAIN_Y if k in headers), None)


def _check_size(path: Path, headers: Mapping[str, _Header], limit: float) -> None:
    for key, header in headers.items():
        if header.dtype.hasobject:
            expected = "plain numbers; pickled objects are never loaded"
            reject(f"npz {path}", expected, described(f"dtype object in the array {key!r}"))
    total = sum(header.bytes for header in headers.values())
    if total > limit:
        expected = f"arrays of at most {limit / 2**30:g} GiB uncompressed (option max_gib)"
        reject(f"npz {path}", expected, described(f"{total / 2**30:.1f} GiB"))
    check_memory(f"npz {path}", 1, 2 * total)


def _read(path: Path, key: str) -> NDArray[Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            array: NDArray[Any] = archive[key]
    except Exception as error:
        reject(f"npz {path}", f"a sound array {key!r}", described(f"{type(error).__name__}: {error}"))
    return array


def _classes(request: Request, headers: Mapping[str, _Header], path: Path, y: Tensor, keys: _Keys) -> tuple[str, ...]:
    names = request.names("classes")
    stored = next((key for key in _CLASSES if key in headers and headers[key].dtype.kind == "U"), None)
    if names is None and stored is not None:
        _check_size(path, {stored: headers[stored]}, 2.0**24)
        names = tuple(str(name) for name in _read(path, stored).reshape(-1))
    if names is not None:
        return names
    others = [key for key in keys.labels if key != keys.y]
    _check_size(path, {key: headers[key] for key in others}, request.limit_bytes())
    return class_names(None, y, *(labels(_read(path, key), f"array {key!r}") for key in others))
