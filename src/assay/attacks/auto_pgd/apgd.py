"""Auto-PGD."""

from assay.attacks.auto_pgd.l1 import SparseAutoPGD
from assay.attacks.auto_pgd.step_rule import Auto
from assay.core.combinators import Restarts, Targets
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.types import Eps
from assay.parts.balls import Ball, as_geometry
from assay.parts.first_order import FirstOrder
from assay.parts.losses import objective
from assay.parts.variants import with_variants
from assay.util.hints import with_hints
from assay.util.validate import whole


@with_hints
def APGD(
    eps: Eps | Geometry,
    *,
    norm: str = "linf",
    steps: int = 100,
    restarts: int = 1,
    loss: str | Objective = "ce",
    targets: int = 0,
) -> FirstOrder | SparseAutoPGD | Restarts | Targets:
    """PGD with momentum and a step size that adapts to each row; no step size to choose.

    ``APGD(eps, loss="dlr", targets=9)`` is AutoAttack's APGD-T.

    Args:
        eps: radius in input units, or a geometry.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        steps: gradient steps.
        restarts: number of random starts (for each target).
        loss: objective or its name.
        targets: push towards this many of the most likely wrong classes in turn; 0 for an untargeted objective.

    Returns:
        An attack of ``steps`` passes forward and backward a restart and target.

    Example:
        >>> APGD(8/255, loss="dlr", targets=9).describe()
        'APGD-DLR-100 linf 8/255 →9 targets'

    Source: Croce & Hein, ICML 2020, algorithm 1; for l1 see `assay.attacks.auto_pgd.l1.SparseAutoPGD`.
    """
    geometry = as_geometry(eps, norm)
    name = f"APGD-{loss.upper()}" if isinstance(loss, str) else "APGD"
    attack: FirstOrder | SparseAutoPGD
    if isinstance(geometry, Ball) and geometry.norm == "l1":
        attack = SparseAutoPGD(name, geometry, objective(loss), steps)
    else:
        rule = Auto(geometry, whole("steps", steps))
        attack = FirstOrder(name, geometry, objective(loss), rule, steps, "edge")
    return with_variants(attack, restarts, targets)
