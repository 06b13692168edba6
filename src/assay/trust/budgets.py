"""Which budgets lie within which, and the largest claimed budgets."""

from collections.abc import Iterable

import torch
from torch import Tensor

from assay.core.geometry import Geometry
from assay.core.rows import Rows, untargeted
from assay.core.types import Images, Mask
from assay.parts.balls import Ball, Split
from assay.parts.sparse_sets import Support

_ROUNDING = 1e-4


def within(inner: Geometry | None, outer: Geometry | None) -> bool:
    """Whether every perturbation of one budget is known to be one of another.

    Example:
        >>> within(Ball("linf", 0.1), Ball("linf", 0.2)), within(Ball("l2", 0.1), Ball("linf", 0.2))
        (True, False)
    """
    if inner is None or outer is None:
        return False
    if inner == outer:
        return True
    if isinstance(inner, Ball) and isinstance(outer, Ball):
        return inner.norm == outer.norm and inner.eps <= outer.eps
    if isinstance(inner, Support) and isinstance(outer, Support):
        return inner.unit == outer.unit and inner.count <= outer.count
    if isinstance(inner, Split) and isinstance(outer, Split):
        return within(inner.foreground, outer.foreground) and within(inner.background, outer.background)
    if isinstance(inner, Ball) and isinstance(outer, Split):
        return within(inner, outer.foreground) and within(inner, outer.background)
    return False


def outermost(budgets: Iterable[Geometry | None]) -> tuple[Geometry, ...]:
    """The budgets that lie within no larger one of their own kind, each once.

    A ball counts beside the pair of balls that holds it: more is known of balls.

    Example:
        >>> [b.describe() for b in outermost([Ball("linf", 0.5), Ball("l2", 1.0), None, Ball("linf", 0.25)])]
        ['linf 0.5', 'l2 1']
    """
    results: list[Geometry] = []
    for budget in budgets:
        if budget is not None and budget not in results:
            results.append(budget)
    return tuple(
        b for b in results if not any(type(other) is type(b) and other != b and within(b, other) for other in results)
    )


def change_a_value(budgets: Iterable[Geometry], values: int) -> float:
    """How far a budget lets a value of an image go, if all go alike: of the widest ball; 8/255 where there is none.

    Args:
        budgets: any.
        values: of an image.

    Example:
        >>> change_a_value([Ball("l2", 1.0), Ball("linf", 0.1)], 400), change_a_value([], 400) == 8 / 255
        (0.1, True)
    """
    share = {"linf": 1.0, "l2": values**-0.5, "l1": 1 / values}
    balls = [b for b in budgets if isinstance(b, Ball)]
    balls += [ball for b in budgets if isinstance(b, Split) for ball in (b.foreground, b.background)]
    return max((ball.eps * share[ball.norm] for ball in balls), default=8 / 255)


def balls_or_regions(budgets: Iterable[Geometry]) -> list[Ball | Split]:
    """The balls that have a radius; where there is none, the pairs of regions: what misleads in one misleads in both.

    Example:
        >>> [b.describe() for b in balls_or_regions([Ball("linf", 0.0), Ball("l2", 1.0)])]
        ['l2 1']
    """
    several = tuple(budgets)
    balls: list[Ball | Split] = [b for b in several if isinstance(b, Ball) and b.eps > 0]
    return balls or [b for b in several if isinstance(b, Split)]


def members(budget: Geometry, x: Images, images: Images, mask: Mask | None = None) -> Tensor:
    """Which images lie within a budget about ``x``; never where it is known by words alone.

    Args:
        budget: the set.
        x: images, ``(b, c, h, w)``.
        images: one for each.
        mask: foregrounds, where the budget reads them.
    """
    if "mask" in budget.needs and mask is None:
        return torch.zeros(len(x), dtype=torch.bool)
    zero = torch.zeros(len(x), dtype=torch.int64)
    rows = Rows(x, untargeted(zero), zero, None if mask is None else mask.to(x))
    inside: Tensor = budget.size(images - x, rows) <= 1 + _ROUNDING
    return inside
