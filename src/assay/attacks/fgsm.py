"""Fast gradient sign method, and its l2 and l1 forms."""

from dataclasses import dataclass

from torch import Tensor

from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.types import Eps
from assay.parts.balls import Ball, as_geometry
from assay.parts.first_order import FirstOrder
from assay.parts.losses import objective
from assay.parts.step_rules import Move
from assay.util.hints import with_hints

_LONG = 1e3
"""Length of the l2 step in budgets; its projection is the maximiser over ball and box to three digits or more."""


@dataclass(frozen=True)
class ToTheEdge:
    """The best step for a linear objective: to the edge of the set, and projected on it.

    Args:
        geometry: the set.
    """

    geometry: Geometry

    @property
    def scaled(self) -> bool:
        """Its direction alone matters."""
        return False

    def vary(self, *, effort: float = 1, step_size: float = 1, geometry: Geometry | None = None) -> "ToTheEdge | None":
        """The rule with another set; it has no step size."""
        return None if step_size != 1 else ToTheEdge(geometry or self.geometry)

    def init(self, parameters: Tensor) -> tuple[()]:
        """No state."""
        return ()

    def update(self, move: Move, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        """One projected step."""
        round_ = isinstance(self.geometry, Ball) and self.geometry.norm == "l2"
        towards = self.geometry.steepest(move.grad, move.parameters, move.rows, _LONG if round_ else 1.0)
        return move.project(move.parameters + towards), ()


@with_hints
def FGSM(eps: Eps | Geometry, *, norm: str = "linf", loss: str | Objective = "ce") -> FirstOrder:
    """The best perturbation for the linearised objective: one step to the edge of the set.

    ``x + eps·sign(g)`` for linf, ``x + eps·g/‖g‖₂`` for l2, the best pixels for l1, each within [0, 1]: where the box
    cuts an l2 step short, what is left of the budget goes to the other pixels (a long step is projected), so it is
    at least as strong as clipping.

    Targeted through the goal of the rows (``attack(..., target=)``).

    Args:
        eps: radius in input units, or a geometry.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        loss: objective or its name.

    Returns:
        An attack of one pass forward and one backward.

    Example:
        >>> FGSM(8/255).describe()
        'FGSM linf 8/255'

    Source: Goodfellow, Shlens & Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015, section 4.
    """
    geometry = as_geometry(eps, norm)
    return FirstOrder("FGSM", geometry, objective(loss), ToTheEdge(geometry), steps=1)


@with_hints
def FGM(eps: Eps | Geometry, *, norm: str = "l2", loss: str | Objective = "ce") -> FirstOrder:
    """`FGSM` with the l2 norm by default, under the name that is usual for it.

    Example:
        >>> FGM(0.5).describe()
        'FGSM l2 0.5'
    """
    return FGSM(eps, norm=norm, loss=loss)
