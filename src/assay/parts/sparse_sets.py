"""Sparse perturbations: at most so many values, or pixels, changed, each as far as the box allows."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from assay.core.geometry import Scale
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.types import Images, PerRow
from assay.util.validate import one_of, whole

UNITS = ("values", "pixels")


@dataclass(frozen=True)
class Support:
    """All perturbations that change at most ``count`` values (l0), or ``count`` pixels in any channel.

    Args:
        count: how many, at least 0.
        unit: ``"values"`` (each channel of a pixel counts for itself) or ``"pixels"``.

    Example:
        >>> from assay.core.rows import Rows, untargeted
        >>> zero = torch.zeros(1, dtype=torch.long)
        >>> rows = Rows(torch.full((1, 1, 1, 3), 0.5), untargeted(zero), zero)
        >>> Support(1).project(torch.tensor([[[[0.1, -0.3, 0.2]]]]), rows).flatten().tolist()
        [0.0, -0.3..., 0.0]

    Source: Croce & Hein, "Sparse and imperceivable adversarial attacks", ICCV 2019, section 2.2 (the projection on l0
    ball and box, which `PGD` with this set uses).
    """

    count: int
    unit: str = "values"

    def __post_init__(self) -> None:
        whole("count", self.count)
        one_of("unit", self.unit, UNITS)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond the image."""
        return ()

    @property
    def eps(self) -> float:
        """The budget as a number."""
        return float(self.count)

    def scaled(self, factor: float) -> "Support":
        """The set times a factor."""
        return replace(self, count=round(factor * self.count))

    def project(self, delta: Images, rows: Rows, scale: Scale = 1.0) -> Images:
        """Clip to the box, then keep the values (pixels) whose loss would move the point furthest; the nearest member.

        ``scale`` multiplies the count.
        """
        inside = (rows.x + delta).clamp(0, 1) - rows.x
        saved = delta.square() - (delta - inside).square()  # what keeping a value saves in squared distance
        return inside * self._largest(saved, self._counts(delta, scale))

    def steepest(self, grad: Images, delta: Images, rows: Rows, scale: Any = 1.0) -> Images:
        """The best values to change, each to the end of the box that the gradient points to."""
        aim = torch.where(grad > 0, 1 - rows.x, -rows.x)
        chosen = self._largest(grad * aim, self._counts(delta, scale if isinstance(scale, Tensor) else 1.0))
        return torch.where(chosen, aim - delta, -delta)

    def sample(self, rows: Rows, rng: Rng, purpose: str, *, edge: bool = False) -> Images:
        """Random values (pixels) changed to uniform ones, or to 0 or 1 with ``edge``."""
        shape = tuple(rows.x.shape[1:])
        fresh = rng.uniform(rows.key, shape, purpose).to(rows.x)
        fresh = (fresh > 0.5).to(rows.x) if edge else fresh
        order = rng.uniform(rows.key, self._places(rows.x), purpose + " places").to(rows.x)
        chosen = self._largest(order.expand_as(rows.x) + 1, self._counts(rows.x, 1.0))
        return (fresh - rows.x) * chosen

    def size(self, delta: Images, rows: Rows) -> PerRow:
        """Values (pixels) changed, as a share of ``count``."""
        changed = delta != 0
        used = (changed.any(1) if self.unit == "pixels" else changed).flatten(1).sum(1).to(delta.dtype)
        if self.count == 0:
            return torch.where(used > 0, torch.inf, 0.0).to(delta.dtype)
        return used / self.count

    def describe(self) -> str:
        """Unit and count."""
        return f"l0 {self.count}" if self.unit == "values" else f"{self.count} pixels"

    def _places(self, x: Images) -> tuple[int, ...]:
        return (1, *x.shape[2:]) if self.unit == "pixels" else tuple(x.shape[1:])

    def _counts(self, like: Images, scale: Scale) -> Tensor:
        share = torch.as_tensor(scale, dtype=like.dtype, device=like.device)
        return (self.count * share).floor().expand(len(like))

    def _largest(self, score: Images, counts: Tensor) -> Tensor:
        """Mask of the places with the greatest scores above 0."""
        if self.unit == "values":
            return keep_largest(score, counts)
        return keep_largest(score.clamp_min(0).sum(1, keepdim=True), counts).expand_as(score)


def keep_largest(score: Tensor, counts: Tensor) -> Tensor:
    """Mask of the ``counts[i]`` greatest scores above 0 in each row; ties go to the first.

    Args:
        score: ``(b, ...)``.
        counts: how many in each row, ``(b,)``.

    Example:
        >>> keep_largest(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([2])).tolist()
        [[True, False, True]]
    """
    flat = score.flatten(1)
    if not flat.shape[1]:
        return torch.zeros_like(score, dtype=torch.bool)
    order = flat.argsort(dim=1, descending=True, stable=True)
    rank = torch.arange(order.shape[1], device=order.device).expand_as(order)
    place = torch.empty_like(order).scatter_(1, order, rank)
    return ((place < counts[:, None]) & (flat > 0)).view_as(score)
