"""Numbers that tell how a residual is built: its size, where it is, how coarse, how sparse."""

import itertools

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.core.types import Images

COUNT = 26
"""Statistics of a residual, and one more for each channel."""
_LEVELS = (1, 2, 4, 8, 16)
_SHARES = (0.01, 0.03, 0.1, 0.3)
_BANDS = (0.0, 0.05, 0.15, 0.3, 1.0)
"""Edges, in cycles a pixel."""
_SIDES = (2, 4, 8, 16)
"""Of square windows, in pixels; one that an image has no room for is as large as there is."""


def residual_statistics(residuals: Images, images: Images) -> Tensor:
    """Statistics of each residual, ``(n, 26 + c)``, without units but for the logarithms of norms in levels of 255.

    Norms; the share of values beyond 1, 2, 4, 8 and 16 levels; the share of the energy in the 1, 3, 10 and 30 % pixels
    that have most, and in the square window of each of four sizes that has most; kurtosis; the energy in four bands of
    frequency; correlations of neighbours and of channels; of the image the mean difference of neighbours and the share
    of values at an end of the range.

    Args:
        residuals: of images in [0, 1], ``(n, c, h, w)``.
        images: the images, likewise.
    """
    levels = 255 * residuals.float()
    parts = (_sizes, _places, _windows, _bands, _neighbours)
    columns = [column for part in parts for column in part(levels)] + _of_images(255 * images)
    return torch.stack(columns, 1).nan_to_num()  # images of one column have no neighbours


def _sizes(levels: Tensor) -> list[Tensor]:
    flat = levels.flatten(1)
    size = flat.abs()
    l1, l2 = size.sum(1) + 1e-6, flat.norm(dim=1) + 1e-6
    centred = flat - flat.mean(1, keepdim=True)
    kurtosis = centred.pow(4).mean(1) / (centred.square().mean(1) + 1e-9).square()
    beyond = [(size > level).float().mean(1) for level in _LEVELS]
    return [l2.log(), l1.log(), size.amax(1).log1p(), l1 / (l2 * flat.shape[1] ** 0.5), kurtosis.log1p(), *beyond]


def _places(levels: Tensor) -> list[Tensor]:
    energy = levels.square().sum(1).flatten(1).sort(1, descending=True).values
    shares = energy.cumsum(1) / (energy.sum(1, keepdim=True) + 1e-9)
    return [shares[:, max(int(share * energy.shape[1]) - 1, 0)] for share in _SHARES]


def _windows(levels: Tensor) -> list[Tensor]:
    energy = levels.square().sum(1, keepdim=True)
    total = energy.flatten(1).sum(1) + 1e-6
    sides = [min(side, *levels.shape[2:]) for side in _SIDES]
    return [F.avg_pool2d(energy, side, 1).flatten(1).amax(1) * side**2 / total for side in sides]


def _bands(levels: Tensor) -> list[Tensor]:
    width = levels.shape[3] // 2 + 1
    spectrum = torch.fft.rfft2(levels) if len(levels) else levels[..., :width]  # MKL refuses empty batches
    power = spectrum.abs().square().sum(1)
    down = torch.fft.fftfreq(levels.shape[2], device=levels.device)[:, None]
    radius = (down.square() + torch.fft.rfftfreq(levels.shape[3], device=levels.device).square()).sqrt()
    total = power.flatten(1).sum(1) + 1e-9
    edges = itertools.pairwise(_BANDS)
    return [(power * ((radius >= low) & (radius < high))).flatten(1).sum(1) / total for low, high in edges]


def _neighbours(levels: Tensor) -> list[Tensor]:
    energy = levels.square().flatten(1).sum(1) + 1e-6
    pairs = ((levels[..., 1:], levels[..., :-1]), (levels[..., 1:, :], levels[..., :-1, :]))
    along = [(a * b).flatten(1).sum(1) / energy for a, b in pairs]
    equal = ((levels[..., 1:] - levels[..., :-1]).abs() < 0.5).float().flatten(1).mean(1)
    unit = F.normalize(levels.flatten(2), dim=2)
    channels = [(unit[:, i] * unit[:, i - 1]).sum(1) for i in range(1, levels.shape[1])]
    return [*along, equal, *channels]


def _of_images(levels: Tensor) -> list[Tensor]:
    rough = (levels[..., 1:] - levels[..., :-1]).abs().flatten(1).mean(1).log1p()
    at_end = ((levels < 0.5) | (levels > 254.5)).float().flatten(1).mean(1)
    return [rough, at_end]
