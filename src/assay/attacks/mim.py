"""Momentum iterative method."""

from assay.attacks.pgd import falling_rate, is_round, step_rate
from assay.core.combinators import Restarts
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.types import Eps
from assay.parts.balls import as_geometry
from assay.parts.first_order import FirstOrder
from assay.parts.losses import objective
from assay.parts.step_rules import Momentum
from assay.parts.variants import repeated
from assay.util.hints import with_hints
from assay.util.validate import whole


@with_hints
def MIM(
    eps: Eps | Geometry,
    *,
    norm: str = "linf",
    steps: int = 10,
    step_size: Eps | None = None,
    decay: float = 1.0,
    restarts: int = 1,
    random_start: bool = False,
    loss: str | Objective = "ce",
) -> FirstOrder | Restarts:
    """Iterated steps along the running sum of normalised gradients (MI-FGSM).

    Args:
        eps: radius in input units, or a geometry.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        steps: gradient steps.
        step_size: in input units, the same in every step; by default ``eps/steps`` as in the paper, and for l2 one that
            falls to 0 as in `PGD`.
        decay: factor on the old sum (μ).
        restarts: number of tries; more than one needs ``random_start``.
        random_start: start at a random point (the paper starts at the clean image).
        loss: objective or its name.

    Example:
        >>> MIM(8/255).describe()
        'MIM-10 linf 8/255'

    Source: Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018, algorithm 1. Deviation:
    the falling step size for l2. Where the box stops pixels, l2 steps of ``eps/steps`` end inside the ball.
    """
    geometry = as_geometry(eps, norm)
    falls = step_size is None and is_round(geometry)
    rate = falling_rate(steps) if falls else step_rate(geometry, step_size, 1 / max(steps, 1))
    rule = Momentum(geometry, rate, decay, steps if falls else None)
    whole("restarts", restarts, least=1)
    start = "inside" if random_start or restarts > 1 else "clean"
    attack = FirstOrder("MIM", geometry, objective(loss), rule, steps, start)
    return repeated(attack, restarts)
