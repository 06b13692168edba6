"""The images of a study: loaded, or something of the same shape in their place while they are not there."""

import torch

from assay.data.dataset import Dataset, resized
from assay.data.registry import load as load_data
from assay.data.spec import MissingData
from assay.study.schema import Data
from assay.util.validate import described, reject


def load_images(source: Data, split: str, *, limit: int | None, seed: int | None = None, name: str = "") -> Dataset:
    """Images of a data set of a study, held against what the study expects of them.

    Args:
        source: the data set.
        split: ``"train"`` or ``"test"``.
        limit: at most so many.
        seed: which of them; by default the study's.
        name: of the data set, for the message.

    Raises:
        MissingData: they are not there.
        ValueError: images of another shape, or other classes, than the study expects.
    """
    data = load_data(source.load, split=split, limit=limit, seed=source.seed if seed is None else seed)
    if source.expects is not None:
        expected = source.expects
        wanted, got = (expected.channels, expected.size, expected.size), tuple(data.x.shape[1:])
        if (wanted, expected.classes) != (got, len(data.classes)):
            reject(
                f"data.{name}.load" if name else "data",
                f"images of {_shape(wanted)} in {expected.classes} classes, as `expects` says",
                described(f"{_shape(got)} in {len(data.classes)} classes ({source.load})"),
            )
    return data if source.resize is None else resized(data, source.resize)


def is_there(source: Data) -> bool:
    """Whether the images of a data set can be loaded."""
    try:
        load_data(source.load, split="test", limit=1)
    except MissingData:
        return False
    return True


def stand_in(source: Data, split: str, *, limit: int | None) -> Dataset:
    """Black images of the expected shape and number, with masks, which take no memory: for counting alone.

    Raises:
        ValueError: the study does not say what it expects.
    """
    if source.expects is None:
        reject("data", "`expects`, or images that are there", source.load)
    expected = source.expects
    size = source.resize or expected.size
    there = expected.train if split == "train" else expected.test
    count = min(there, limit or there)
    shape = (count, expected.channels, size, size)
    x = torch.zeros(1, dtype=torch.uint8).expand(shape)
    masks = torch.zeros(1, dtype=torch.bool).expand(count, 1, size, size)
    return Dataset(x, torch.arange(count) % expected.classes, tuple(map(str, range(expected.classes))), masks)


def made_instead(source: Data, size: int) -> Data:
    """The data set with made images in its place, of the expected channels and classes, at most so large.

    Raises:
        ValueError: the study does not say what it expects.
    """
    if source.expects is None:
        reject("data", "`expects`, or images that are there", source.load)
    expected = source.expects
    smaller = min(size, source.resize or expected.size)
    load = f"patterns:channels={expected.channels},size={smaller},classes={expected.classes},count=256"
    return source.model_copy(
        update={"load": load, "expects": None, "resize": None, "foreground": _made_foreground(source.foreground)}
    )


def _made_foreground(foreground: str) -> str:
    """Masks from files are of other images."""
    return "data" if foreground.startswith("folder:") else foreground


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
