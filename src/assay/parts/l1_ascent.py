"""The step rule for l1: from many coordinates down to one."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from assay.core.geometry import Geometry
from assay.core.tree import expand_rows
from assay.core.types import Images, PerRow
from assay.parts.counts import scaled_count
from assay.parts.step_rules import Move
from assay.util.validate import number, whole


@dataclass(frozen=True)
class SparseAscent:
    """Sign steps on the coordinates of largest gradient, fewer at each update.

    The share of the coordinates falls geometrically from ``share`` to a single one; the last quarter of the updates
    are the geometry's own steepest steps (for an l1 ball: the best transfer between coordinates), which end at the
    optimum of a linear model. Many coordinates at first matter because one pixel of a network saturates at once.

    Args:
        geometry: the set, of l1 balls.
        rate: step size in budgets, above 0.
        steps: updates a row will get.
        share: share of the coordinates at the first update, in (0, 1].

    Source: the sign step on a top share of the coordinates is that of Tramèr & Boneh, "Adversarial training and
    robustness for multiple perturbations", NeurIPS 2019 (SLIDE), where the share is fixed; that it should fall is
    Croce & Hein, ICML 2021 (l1-APGD), who adapt it to the support found.
    """

    geometry: Geometry
    rate: float
    steps: int
    share: float = 0.3

    def __post_init__(self) -> None:
        number("step_size", self.rate, least=0, above=True)
        whole("steps", self.steps)
        number("share", self.share, least=0, above=True, most=1)

    @property
    def scaled(self) -> bool:
        """Its direction alone matters."""
        return False

    def vary(
        self, *, effort: float = 1, step_size: float = 1, geometry: Geometry | None = None
    ) -> "SparseAscent | None":
        """The rule with another number of steps, step size or set."""
        rate, steps = step_size * self.rate, scaled_count(self.steps, effort)
        return replace(self, rate=rate, steps=steps, geometry=geometry or self.geometry)

    def init(self, parameters: Tensor) -> tuple[()]:
        """No state."""
        return ()

    def update(self, move: Move, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        """One projected step."""
        exact = self.geometry.steepest(move.grad, move.parameters, move.rows, self.rate)
        done = move.step.to(move.grad) / max(self.steps, 1)
        share = self.share * (1 / max(self.share * move.grad[0].numel(), 1)) ** done if len(done) else done
        signs = sparse_direction(move.grad, share)
        length = exact.abs().flatten(1).sum(1)
        sparse = signs * expand_rows(length, signs)
        step = torch.where(expand_rows(done >= 0.75, exact), exact, sparse)
        return move.project(move.parameters + step), ()


def sparse_direction(grad: Images, share: PerRow) -> Images:
    """Equal signs, of l1 length 1, on the given share of the coordinates, those of largest gradient.

    Args:
        grad: ``(b, c, h, w)``.
        share: of the coordinates, ``(b,)``; at least one is taken, a fraction of one is dropped.
    """
    size = grad.abs().flatten(1)
    count = size.shape[1]
    place = (count - (share * count).long().clamp(1, count))[:, None]
    threshold = size.sort(dim=1).values.gather(1, place)
    signs = torch.where(size >= threshold, grad.sign().flatten(1), 0.0)
    return (signs / signs.abs().sum(1, keepdim=True).clamp_min(1e-10)).view_as(grad)
