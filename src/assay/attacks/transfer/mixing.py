"""Images that are mixed into others, drawn for a row from those of other classes."""

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.types import Count, Images
from assay.data.registry import check, load
from assay.util.validate import reject, whole

MADE = "scenes:size=32,count=64"
"""Images that need no files."""


@dataclass(frozen=True)
class MixingImages:
    """The first ``count`` training images of a data set.

    Args:
        data: a spec as in `assay.data.load`; best the training images of the attacked data.
        count: at most so many, classes as even as they can be.

    Example:
        >>> MixingImages("patterns:size=8,classes=3,count=30", count=6).pool[0].shape
        torch.Size([6, 3, 8, 8])
    """

    data: str = MADE
    count: int = 256

    def __post_init__(self) -> None:
        if not isinstance(self.data, str):
            reject("data", "a data set by its spec, such as npz:train.npz or digits", self.data, error=TypeError)
        check(self.data)
        whole("count", self.count, least=2)

    @cached_property
    def pool(self) -> tuple[Images, Tensor]:
        """Images in [0, 1], and their labels."""
        data = load(self.data, split="train", limit=self.count)
        return data.images(), data.y

    @cached_property
    def digest(self) -> str:
        """SHA-256 of images and labels: what the attack is, whatever the file is called."""
        images, labels = self.pool
        return hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()

    def draw(self, x: Images, rows: Rows, rng: Rng, step: Count, purpose: str) -> Images:
        """For each row an image of another class, with the row's size and channels.

        Args:
            x: the images it is for, ``(b, c, h, w)``.
            rows: the rows.
            rng: of the draws.
            step: of each row.
            purpose: part of the draws' address.
        """
        images, labels = _fitted(self, tuple(x.shape[1:]), x.dtype, x.device)
        other = labels[None] != rows.goal.label[:, None]
        nth = (rng.uniform(rows.key, (1,), purpose, step).to(x.device)[:, 0] * other.sum(1)).floor()
        at = ((other.cumsum(1) - 1 == nth[:, None]) & other).int().argmax(1)
        return images[at]


@lru_cache(maxsize=4)
def _fitted(
    source: MixingImages, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Images, Tensor]:
    """Images and labels of a set, with a size and number of channels."""
    images, labels = source.pool
    if tuple(images.shape[2:]) != shape[1:]:
        images = functional.interpolate(images, shape[1:], mode="bilinear", antialias=True, align_corners=False)
    if images.shape[1] != shape[0]:
        images = images.mean(1, keepdim=True).expand(-1, shape[0], -1, -1)
    return images.to(device, dtype), labels.to(device)
