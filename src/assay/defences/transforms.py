"""Changes of images that were proposed as defences: JPEG, bit depth, blur, median, total variation."""

import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from assay.core.types import Images
from assay.defences.differentiable_jpeg import DifferentiableJpeg
from assay.util.validate import number, reject, whole

_MOST_BITS = 16
"""More levels than that are nearly those of a float32."""


@dataclass(frozen=True)
class Jpeg:
    """Compression by a real JPEG coder (Pillow's), image by image.

    Args:
        quality: 1 to 95.

    Source: Dziugaite, Ghahramani & Roy, 2016; Guo, Rana, Cissé & van der Maaten, "Countering adversarial images using
    input transformations", ICLR 2018, section 3.
    """

    quality: int = 75

    def __post_init__(self) -> None:
        whole("quality", self.quality, least=1)
        number("quality", self.quality, most=95)

    @property
    def stand_in(self) -> DifferentiableJpeg:
        """A differentiable coder of the same quality."""
        return DifferentiableJpeg(self.quality)

    def __call__(self, x: Images) -> Images:
        """Compress and read back; grey for one channel, RGB for three."""
        if x.shape[1] not in (1, 3):
            return torch.cat([self(part) for part in x.split(1, 1)], 1)
        eight = (x.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        read = [self._coded(image.squeeze(2) if x.shape[1] == 1 else image) for image in eight]
        back = torch.from_numpy(np.stack(read)) if read else torch.zeros(0, *x.shape[2:], x.shape[1], dtype=torch.uint8)
        return back.reshape(len(x), *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2).to(x) / 255

    def _coded(self, image: np.ndarray) -> np.ndarray:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=self.quality)
        return np.asarray(Image.open(stream))


@dataclass(frozen=True)
class BitDepth:
    """Values rounded to a few levels.

    Args:
        bits: so many bits a value.

    Source: Xu, Evans & Qi, "Feature squeezing: detecting adversarial examples in deep neural networks", NDSS 2018,
    section III-A.
    """

    bits: int = 3

    def __post_init__(self) -> None:
        if whole("bits", self.bits, least=1) > _MOST_BITS:
            reject("bits", f"a whole number from 1 to {_MOST_BITS}", self.bits)

    def __call__(self, x: Images) -> Images:
        """Round."""
        levels = 2**self.bits - 1
        rounded: Images = (x * levels).round() / levels
        return rounded


@dataclass(frozen=True)
class Blur:
    """A Gaussian filter.

    Args:
        sigma: in pixels; the filter reaches 3σ to each side.
    """

    sigma: float = 1.0
    through: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number("sigma", self.sigma, least=0, above=True)

    def __call__(self, x: Images) -> Images:
        """Filter rows, then columns; the border is repeated."""
        reach = max(round(3 * self.sigma), 1)
        place = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
        bell = (-0.5 * (place / self.sigma).square()).exp()
        kernel = (bell / bell.sum()).expand(x.shape[1], 1, 1, -1)
        wide = F.pad(x, (reach, reach, reach, reach), mode="replicate")
        along = F.conv2d(wide, kernel, groups=x.shape[1])
        return F.conv2d(along, kernel.transpose(2, 3), groups=x.shape[1])


@dataclass(frozen=True)
class Median:
    """A median filter.

    Args:
        size: side of the window in pixels; even windows reach further to the right and below.

    Source: Xu, Evans & Qi, NDSS 2018, section III-B (local smoothing, 2 × 2 or 3 × 3).
    """

    size: int = 2
    through: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole("size", self.size, least=1)

    def __call__(self, x: Images) -> Images:
        """The (lower) median of each window, reflected at the border."""
        before, after = (self.size - 1) // 2, self.size // 2
        wide = F.pad(x, (before, after, before, after), mode="reflect" if min(x.shape[2:]) > after else "replicate")
        windows = wide.unfold(2, self.size, 1).unfold(3, self.size, 1).flatten(4)
        return windows.median(4).values


@dataclass(frozen=True)
class TotalVariation:
    """The image with least ``‖z − x‖²/2 + weight·TV(z)``, by Chambolle's dual iteration.

    Args:
        weight: of the variation.
        steps: of the iteration.

    Source: Guo et al., ICLR 2018, section 3.3 for the defence; Chambolle, "An algorithm for total variation
    minimization and applications", 2004, for the iteration. Deviation: no pixels are dropped at random first.
    """

    weight: float = 0.1
    steps: int = 50
    through: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number("weight", self.weight, least=0, above=True)
        whole("steps", self.steps, least=1)

    def __call__(self, x: Images) -> Images:
        """Denoise each channel by itself."""
        dual = x.new_zeros(2, *x.shape)
        for _ in range(self.steps):
            slope = _gradient(_divergence(dual) - x / self.weight)
            dual = (dual + 0.25 * slope) / (1 + 0.25 * slope.norm(dim=0, keepdim=True))
        return x - self.weight * _divergence(dual)


def _gradient(x: Images) -> torch.Tensor:
    down = F.pad(x[:, :, 1:] - x[:, :, :-1], (0, 0, 0, 1))
    right = F.pad(x[:, :, :, 1:] - x[:, :, :, :-1], (0, 1))
    return torch.stack([down, right])


def _divergence(dual: torch.Tensor) -> Images:
    """Minus the adjoint of `_gradient`."""
    down, right = dual[0][:, :, :-1], dual[1][:, :, :, :-1]
    vertical = F.pad(down, (0, 0, 0, 1)) - F.pad(down, (0, 0, 1, 0))
    return vertical + F.pad(right, (0, 1)) - F.pad(right, (1, 0))
