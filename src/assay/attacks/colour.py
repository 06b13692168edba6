"""sRGB and CIELUV, differentiable, each coordinate scaled to [0, 1].

Source: CIE 15:2004, D65 white point; IEC 61966-2-1 for sRGB.
"""

import torch
from torch import Tensor

from assay.core.types import Images

_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_WHITE_U, _WHITE_V = 0.19783982, 0.46833630
_LIGHT, _U, _V = (0.0, 100.0), (-84.0, 176.0), (-135.0, 108.0)
"""Range of each coordinate over all sRGB colours, rounded outwards."""


def rgb_to_luv(x: Images) -> Images:
    """From sRGB in [0, 1] to L, u, v, each scaled to [0, 1].

    Args:
        x: ``(b, 3, h, w)``.
    """
    linear = torch.where(x > 0.04045, ((x.clamp_min(1e-6) + 0.055) / 1.055) ** 2.4, x / 12.92)
    xyz = torch.einsum("ij,bjhw->bihw", _matrix(x), linear)
    sums = (xyz[:, 0] + 15 * xyz[:, 1] + 3 * xyz[:, 2]).clamp_min(1e-6)
    y = xyz[:, 1]
    light = torch.where(y > 0.008856, 116 * y.clamp_min(1e-6) ** (1 / 3) - 16, 903.3 * y)
    u, v = 4 * xyz[:, 0] / sums, 9 * y / sums
    return torch.stack(
        [_in(light, _LIGHT), _in(13 * light * (u - _WHITE_U), _U), _in(13 * light * (v - _WHITE_V), _V)], 1
    )


def luv_to_rgb(x: Images) -> Images:
    """The way back; colours outside sRGB leave [0, 1].

    Args:
        x: ``(b, 3, h, w)``.
    """
    light = _out(x[:, 0], _LIGHT)
    floor = light.clamp_min(1e-3)
    u = _out(x[:, 1], _U) / (13 * floor) + _WHITE_U
    v = (_out(x[:, 2], _V) / (13 * floor) + _WHITE_V).clamp_min(1e-3)
    y = torch.where(light > 8, ((floor + 16) / 116) ** 3, light / 903.3)
    first = y * 9 * u / (4 * v)
    third = y * (12 - 3 * u - 20 * v) / (4 * v)
    inverse = torch.linalg.inv(_matrix(x).double()).to(x)
    linear = torch.einsum("ij,bjhw->bihw", inverse, torch.stack([first, y, third], 1))
    bright = 1.055 * linear.clamp_min(1e-6) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, bright, 12.92 * linear)


def _matrix(like: Tensor) -> Tensor:
    return torch.tensor(_TO_XYZ, dtype=like.dtype, device=like.device)


def _in(value: Tensor, span: tuple[float, float]) -> Tensor:
    return (value - span[0]) / (span[1] - span[0])


def _out(value: Tensor, span: tuple[float, float]) -> Tensor:
    return span[0] + value * (span[1] - span[0])
