"""JPEG compression with a gradient, for attacks through it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.core.types import Images
from assay.util.validate import number, whole

_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8 for _ in range(4)),
)
"""Quantisation tables of ITU-T T.81, annex K."""
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


@dataclass(frozen=True)
class DifferentiableJpeg:
    """What a JPEG coder does to images, with roundings that have a slope.

    Luminance and chrominance at half the resolution are cut into blocks of 8 × 8, transformed (DCT), divided by the
    tables of the quality, rounded, and brought back.

    Args:
        quality: 1 to 95.
        exact: round coefficients and levels as a coder does; such a rounding has no slope.

    Example:
        >>> x = torch.rand(1, 3, 16, 16, requires_grad=True)
        >>> DifferentiableJpeg(60)(x).sum().backward()
        >>> bool(x.grad.abs().sum() > 0)
        True

    Source: Shin & Song, "JPEG-resistant adversarial images", NeurIPS workshop on machine learning and computer security
    2017, section 3 (the rounding ``⌊x⌉ + (x − ⌊x⌉)³``); ITU-T T.81 and JFIF 1.02 for the rest.
    """

    quality: int = 75
    exact: bool = False

    def __post_init__(self) -> None:
        whole("quality", self.quality, least=1)
        number("quality", self.quality, most=95)

    def __call__(self, x: Images) -> Images:
        """Images of the same shape; grey for one channel, RGB for three, else each channel as grey."""
        levels = self._whole(255 * x.clamp(0, 1))
        if x.shape[1] != 3:
            return self._coded(levels, _LUMINANCE).clamp(0, 255) / 255
        height, width = x.shape[2:]
        ycc = self._whole(torch.einsum("ij,bjhw->bihw", torch.tensor(_TO_YCC).to(levels), levels))
        half = self._whole(F.avg_pool2d(F.pad(ycc[:, 1:], (0, width % 2, 0, height % 2), mode="replicate"), 2))
        colour = self._coded(half + 128, _CHROMINANCE) - 128
        size = (2 * half.shape[2], 2 * half.shape[3])
        wide = F.interpolate(colour, size=size, mode="bilinear", align_corners=False)[..., :height, :width]
        both = torch.cat([self._coded(ycc[:, :1], _LUMINANCE), wide], 1)
        return torch.einsum("ij,bjhw->bihw", torch.tensor(_TO_RGB).to(levels), both).clamp(0, 255) / 255

    def _coded(self, plane: Tensor, base: tuple[tuple[int, ...], ...]) -> Tensor:
        """Planes of levels after quantisation, ``(b, c, h, w)``."""
        height, width = plane.shape[2:]
        padded = F.pad(plane - 128, (0, -width % 8, 0, -height % 8), mode="replicate")
        blocks = padded.unfold(2, 8, 8).unfold(3, 8, 8)
        basis, table = _cosines().to(plane), self._table(base).to(plane)
        scaled = basis @ blocks @ basis.mT / table
        nearest = scaled.detach().round()
        rounded = nearest if self.exact else nearest + (scaled - nearest) ** 3
        back = basis.mT @ (rounded * table) @ basis
        joined = back.permute(0, 1, 2, 4, 3, 5).reshape(padded.shape)
        return self._whole((joined[..., :height, :width] + 128).clamp(0, 255))

    def _whole(self, levels: Tensor) -> Tensor:
        """Whole levels, where roundings are exact."""
        return levels.round() if self.exact else levels

    def _table(self, base: tuple[tuple[int, ...], ...]) -> Tensor:
        scale = 5000 // self.quality if self.quality < 50 else 200 - 2 * self.quality
        return ((torch.tensor(base) * scale + 50) // 100).clamp(1, 255)


def _cosines() -> Tensor:
    """The orthonormal DCT of eight values, ``(8, 8)``."""
    k = torch.arange(8, dtype=torch.float64)
    basis = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis
