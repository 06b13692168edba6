"""Linear relaxations of rectifiers and max pools: lower and upper lines."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.certify.interval import Interval
from assay.certify.network import MaxPool

Lower = Callable[[int, Tensor, Tensor], Tensor]
"""Slopes of the lines below rectifiers: of the place, the factors there and the slopes by default, of their shape."""


class Lines(NamedTuple):
    """``low · z ≤ f(z) ≤ high · z + over`` where z is between its bounds, ``(b, *shape)`` each."""

    low: Tensor
    high: Tensor
    over: Tensor


def lines_of(z: Interval, slope: float | Tensor) -> Lines:
    """Lines around ``max(z, slope · z)``.

    Above: through both ends. Below: of slope 1 where z reaches further above 0 than below, else of the rectifier's own.

    Source: Zhang et al., "Efficient neural network robustness certification with general activation functions", NeurIPS
    2018, table 1 (CROWN-Ada for ReLU); for other slopes by the same ends.
    """
    lower, upper = z.lower, z.upper
    slope = torch.as_tensor(slope, dtype=lower.dtype, device=lower.device).expand_as(lower)
    open_ = (lower < 0) & (upper > 0)
    width = torch.where(open_, upper - lower, torch.ones_like(lower))
    across = (upper - slope * lower) / width
    fixed = torch.where(lower >= 0, torch.ones_like(lower), slope)
    low = torch.where(open_, torch.where(upper > -lower, torch.ones_like(lower), slope), fixed)
    high = torch.where(open_, across, fixed)
    over = torch.where(open_, (slope - across) * lower, torch.zeros_like(lower))
    return Lines(low, high, over)


class Choice(NamedTuple):
    """What stands for a maximum: one of its window's entries below, the same or a number above.

    Attributes:
        place: of the entry in the flat map, ``(b, c, h', w')``.
        sure: whether it is the maximum whatever the values are.
        most: the greatest value of the maximum.
    """

    place: Tensor
    sure: Tensor
    most: Tensor


def choice_of(z: Interval, pool: MaxPool) -> Choice:
    """The entry of each window with the greatest lower bound, which is the maximum if no other reaches it.

    Source: Singh et al., "An abstract domain for certifying neural networks", POPL 2019, section 4.4.
    """
    lower, place = F.max_pool2d(
        z.lower, pool.kernel, pool.stride, pool.padding, pool.dilation, pool.ceil, return_indices=True
    )
    most = F.max_pool2d(z.upper, pool.kernel, pool.stride, pool.padding, pool.dilation, pool.ceil)
    return Choice(place, _greatest_but(z.upper, pool, place) <= lower, most)


def _greatest_but(upper: Tensor, pool: MaxPool, chosen: Tensor) -> Tensor:
    """The greatest upper bound in each window but for the chosen entry's."""
    count, high = upper[0, 0].numel(), chosen.shape[2:]
    places = torch.arange(count, device=upper.device, dtype=upper.dtype).view(1, 1, *upper.shape[2:])
    best = torch.full_like(chosen, -torch.inf, dtype=upper.dtype)
    for values, where in zip(_entries(upper, pool, high), _entries(places, pool, high), strict=True):
        best = torch.maximum(best, values.masked_fill(where == chosen, -torch.inf))
    return best


def _entries(x: Tensor, pool: MaxPool, shape: torch.Size) -> list[Tensor]:
    """Each entry of all windows, ``(…, h', w')``: k·k tensors; what lies outside is −∞."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = pool.kernel, pool.stride, pool.padding, pool.dilation
    below = max(0, (shape[0] - 1) * sh + (kh - 1) * dh + 1 - ph - x.shape[2])
    right = max(0, (shape[1] - 1) * sw + (kw - 1) * dw + 1 - pw - x.shape[3])
    wide = F.pad(x, (pw, right, ph, below), value=-torch.inf)
    return [
        wide[..., i * dh : i * dh + (shape[0] - 1) * sh + 1 : sh, j * dw : j * dw + (shape[1] - 1) * sw + 1 : sw]
        for i in range(kh)
        for j in range(kw)
    ]
