"""``torchvision:CIFAR10:root``: the data sets of torchvision, from files that are already there."""

import inspect
from collections.abc import Iterator
from numbers import Integral
from typing import Any

import torch

from assay.data.arrays import class_names
from assay.data.dataset import Dataset
from assay.data.decode import MODES, decode_images
from assay.data.spec import Request
from assay.util.validate import described, nearest, reject

OPTIONS = ("size", "mode", "classes", "max_gib")

_VAL_LAST = {"train": ("train",), "val": ("val", "valid"), "test": ("test", "val")}


def load(request: Request) -> Dataset:
    """Load one of torchvision's classification sets; nothing is downloaded.

    Args:
        request: path ``<class name>:<root>``, options (as for folders) and split.

    Returns:
        The images of the split, uint8.

    Raises:
        ImportError: torchvision is missing or broken.
        ValueError: no such set, its files are not there, or a sample is not an image with a whole number.
    """
    name, _, root = request.path.partition(":")
    if not name or not root:
        reject("spec torchvision", "torchvision:<set>:<root>, as torchvision:CIFAR10:data", request.path)
    try:
        from torchvision import datasets
    except Exception as error:
        expected = 'a working torchvision (pip install "assay[vision]"; its build must match that of torch)'
        reject("torchvision", expected, described(f"{type(error).__name__}: {error}"), error=ImportError)
    known = [n for n, kind in vars(datasets).items() if inspect.isclass(kind) and n[0].isupper()]
    if name not in known:
        got = described(repr(name) + nearest(name, known))
        reject("spec torchvision", "the name of a set in torchvision.datasets", got)
    dataset = _open_dataset(getattr(datasets, name), name, root, request.split)
    labels: list[int] = []
    limit = request.limit_bytes()
    mode = request.choice("mode", "auto", MODES)
    x = decode_images(_items(dataset, name, labels), len(dataset), mode=mode, size=request.size(), limit=limit)
    y = torch.tensor(labels, dtype=torch.int64)
    names = request.names("classes") or _classes(dataset)
    return Dataset(x, y, class_names(names, y), name=name)


def _open_dataset(kind: Any, name: str, root: str, split: str) -> Any:
    """The set, by whichever of the two ways it is told its split."""
    taken = inspect.signature(kind).parameters
    if "train" in taken and split in ("train", "test"):
        ways: list[dict[str, Any]] = [{"train": split == "train"}]
    elif "split" in taken and split in _VAL_LAST:
        ways = [{"split": word} for word in _VAL_LAST[split]]
    else:
        reject("split", f"a split that torchvision's {name} has", split)
    failed: Exception | None = None
    for way in ways:
        try:
            return kind(root, **way)
        except Exception as error:
            failed = failed or error
    return reject(f"torchvision {name}", f"its files in {root!r}", described(f"{type(failed).__name__}: {failed}"))


def _items(dataset: Any, name: str, labels: list[int]) -> Iterator[tuple[str, Any]]:
    """The images, one by one; the labels are put into ``labels`` on the way."""
    for index in range(len(dataset)):
        image, label = dataset[index]
        if isinstance(label, bool) or not isinstance(label, Integral):
            reject(f"torchvision {name}", "one whole number as the label of a sample", label)
        labels.append(int(label))
        yield f"{name} {index}", image


def _classes(dataset: Any) -> tuple[str, ...] | None:
    classes = getattr(dataset, "classes", None)
    if not isinstance(classes, list | tuple) or not classes:
        return None
    return tuple(name if isinstance(name, str) else ", ".join(map(str, name)) for name in classes)
