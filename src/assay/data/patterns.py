"""``patterns``: made images of any size and number of classes, one pattern a class, for trying things out.

A study can be gone through on them before its data are there. They say nothing about robustness: ``scenes`` are made to
be attacked.
"""

from dataclasses import replace

import torch
from torch.nn import functional as F

from assay.data.capacity import check_memory
from assay.data.dataset import Dataset
from assay.data.spec import Request
from assay.util.validate import one_of, whole

OPTIONS = ("channels", "size", "classes", "count", "seed")
_NOISE = 24.0
"""Standard deviation of what is added to a pattern, in 256ths."""
_CELLS = 4
"""Cells of a pattern along each side."""


def load(request: Request) -> Dataset:
    """Make patterns: options ``channels`` (3), ``size`` (32), ``classes`` (10), ``count`` (1000 a split), ``seed``.

    Args:
        request: split and options.

    Returns:
        As `patterns`.

    Raises:
        ValueError: an option is out of range, or the split is ``"all"``.
    """
    return patterns(
        request.split,
        request.whole("count", 1000, least=1),
        channels=request.whole("channels", 3, least=1),
        size=request.whole("size", 32, least=4),
        classes=request.whole("classes", 10, least=2),
        seed=request.whole("seed", 0),
    )


def patterns(split: str, count: int, channels: int = 3, size: int = 32, classes: int = 10, seed: int = 0) -> Dataset:
    """Made images: the class's pattern of coloured squares, and noise.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``: the same patterns under other noise.
        count: how many images.
        channels: 1 for grey images, 3 for coloured ones.
        size: height and width in pixels, at least 4.
        classes: number of patterns, at least 2; each is as frequent as the others.
        seed: which patterns and which noise.

    Returns:
        Uint8 ``(count, channels, size, size)`` with masks: the square in the middle, a quarter of the image.

    Raises:
        ValueError: an argument is out of range, or the images do not fit into memory.

    Example:
        >>> data = patterns("test", 5, channels=1, size=8, classes=3)
        >>> data.x.shape, data.y.tolist(), data.masks.float().mean().item()
        (torch.Size([5, 1, 8, 8]), [0, 1, 2, 0, 1], 0.25)
    """
    part = one_of("split", split, ("train", "val", "test"))
    for name, value, least in (
        ("count", count, 1),
        ("channels", channels, 1),
        ("size", size, 4),
        ("classes", classes, 2),
    ):
        whole(name, value, least=least)
    check_memory("patterns", count, 8 * channels * size**2)
    drawn = torch.Generator().manual_seed(whole("seed", seed) % 2**62)
    cells = torch.rand(classes, channels, _CELLS, _CELLS, generator=drawn)
    noise = torch.Generator().manual_seed((seed * 3 + ("train", "val", "test").index(part)) % 2**62 + 1)
    y = torch.arange(count) % classes
    x = torch.empty(count, channels, size, size, dtype=torch.uint8)
    for at in torch.arange(count).split(256):
        plain = F.interpolate(cells[y[at]], size=(size, size), mode="nearest") * 255
        noisy = plain + _NOISE * torch.randn(plain.shape, generator=noise)
        x[at] = noisy.round().clamp(0, 255).to(torch.uint8)
    masks = torch.zeros(count, 1, size, size, dtype=torch.bool)
    edge = size // 4
    masks[:, :, edge : edge + size // 2, edge : edge + size // 2] = True
    names = tuple(f"pattern {i}" for i in range(classes))
    return replace(Dataset(x, y, names, masks), name="patterns")
