"""Fast gradient sign method, and its l2 and l1 forms."""

from assay.core.first_order import FirstOrder
from assay.core.geometry import Ball, Geometry, as_geometry
from assay.core.objectives import Objective, objective
from assay.core.steps import Ascent

_LONG = 1e3
"""Length of the l2 step in budgets; its projection is the maximiser over ball and box to three digits or more."""


def FGSM(eps: float | Geometry, *, norm: str = "linf", loss: str | Objective = "ce") -> FirstOrder:
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
    rate = _LONG if isinstance(geometry, Ball) and geometry.norm == "l2" else 1.0
    return FirstOrder("FGSM", geometry, objective(loss), Ascent(geometry, rate), steps=1)


def FGM(eps: float | Geometry, *, norm: str = "l2", loss: str | Objective = "ce") -> FirstOrder:
    """`FGSM` with the l2 norm by default, under the name that is usual for it.

    Example:
        >>> FGM(0.5).describe()
        'FGSM l2 0.5'
    """
    return FGSM(eps, norm=norm, loss=loss)
