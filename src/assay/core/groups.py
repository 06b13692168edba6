"""Groups of values under a mask that slides over the image: the parts that group sparsity counts."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from assay.core.arguments import described, reject, whole
from assay.core.types import Images

Parts = Float[Tensor, "b v g"]
"""The values of each group, all channels together: ``v = channels·size²`` values, ``g`` groups."""


@dataclass(frozen=True)
class Groups:
    """Squares of ``size`` × ``size`` × all channels, ``stride`` apart.

    Args:
        size: side of the mask in pixels.
        stride: how far it moves; less than ``size`` for groups that overlap.

    Example:
        >>> Groups(2, 2).norms(torch.ones(1, 1, 4, 4)).flatten().tolist()
        [2.0, 2.0, 2.0, 2.0]

    Source: Xu et al., "Structured adversarial attack" (paper 002), section 2.
    """

    size: int
    stride: int

    def __post_init__(self) -> None:
        whole("size", self.size, least=1)
        whole("stride", self.stride, least=1)

    def cut(self, images: Images) -> Parts:
        """The parts of images."""
        if min(images.shape[2:]) < self.size:
            reject("group", f"at most the side of the images, {min(images.shape[2:])}", described(str(self.size)))
        return F.unfold(images, self.size, stride=self.stride)

    def paste(self, parts: Parts, like: Images) -> Images:
        """The sum of the parts, each at its place."""
        return F.fold(parts, like.shape[2:], self.size, stride=self.stride)

    def cover(self, like: Images) -> Float[Tensor, "1 1 h w"]:
        """How many groups each pixel is in."""
        one = torch.ones(1, 1, *like.shape[2:], dtype=like.dtype, device=like.device)
        return F.fold(F.unfold(one, self.size, stride=self.stride), like.shape[2:], self.size, stride=self.stride)

    def norms(self, images: Images) -> Float[Tensor, "b p q"]:
        """The l2 norm of each group, as a map: the strength of a perturbation, region by region."""
        down, across = ((side - self.size) // self.stride + 1 for side in images.shape[2:])
        lengths: Tensor = torch.linalg.vector_norm(self.cut(images), dim=1)
        return lengths.view(len(images), down, across)


def shrink(parts: Parts, threshold: float) -> Parts:
    """Each group moved towards 0 by ``threshold``, at most to 0: the proximal operator of the sum of group norms."""
    norms = torch.linalg.vector_norm(parts, dim=1, keepdim=True)
    shrunk: Tensor = parts * (1 - threshold / norms.clamp_min(1e-30)).clamp_min(0)
    return shrunk
