"""Pre-activation bounds by linear relaxation, and the margins of the logits."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from assay.certify.backward import least_of
from assay.certify.interval import Interval
from assay.certify.network import Input, Linear, MaxPool, Network
from assay.certify.region import Region
from assay.certify.slopes import FreeSlopes, Search, ascend
from assay.certify.windows import Windows, single

_NUMBERS = 2**26
"""Most numbers of one tensor of factors (512 MB in float64); more functions go back in several parts."""


@dataclass(frozen=True)
class Refined:
    """Tighten the bounds of pre-activations (inputs of rectifiers and max pools) by linear relaxation.

    Attributes:
        network: the network.
        region: of the images.
        search: of the slopes of each bound; None for those by default.
        numbers: most numbers of a tensor of factors.
        until: when to stop, on the monotonic clock: values that come later keep their intervals, which hold as well.
    """

    network: Network
    region: Region
    search: Search | None = None
    numbers: int = _NUMBERS
    until: float = math.inf

    def is_late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self.until

    def __call__(self, place: int, known: Sequence[Interval]) -> Interval | None:
        """The interval of a value by linear bounds; None where the value's own says as much or nothing hangs on it."""
        if self.is_late() or place not in self.network.preactivations or _is_tight(self.network, place, self.region):
            return None
        own = known[place]
        undecided = self._undecided(place, own).flatten(1)
        most = int(undecided.sum(1).max())
        if not most:
            return None
        order = undecided.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
        lower, upper = own.lower.flatten(1).clone(), own.upper.flatten(1).clone()
        for chosen in order.split(_together(self.network, len(order), self.numbers), 1):
            if self.is_late():
                break
            wanted = undecided.gather(1, chosen)  # others fill up the rows with fewer
            least, greatest = self._least(place, chosen, known, 1.0), -self._least(place, chosen, known, -1.0)
            lower = lower.scatter_reduce(1, chosen, torch.where(wanted, least, -torch.inf), "amax")
            upper = upper.scatter_reduce(1, chosen, torch.where(wanted, greatest, torch.inf), "amin")
        upper = torch.maximum(upper, lower)
        return Interval(lower.view_as(own.lower), upper.view_as(own.upper), own.rounding)

    def _undecided(self, place: int, own: Interval) -> Tensor:
        children = [node for node in self.network.nodes if node.is_nonlinear and place in node.parents]
        if any(isinstance(node.operation, MaxPool) for node in children):
            return torch.ones_like(own.lower, dtype=torch.bool)
        return (own.lower < 0) & (own.upper > 0)

    def _least(self, place: int, chosen: Tensor, known: Sequence[Interval], sign: float) -> Tensor:
        node, dtype = self.network.nodes[place], self.network.dtype
        if len(node.shape) == 3:
            start: Tensor | Windows = single(chosen, node.shape, sign, dtype)
        else:
            factors = torch.zeros(*chosen.shape, node.size, dtype=dtype, device=chosen.device)
            start = factors.scatter_(2, chosen[..., None], sign).view(*chosen.shape, *node.shape)
        if self.search is None:
            return least_of(self.network, place, start, known, self.region)
        free = FreeSlopes(self.network)
        return ascend(
            lambda: least_of(self.network, place, start, known, self.region, slopes=free),
            lambda: list(free.values.values()),
            free.limit,
            self.search,
        )


def _together(network: Network, rows: int, numbers: int) -> int:
    """How many functions a row go back together."""
    return max(1, numbers // max(1, rows * network.widest))


def in_parts(network: Network, functions: Tensor, bound: Callable[[Tensor], Tensor], *, kept: int = 1) -> Tensor:
    """Bounds of the logits' functions, ``(b, m)``, as many at once as memory is meant to hold.

    Args:
        network: the network.
        functions: of its last value, ``(b, m, k)``.
        bound: of some of them, ``(b, part)``.
        kept: how many values' factors stay in memory.
    """
    together = _together(network, len(functions) * kept, _NUMBERS)
    return torch.cat([bound(part) for part in functions.split(together, 1)], 1)


def _is_tight(network: Network, place: int, region: Region) -> bool:
    """Whether a value's interval is exact: of a box, at most one map that mixes pixels, and no rectifier before it."""
    mixes = 0
    while not isinstance(network.nodes[place].operation, Input):
        operation = network.nodes[place].operation
        if not isinstance(operation, Linear):
            return False
        mixes += not operation.diagonal
        place = network.nodes[place].parents[0]
    return mixes <= 1 and all(part.norm != "l1" for part in region.parts)


def margins(network: Network, y: Tensor) -> Tensor:
    """The functions ``z_y − z_j`` of the logits for each class j but y, ``(b, k − 1, k)``."""
    y = y.to(network.device)
    eye = torch.eye(network.classes, dtype=network.dtype, device=network.device)
    ranks = torch.arange(network.classes - 1, device=network.device)
    others = ranks + (ranks >= y[:, None])
    return eye[y][:, None] - eye[others]
