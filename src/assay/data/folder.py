"""``folder:path``: one folder of images per class."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from assay.data.dataset import Dataset
from assay.data.decode import MODES, SUFFIXES, decode_images, decode_mask
from assay.data.spec import MissingData, Request, one_set, quote_words, refuse_part
from assay.data.text import read_lines, read_text
from assay.util.validate import described, reject

OPTIONS = ("size", "mode", "empty", "holdout", "seed", "max_gib")

_SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test", "val", "validation")}
_SPLIT_NAMES = ("train", "val", "valid", "validation", "test")
_NOT_CLASSES = ("masks",)
_IGNORED = ("thumbs.db", "desktop.ini")


class _Class(NamedTuple):
    folder: str
    name: str


class _File(NamedTuple):
    path: Path
    label: int


def load(request: Request) -> Dataset:
    """Load a folder of images, ``<root>/<class>/<file>`` or ``<root>/<split>/<class>/<file>``.

    Label order is that of ``classes.txt`` (one folder name a line) or ``classes.json`` (a list of folder names, or an
    object of folder to label or of folder to name) in the root, else that of the sorted folder names. With
    ``train/`` and ``test/`` (or ``val/``, which then serves as the test set) the splits are those, else the set is
    divided 80/20. Masks are ``<root>/masks/<class>/<stem>.png`` or ``<root>_masks/<class>/<stem>.png``, where the
    root is that of the split. Options: ``size`` resizes (bilinear, aspect not kept; ``96`` or ``96x128``), ``mode``
    (``rgb``, ``l``) sets the channels, ``empty`` lists classes that may have no image, ``holdout`` and ``seed`` divide,
    ``max_gib`` is the size allowed.

    Args:
        request: path, options and split.

    Returns:
        The images of the split, uint8, ordered by class and file name.

    Raises:
        ValueError: the class map is not clear, a class has no images, an image is damaged or of another size,
            a mask is missing, or a path leaves the root.
    """
    top = request.place()
    if not top.is_dir():
        reject("folder path", "a folder", str(top), error=MissingData)
    root, divided = _split_root(top, request)
    if not divided:
        refuse_part(request)
    classes = _class_map(top, root, divided)
    files = _files(root, classes, request.names("empty") or ())
    size = request.size()
    x = decode_images(
        ((str(f.path.relative_to(root)), f.path) for f in files),
        len(files),
        mode=request.choice("mode", "auto", MODES),
        size=size,
        limit=request.limit_bytes(),
    )
    y = torch.tensor([f.label for f in files], dtype=torch.int64)
    masks = _masks(root, files, x, size)
    data = Dataset(x, y, tuple(c.name for c in classes), masks, name=top.name)
    return data if divided else one_set(data, request)


def _split_root(top: Path, request: Request) -> tuple[Path, bool]:
    """The folder that holds the classes, and whether it is that of a split."""
    names = {p.name for p in top.iterdir() if p.is_dir()}
    if "train" not in names or not names & {"test", "val", "valid", "validation"}:
        return top, False
    if request.split == "all":
        reject("split", "'train', 'val' or 'test' for a folder that is divided", request.split)
    for name in _SPLIT_FOLDERS[request.split]:
        if name in names:
            return _inside(top / name, top), True
    return reject(f"folder {top}", f"a folder for the split {request.split!r}", described(quote_words(sorted(names))))


def _class_map(top: Path, root: Path, divided: bool) -> tuple[_Class, ...]:
    for place in dict.fromkeys((root, top)):
        for name, read in (("classes.txt", _from_text), ("classes.json", _from_json)):
            if (place / name).is_file():
                classes = read(place / name)
                _check_map(place / name, classes)
                return classes
    roots = [p for p in _folders(top) if p.name in _SPLIT_NAMES] if divided else [root]
    names = sorted({p.name for r in roots for p in _folders(r) if p.name not in _NOT_CLASSES})
    numeric = [name for name in names if name.isdigit()]
    if not names:
        reject(f"folder {root}", "one folder a class", described("no folders"))
    if len(numeric) == len(names) or len(numeric) > 1:
        expected = (
            "a classes.txt (one folder name a line, in label order) where folders are named by numbers: "
            "sorted as text they go 0, 1, 10, 2, and label 2 would mean folder '10'"
        )
        reject(f"folder {root}", expected, described(f"folders {quote_words(names)}"))
    return tuple(_Class(name, name) for name in names)


def _from_text(path: Path) -> tuple[_Class, ...]:
    return tuple(_Class(line, line) for line in read_lines(path))


def _from_json(path: Path) -> tuple[_Class, ...]:
    text = read_text(path)
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        reject(f"class map {path}", "JSON", described(str(error)))
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return tuple(_Class(name, name) for name in content)
    if isinstance(content, dict) and all(isinstance(name, str) for name in content.values()):
        return tuple(_Class(folder, name) for folder, name in content.items())
    if isinstance(content, dict) and sorted(map(repr, content.values())) == sorted(map(repr, range(len(content)))):
        return tuple(_Class(folder, folder) for folder in sorted(content, key=lambda folder: int(content[folder])))
    expected = "a list of folders, or an object of folder to name, or of folder to label (0, 1, 2 …, each once)"
    return reject(f"class map {path}", expected, content)


def _check_map(path: Path, classes: Sequence[_Class]) -> None:
    folders = [c.folder for c in classes]
    if not folders:
        reject(f"class map {path}", "at least one class", described("none"))
    duplicates = sorted({f for f in folders if folders.count(f) > 1})
    if duplicates:
        reject(f"class map {path}", "each folder once", described(f"{quote_words(duplicates)} more than once"))
    odd = [f for f in folders if Path(f).name != f or f in (".", "..") or "\\" in f]
    if odd:
        reject(f"class map {path}", "plain folder names", described(quote_words(odd)))


def _files(root: Path, classes: Sequence[_Class], may_be_empty: Sequence[str]) -> list[_File]:
    known = {c.folder for c in classes}
    stray = sorted(p.name for p in _folders(root) if p.name not in known and p.name not in _NOT_CLASSES)
    if stray:
        reject(f"folder {root}", "only folders of the class map", described(f"also {quote_words(stray)}"))
    files: list[_File] = []
    for label, (folder, name) in enumerate(classes):
        place = root / folder
        paths = _images(_inside(place, root), root) if place.is_dir() else []
        if not paths and folder not in may_be_empty and name not in may_be_empty:
            state = "an empty folder" if place.is_dir() else "no such folder"
            reject(f"class {folder!r}", f"images in {str(place)!r} (or ?empty={folder})", described(state))
        files += [_File(path, label) for path in paths]
    return files


def _images(place: Path, root: Path) -> list[Path]:
    paths = [p for p in sorted(place.iterdir()) if not p.name.startswith(".") and p.name.lower() not in _IGNORED]
    for path in paths:
        if path.is_dir() or path.suffix.lower() not in SUFFIXES:
            expected = f"only image files ({', '.join(SUFFIXES)}) in a class folder"
            reject(f"folder {place}", expected, path.name)
    return [_inside(path, root) for path in paths]


def _masks(root: Path, files: Sequence[_File], x: Tensor, size: tuple[int, int] | None) -> Tensor | None:
    beside = root.with_name(root.name + "_masks")
    places = [place for place in (root / "masks", beside) if place.is_dir()]
    if not places:
        return None
    shape = (x.shape[2], x.shape[3])
    out = np.empty((len(files), 1, *shape), np.bool_)
    for row, file in zip(out, files, strict=True):
        path = places[0] / file.path.parent.name / f"{file.path.stem}.png"
        if not path.is_file():
            reject("masks", f"a mask {str(path)!r} for {file.path.name!r}", described("no such file"))
        mask = decode_mask(_inside(path, places[0]), str(path.relative_to(places[0])), size=size)
        if mask.shape != shape:
            expected = f"the size of its image, {shape[0]}×{shape[1]}"
            reject(f"mask {path.relative_to(places[0])}", expected, described("×".join(map(str, mask.shape))))
        row[0] = mask
    return torch.from_numpy(out)


def _folders(root: Path) -> list[Path]:
    return [p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith(".")]


def _inside(path: Path, root: Path) -> Path:
    """The path, if it does not lead out of the root (by a symbolic link)."""
    if not path.resolve().is_relative_to(root.resolve()):
        reject(f"folder {root}", "files inside it", described(f"{path.name!r}, which leads to {str(path.resolve())!r}"))
    return path
