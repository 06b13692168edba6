"""Local linear functions: coefficients on a window of a feature map instead of on all of it (patches)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.certify.network import Window

MOST = 0.5
"""The share of a map up to which a window pays."""


class Windows(NamedTuple):
    """Factors on windows of a map ``(c, h, w)``, a function each; what lies outside the map is 0.

    Attributes:
        values: ``(b, m, c, h', w')``.
        top, left: where each window begins, ``(b, m)``; may be negative.
    """

    values: Tensor
    top: Tensor
    left: Tensor


def single(chosen: Tensor, shape: tuple[int, ...], value: float, dtype: torch.dtype) -> Windows:
    """The function that is one entry of a map times a value; ``chosen`` are flat places, ``(b, m)``."""
    channels, height, width = shape
    values = torch.zeros(*chosen.shape, channels, dtype=dtype, device=chosen.device)
    values.scatter_(2, (chosen // (height * width))[..., None], value)
    return Windows(values[..., None, None], chosen % (height * width) // width, chosen % width)


def pays(windows: Windows, shape: tuple[int, ...]) -> bool:
    """Whether the windows are much smaller than a map of a shape."""
    height, width = windows.values.shape[-2:]
    return height * width <= MOST * shape[-2] * shape[-1]


def to_map(windows: Windows, shape: tuple[int, ...]) -> Tensor:
    """The factors on all of the map, ``(b, m, c, h, w)``."""
    values, size = windows.values.flatten(3), shape[-2] * shape[-1]
    place, within = _places(windows, shape)
    flat = torch.zeros(*values.shape[:3], size, dtype=values.dtype, device=values.device)
    flat.scatter_add_(3, place[:, :, None].expand_as(values), values * within[:, :, None])
    return flat.view(*values.shape[:3], *shape[-2:])


def cut(x: Tensor, windows: Windows) -> Tensor:
    """A map ``(b, c, h, w)`` in each function's window, ``(b, m, c, h', w')``; at the edge what is next to it."""
    values = windows.values
    place, _ = _places(windows, tuple(x.shape[1:]))
    flat = x.flatten(2)[:, None].expand(-1, values.shape[1], -1, -1)
    return flat.gather(3, place[:, :, None].expand(-1, -1, x.shape[1], -1)).view(
        *values.shape[:2], *x.shape[1:2], *values.shape[-2:]
    )


def back_through(windows: Windows, window: Window, weight: Tensor, shape: tuple[int, ...]) -> Windows:
    """Factors of a convolution's result as those of its input, a map of a shape."""
    (sh, sw), (ph, pw), values = window.stride, window.padding, windows.values
    moved = F.conv_transpose2d(
        values.flatten(0, 1), weight, stride=window.stride, groups=window.groups, dilation=window.dilation
    )
    result = Windows(moved.view(*values.shape[:2], *moved.shape[1:]), windows.top * sh - ph, windows.left * sw - pw)
    return inside(result, shape)


def inside(windows: Windows, shape: tuple[int, ...]) -> Windows:
    """The same without factors outside a map."""
    _, within = _places(windows, shape)
    values = windows.values
    return windows._replace(values=values * within.view(*values.shape[:2], 1, *values.shape[-2:]))


def together(first: Windows, second: Windows) -> Windows:
    """The sum of two, whose windows are shifted against each other by the same for all functions."""
    down, right = _shift(second.top - first.top), _shift(second.left - first.left)
    top, left = torch.minimum(first.top, second.top), torch.minimum(first.left, second.left)
    (h1, w1), (h2, w2) = first.values.shape[-2:], second.values.shape[-2:]
    height = max(h1 + max(-down, 0), h2 + max(down, 0))
    width = max(w1 + max(-right, 0), w2 + max(right, 0))
    parts = [
        F.pad(own.values, (x, width - x - own.values.shape[-1], y, height - y - own.values.shape[-2]))
        for own, y, x in ((first, max(-down, 0), max(-right, 0)), (second, max(down, 0), max(right, 0)))
    ]
    return Windows(parts[0] + parts[1], top, left)


def _shift(difference: Tensor) -> int:
    return int(difference.flatten()[0]) if difference.numel() else 0


def _places(windows: Windows, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The flat place of each entry of the windows in a map, and whether it is in it; ``(b, m, h'·w')`` each."""
    height, width = windows.values.shape[-2:]
    device = windows.top.device
    rows = windows.top[..., None] + torch.arange(height, device=device)
    columns = windows.left[..., None] + torch.arange(width, device=device)
    good = ((rows >= 0) & (rows < shape[-2]))[..., None] & ((columns >= 0) & (columns < shape[-1]))[..., None, :]
    place = rows.clamp(0, shape[-2] - 1)[..., None] * shape[-1] + columns.clamp(0, shape[-1] - 1)[..., None, :]
    return place.flatten(2), good.flatten(2)
