"""Groups of values under a mask that slides over the image: the parts that group sparsity counts."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from assay.core.types import Images
from assay.util.validate import described, reject, whole

Parts = Float[Tensor, "b v g"]
"""The values of each group, all channels together: ``v = channels·size²`` values, ``g`` groups."""


@dataclass(frozen=True)
class Groups:
    """Squares of ``size`` × ``size`` × all channels, ``stride`` apart, that cover the image.

    Where the mask does not end at the right or the lower border, one more group lies across that border and has only
    the pixels inside the image. So every pixel is in a group.

    Args:
        size: side of the mask in pixels.
        stride: how far it moves, at most ``size``; less for groups that overlap.

    Raises:
        TypeError, ValueError: a wrong argument, by name.

    Example:
        >>> Groups(2, 2).norms(torch.ones(1, 1, 4, 5)).tolist()
        [[[2.0, 2.0, 1.414...], [2.0, 2.0, 1.414...]]]

    Source: Xu et al., "Structured adversarial attack", ICLR 2019, section 2. Deviation: the groups across a border;
    without them 63 pixels of 32 × 32 would be in none of the paper's groups of 3 × 3 with stride 2, and its problem
    has groups that cover the image (section 4.1).
    """

    size: int
    stride: int

    def __post_init__(self) -> None:
        whole("size", self.size, least=1)
        if whole("stride", self.stride, least=1) > self.size:
            reject("stride", f"at most the side of a group, {self.size}, so that every pixel is in one", self.stride)

    def cut(self, images: Images) -> Parts:
        """The parts of images; zero where a group lies outside."""
        if min(images.shape[2:]) < self.size:
            reject("group", f"at most the side of the images, {min(images.shape[2:])}", described(str(self.size)))
        below, right = self._beyond(images)
        return F.unfold(F.pad(images, (0, right, 0, below)), self.size, stride=self.stride)

    def paste(self, parts: Parts, like: Images) -> Images:
        """The sum of the parts, each at its place."""
        height, width = like.shape[2:]
        below, right = self._beyond(like)
        return F.fold(parts, (height + below, width + right), self.size, stride=self.stride)[:, :, :height, :width]

    def cover(self, like: Images) -> Float[Tensor, "1 1 h w"]:
        """How many groups each pixel is in, at least 1."""
        one = torch.ones(1, 1, *like.shape[2:], dtype=like.dtype, device=like.device)
        return self.paste(self.cut(one), one)

    def norms(self, images: Images) -> Float[Tensor, "b p q"]:
        """The l2 norm of each group, as a map: the strength of a perturbation, region by region."""
        beyond = self._beyond(images)
        down, across = (
            (side + more - self.size) // self.stride + 1 for side, more in zip(images.shape[2:], beyond, strict=True)
        )
        lengths: Tensor = torch.linalg.vector_norm(self.cut(images), dim=1)
        return lengths.view(len(images), down, across)

    def _beyond(self, images: Images) -> tuple[int, int]:
        """By how many pixels the last groups reach over the lower and the right border."""
        below, right = (-(side - self.size) % self.stride for side in images.shape[2:])
        return below, right


def shrink(parts: Parts, threshold: float) -> Parts:
    """Each group moved towards 0 by ``threshold``, at most to 0: the proximal operator of the sum of group norms."""
    norms = torch.linalg.vector_norm(parts, dim=1, keepdim=True)
    shrunk: Tensor = parts * (1 - threshold / norms.clamp_min(1e-30)).clamp_min(0)
    return shrunk
