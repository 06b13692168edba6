"""Optimised slopes of lower relaxations (alpha-CROWN), by gradient ascent on the bound."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from assay.certify.network import Network, Rectifier


@dataclass(frozen=True)
class Search:
    """How slopes are searched for.

    Args:
        steps: of Adam.
        rate: its learning rate, times ``decay`` after each step.
        decay: of the rate.

    Source: Xu et al., "Fast and complete: enabling complete verification with rapid and massively parallel incomplete
    verifiers", ICLR 2021, section 3.2, with the rates of its public code (0.1, times 0.98).
    """

    steps: int = 20
    rate: float = 0.1
    decay: float = 0.98


@dataclass
class FreeSlopes:
    """Slopes that begin as the lines by default and are moved by gradients; one call a rectifier.

    Attributes:
        network: the network.
        values: slopes by the rectifier's place.
        factors: what arrived at each rectifier last.
    """

    network: Network
    values: dict[int, Tensor] = field(default_factory=dict)
    factors: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, place: int, factors: Tensor, low: Tensor) -> Tensor:
        """The slopes of a rectifier."""
        self.factors[place] = factors.detach()
        if place not in self.values:
            self.values[place] = low.detach().clone().requires_grad_()
        return self.values[place]

    def limit(self) -> None:
        """Bring the slopes back between those of the rectifiers and 1."""
        with torch.no_grad():
            for place, value in self.values.items():
                operation = self.network.nodes[place].operation
                own = operation.slope if isinstance(operation, Rectifier) else 0.0
                floor = float(own.max()) if isinstance(own, Tensor) else own
                value.clamp_(floor, 1)


def ascend(
    bound: Callable[[], Tensor], free: Callable[[], list[Tensor]], limit: Callable[[], None], search: Search
) -> Tensor:
    """The greatest lower bound met on the way up its gradient.

    Args:
        bound: lower bounds of the functions, ``(b, m)``, as they are now.
        free: what may be moved; asked for after the first bound.
        limit: brings it back to what is allowed.
        search: how.

    Returns:
        For each function the greatest, ``(b, m)``.
    """
    with torch.enable_grad():
        value = bound()
        best, moved = value.detach(), free()
        if not moved or not value.requires_grad:
            return best
        optimiser = torch.optim.Adam(moved, lr=search.rate)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, search.decay)
        for _ in range(search.steps):
            for tensor, slope in zip(moved, torch.autograd.grad(-value.sum(), moved, allow_unused=True), strict=True):
                tensor.grad = slope
            optimiser.step()
            schedule.step()
            limit()
            value = bound()
            best = torch.maximum(best, value.detach())
    return best
