"""Labelled images, with a foreground mask each where one is known."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from assay.data.arrays import check_range
from assay.data.batches import random_indices
from assay.util.validate import described, number, reject, whole

Index = Tensor | slice | None


def pixels(x: Tensor) -> Tensor:
    """Images as a classifier takes them: of uint8 ones a copy in [0, 1], others as they are."""
    return x.to(torch.float32) / 255 if x.dtype == torch.uint8 else x


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images, labels, class names, and foreground masks where there are any. Checked when it is made, kept on the CPU.

    Attributes:
        x: images ``(n, c, h, w)``; uint8 (kept as such, a quarter of the memory) or float32 in [0, 1] (pixels
            outside by rounding, up to 1e-5, are clipped).
        y: labels ``(n,)``, int64, each the position of its class in ``classes``.
        classes: the class names, in label order.
        masks: foreground ``(n, 1, h, w)``, bool, or None.
        name: what a report calls it.
        source: the spec that it was loaded from.

    Raises:
        TypeError: a field has the wrong type or dtype.
        ValueError: shapes disagree, a label has no class, or float pixels are not finite and in [0, 1].

    Example:
        >>> data = Dataset(torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]), ("cat", "dog"))
        >>> len(data), data.images(slice(0, 2)).shape
        (4, torch.Size([2, 1, 8, 8]))
    """

    x: Tensor
    y: Tensor
    classes: tuple[str, ...]
    masks: Tensor | None = None
    name: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        _check_images(self.x)
        if self.x.dtype == torch.float32 and self.x.numel() and (self.x.min() < 0 or self.x.max() > 1):
            object.__setattr__(self, "x", self.x.clamp(0, 1))  # what rounding has put outside
        _check_labels(self.y, len(self.x), self.classes)
        if self.masks is not None:
            _check_masks(self.masks, self.x)
        for name in ("x", "y", "masks"):
            tensor = getattr(self, name)
            if tensor is not None and tensor.device.type != "cpu":
                object.__setattr__(self, name, tensor.cpu())

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        n, c, h, w = self.x.shape
        masks = "with masks" if self.masks is not None else "no masks"
        kind = str(self.x.dtype).removeprefix("torch.")
        return f"Dataset({self.name!r}: {n} images {c}×{h}×{w} {kind}, {len(self.classes)} classes, {masks})"

    def images(self, index: Index = None) -> Float[Tensor, "m c h w"]:
        """The images as a classifier takes them.

        Args:
            index: positions, a boolean choice ``(n,)``, a slice, or None for all.

        Returns:
            Float32 ``(m, c, h, w)`` in [0, 1]; a copy, free to be changed.

        Raises:
            TypeError: ``index`` is of another kind.
            ValueError: a position outside the set.
        """
        chosen = self.x if index is None else self.x[self._index(index)]
        return pixels(chosen) if chosen.dtype == torch.uint8 else chosen.clone()

    def take(self, index: Tensor | slice) -> "Dataset":
        """Some of the samples, in the order of ``index``.

        Args:
            index: positions ``(m,)``, a boolean choice ``(n,)``, or a slice.

        Returns:
            A set with the same classes, name and source.

        Raises:
            TypeError: ``index`` is of another kind.
            ValueError: a position outside the set.

        Example:
            >>> data = Dataset(torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 1]), ("cat", "dog"))
            >>> data.take(torch.tensor([2, 0])).y.tolist()
            [1, 0]
        """
        chosen = self._index(index)
        masks = None if self.masks is None else self.masks[chosen]
        return replace(self, x=self.x[chosen], y=self.y[chosen], masks=masks)

    def head(self, limit: int | None, seed: int = 0) -> "Dataset":
        """A subset with the classes as even as they can be, chosen by ``seed`` alone, in the set's own order.

        Subsets are nested: with one seed, ``head(10)`` is part of ``head(20)``.

        Args:
            limit: how many samples, at least 1; None, or as many as there are, gives the whole set.
            seed: which subset.

        Returns:
            The subset, ``min(limit, n)`` samples.

        Raises:
            TypeError: ``limit`` or ``seed`` is not a whole number.
            ValueError: ``limit`` is below 1 or ``seed`` below 0.

        Example:
            >>> data = Dataset(torch.zeros(6, 1, 8, 8), torch.tensor([0, 0, 0, 0, 1, 1]), ("cat", "dog"))
            >>> data.head(4).y.tolist()
            [0, 0, 1, 1]
        """
        whole("seed", seed)
        if limit is None or whole("limit", limit, least=1) >= len(self):
            return self
        keys = _keys(len(self), seed, "head")
        chosen = np.lexsort((keys, _ranks(self._labels(), keys)))[:limit]
        return self.take(torch.from_numpy(np.sort(chosen)))

    def batches(self, size: int = 128, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of images in [0, 1] and labels, drawn uniformly at random, for ever.

        Args:
            size: images a batch.
            seed: of the draws.
        """
        for at in random_indices(len(self), size, seed):
            yield self.images(at), self.y[at]

    def split(self, fraction: float, seed: int = 0) -> tuple["Dataset", "Dataset"]:
        """Two disjoint parts, each with the classes in the proportions of the whole.

        The first part has ``round(fraction · n)`` samples; the classes share them by largest remainder.

        Args:
            fraction: share of the first part, in (0, 1).
            seed: which samples go where.

        Returns:
            The two parts, each in the set's own order; together they are the set.

        Raises:
            TypeError: ``fraction`` or ``seed`` is not a number.
            ValueError: ``fraction`` is not inside (0, 1) or ``seed`` is below 0.

        Example:
            >>> data = Dataset(torch.zeros(10, 1, 8, 8), torch.tensor([0] * 5 + [1] * 5), ("cat", "dog"))
            >>> [len(part) for part in data.split(0.8)]
            [8, 2]
        """
        if number("fraction", fraction, least=0.0, most=1.0, above=True) == 1:
            reject("fraction", "a number inside (0, 1)", fraction)
        y, keys = self._labels(), _keys(len(self), whole("seed", seed), "split")
        counts = np.bincount(y, minlength=len(self.classes))
        exact = fraction * counts
        quota = np.floor(exact + 1e-9).astype(np.int64)
        missing = max(round(fraction * len(y)) - int(quota.sum()), 0)
        tie = _keys(len(counts), seed, "remainder")
        quota[np.lexsort((tie, quota - exact))[:missing]] += 1
        first = torch.from_numpy(_ranks(y, keys) < quota[y])
        return self.take(first), self.take(~first)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of pixels, labels, class names and masks, with their dtypes and shapes; not of the name."""
        hasher = hashlib.sha256(json.dumps(list(self.classes)).encode())
        for part in (self.x, self.y, self.masks):
            if part is None:
                hasher.update(b"none;")
                continue
            array = np.ascontiguousarray(part.detach().cpu().numpy())
            hasher.update(f"{array.dtype.str} {array.shape};".encode())
            hasher.update(array.reshape(-1).view(np.uint8).data)
        return hasher.hexdigest()

    def _labels(self) -> NDArray[np.int64]:
        result: NDArray[np.int64] = self.y.cpu().numpy()
        return result

    def _index(self, index: Any) -> Tensor | slice:
        if isinstance(index, slice):
            return index
        n = len(self)
        if not isinstance(index, Tensor) or index.ndim != 1 or index.is_floating_point() or index.is_complex():
            reject("index", "a slice, or a 1-D tensor of positions or of booleans", _shown(index), error=TypeError)
        if index.dtype == torch.bool:
            if len(index) != n:
                reject("index", f"{n} booleans, one a sample", described(f"{len(index)}"))
            return index.to(self.x.device)
        if len(index) and (int(index.min()) < -n or int(index.max()) >= n):
            reject("index", f"positions within the {n} samples", described(f"{int(index.min())} … {int(index.max())}"))
        return index.to(self.x.device, torch.int64)


def resized(data: Dataset, side: int) -> Dataset:
    """The images at another size.

    Args:
        data: images with or without masks.
        side: height and width in pixels.

    Returns:
        Uint8 images ``(n, c, side, side)``, bilinear, averaged where they become smaller; masks by their nearest pixel.

    Example:
        >>> resized(Dataset(torch.zeros(1, 1, 4, 4), torch.tensor([0]), ("a",)), 8).x.shape
        torch.Size([1, 1, 8, 8])
    """
    whole("side", side, least=1)
    x = torch.empty(len(data), data.x.shape[1], side, side, dtype=torch.uint8)
    for at in torch.arange(len(data)).split(512):
        images = functional.interpolate(
            data.images(at), size=(side, side), mode="bilinear", antialias=True, align_corners=False
        )
        x[at] = (images * 255).round().clamp(0, 255).to(torch.uint8)
    masks = None
    if data.masks is not None:
        masks = functional.interpolate(data.masks.float(), size=(side, side), mode="nearest") > 0.5
    return replace(data, x=x, masks=masks)


def _check_images(x: Any) -> None:
    if not isinstance(x, Tensor) or x.dtype not in (torch.uint8, torch.float32):
        reject("x", "a uint8 or float32 tensor of shape (n, c, h, w)", _shown(x), error=TypeError)
    if x.ndim != 4 or 0 in x.shape[1:]:
        reject("x", "images of shape (n, c, h, w)", _shown(x))
    if x.shape[3] in (1, 3) and min(x.shape[1:3]) > 4:
        reject("x", "images of shape (n, c, h, w); for (n, h, w, c): x.permute(0, 3, 1, 2)", _shown(x))
    if x.dtype == torch.float32:
        check_range(x, "x")


def _check_labels(y: Any, n: int, classes: Any) -> None:
    if not isinstance(classes, tuple) or not all(isinstance(name, str) for name in classes):
        reject("classes", "a tuple of class names", classes, error=TypeError)
    if not classes:
        reject("classes", "at least one class name", classes)
    if not isinstance(y, Tensor) or y.dtype != torch.int64:
        reject("y", "an int64 tensor of shape (n,)", _shown(y), error=TypeError)
    if y.shape != (n,):
        reject("y", f"one label for each of the {n} images, shape ({n},)", _shown(y))
    if n and (int(y.min()) < 0 or int(y.max()) >= len(classes)):
        expected = f"labels from 0 to {len(classes) - 1} ({len(classes)} classes)"
        reject("y", expected, described(f"labels from {int(y.min())} to {int(y.max())}"))


def _check_masks(masks: Any, x: Tensor) -> None:
    shape = (len(x), 1, *x.shape[2:])
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool:
        reject("masks", f"a bool tensor of shape {shape}, or None", _shown(masks), error=TypeError)
    if masks.shape != shape:
        reject("masks", f"one mask an image, shape {shape}", _shown(masks))


def _shown(value: object) -> object:
    if not isinstance(value, Tensor):
        return value
    return described(f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}")


def _keys(n: int, seed: int, purpose: str) -> NDArray[np.uint64]:
    """A 64-bit hash of each position: an order that depends on no library's random stream (SplitMix64)."""
    start = int.from_bytes(hashlib.sha256(f"{purpose} {seed}".encode()).digest()[:8], "little")
    z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.full(n, start, np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    return z ^ (z >> np.uint64(31))


def _ranks(y: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The place of each sample among those of its class, by ``keys``."""
    grouped = np.lexsort((keys, y))
    counts = np.bincount(y)
    rank = np.empty(len(y), np.int64)
    rank[grouped] = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank
