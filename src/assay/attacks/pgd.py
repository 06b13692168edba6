"""Projected gradient descent, and its form without a random start (BIM, IFGM)."""

from assay.core.combinators import Restarts
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.types import Eps
from assay.parts.balls import Ball, Split, as_geometry
from assay.parts.first_order import FirstOrder
from assay.parts.l1_ascent import SparseAscent
from assay.parts.losses import objective
from assay.parts.step_rules import Ascent
from assay.parts.variants import repeated
from assay.util.hints import with_hints
from assay.util.validate import radius, reject

_L1_RATE = 0.25
_PATH = 10.0
"""Length of all steps together, in budgets, where their size falls."""


@with_hints
def PGD(
    eps: Eps | Geometry,
    *,
    norm: str = "linf",
    steps: int = 40,
    step_size: Eps | None = None,
    restarts: int = 1,
    loss: str | Objective = "ce",
    random_start: bool = True,
) -> FirstOrder | Restarts:
    """Steepest ascent projected on the set, from a random point of it.

    Projections are exact on the intersection of ball and box. For l1 the steps are those of `SparseAscent` (a single
    pixel, as in plain steepest ascent, saturates and stops making progress).

    Args:
        eps: radius in input units, or a geometry.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        steps: gradient steps, at least 0.
        step_size: in input units, the same in every step. By default ``2.5·eps/steps``, at most ``eps``, for linf;
            ``eps/4`` for l1; for l2 a size that falls to 0 along half a cosine, ten ``eps`` in all.
        restarts: number of random starts.
        loss: objective or its name.
        random_start: start at a random point (else at the clean image).

    Returns:
        An attack of ``steps`` passes forward and backward a restart.

    Example:
        >>> PGD(8/255, steps=10, step_size=2/255).describe()
        'PGD-10 linf 8/255'

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, section 2.1; the
    default step size from its section on l2 (2.5·eps/steps). Deviation: the falling step size for l2. There a constant
    one of 2.5·eps/steps leaves the iterate up to 4 % short of the optimum of a linear model, because steps of 2.5·eps
    in all do not turn a random start into the direction of the gradient; steps that end small reach it to 0.1 % from
    ten steps on (1 % in a handful of values, where the box stops those with most of the gradient), and leave fewer
    images of trained networks unbroken.
    """
    name = "PGD" if random_start else "BIM"
    start = "inside" if random_start else "clean"
    return iterated(name, eps, norm, steps, step_size, restarts, loss, start=start, rate=default_rate(steps))


@with_hints
def BIM(
    eps: Eps | Geometry,
    *,
    norm: str = "linf",
    steps: int = 10,
    step_size: Eps | None = None,
    loss: str | Objective = "ce",
) -> FirstOrder | Restarts:
    """Basic iterative method (also IFGM): `PGD` from the clean image.

    Args:
        eps: radius in input units, or a geometry.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        steps: gradient steps.
        step_size: in input units, the same in every step; by default ``eps/steps`` for linf (the edge is reached in the
            last step), ``eps/4`` for l1, and as in `PGD` for l2.
        loss: objective or its name.

    Example:
        >>> BIM(8/255).describe()
        'BIM-10 linf 8/255'

    Source: Kurakin, Goodfellow & Bengio, "Adversarial examples in the physical world", 2017, section 2.2.
    """
    return iterated("BIM", eps, norm, steps, step_size, 1, loss, start="clean", rate=1 / max(steps, 1))


def iterated(
    name: str,
    eps: Eps | Geometry,
    norm: str,
    steps: int,
    step_size: Eps | None,
    restarts: int,
    loss: str | Objective,
    *,
    start: str,
    rate: float,
) -> FirstOrder | Restarts:
    """The composition behind `PGD` and `BIM`; see there. ``rate`` is the default step size in budgets (for linf)."""
    geometry = as_geometry(eps, norm)
    sparse = isinstance(geometry, Ball) and geometry.norm == "l1"
    if sparse:
        rule: SparseAscent | Ascent = SparseAscent(geometry, step_rate(geometry, step_size, _L1_RATE), steps)
    elif step_size is None and is_round(geometry):
        rule = Ascent(geometry, falling_rate(steps), steps)
    else:
        rule = Ascent(geometry, step_rate(geometry, step_size, rate))
    attack = FirstOrder(name, geometry, objective(loss), rule, steps, start)
    return repeated(attack, restarts)


def default_rate(steps: int) -> float:
    """Step size in budgets: 2.5 divided by the number of steps, at most 1."""
    return min(1.0, 2.5 / steps) if steps > 0 else 1.0


def is_round(geometry: Geometry) -> bool:
    """Whether the surface of a set is curved: an l2 ball, or a product with one."""
    if isinstance(geometry, Split):
        return "l2" in (geometry.foreground.norm, geometry.background.norm)
    return isinstance(geometry, Ball) and geometry.norm == "l2"


def falling_rate(steps: int) -> float:
    """First step size in budgets where it falls to 0 over ``steps`` steps: ten budgets in all.

    Example:
        >>> falling_rate(39), falling_rate(4)
        (0.5, 4.0)
    """
    return 2 * _PATH / (max(steps, 0) + 1)


def step_rate(geometry: Geometry, step_size: Eps | None, default: float) -> float:
    """A step size in input units as a share of the budget.

    Args:
        geometry: the set; a ball, if a step size is given.
        step_size: in input units, above 0; None for the default.
        default: the share where no step size is given.

    Raises:
        TypeError, ValueError: a wrong step size, or one for a geometry without a single radius.
    """
    if step_size is None:
        return default
    size = radius("step_size", step_size, above=True)
    if not isinstance(geometry, Ball):
        reject("step_size", "None for a geometry that is not a ball (give its step rule a rate)", step_size)
    return size / geometry.eps if geometry.eps > 0 else 1.0
