"""Varied attacks: the same attack with another effort, step size, budget or loss."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.parts.balls import Ball
from assay.parts.counts import scaled_count
from assay.parts.sparse_sets import Support
from assay.util.validate import reject

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

A = TypeVar("A", bound="DataclassInstance")


def vary_fields(
    attack: A,
    effort: float,
    step_size: float,
    geometry: Geometry | None,
    objective: Objective | None,
    *,
    counts: Sequence[str] = ("steps",),
    rates: Sequence[str] = (),
    norm: str | None = None,
    loss: str | None = None,
) -> A | None:
    """`Attack.vary` for an attack whose effort, step size, budget and loss are plain fields.

    Args:
        attack: a frozen dataclass.
        effort: factor on the steps or queries.
        step_size: factor on the step size.
        geometry: another set; None to keep it.
        objective: another loss; None to keep it.
        counts: the fields with numbers of steps or queries; empty for an attack without any.
        rates: the fields with step sizes; empty for an attack that chooses its own.
        norm: the norm in which the field ``eps`` is measured; None for an attack without such a field.
        loss: the field with the loss; None for an attack without one.

    Returns:
        The varied attack; None if it has no such thing.
    """
    check_variation(geometry, objective)
    changes: dict[str, Any] = {}
    radius = radius_in(geometry, norm)
    unable = (
        (effort != 1 and not counts)
        or (step_size != 1 and not rates)
        or (geometry is not None and radius is None)
        or (objective is not None and loss is None)
    )
    if unable:
        return None
    if effort != 1:
        changes |= {name: scaled_count(getattr(attack, name), effort) for name in counts}
    if step_size != 1:
        changes |= {name: step_size * getattr(attack, name) for name in rates}
    if geometry is not None:
        changes["eps"] = radius
    if objective is not None and loss is not None:
        changes[loss] = objective
    return replace(attack, **changes)


def check_variation(geometry: Geometry | None, objective: Objective | None) -> None:
    """Refuse what `Attack.vary` takes for a set or a loss and is none.

    Raises:
        TypeError: another kind of value.
    """
    if geometry is not None and not isinstance(geometry, Geometry):
        reject("geometry", "a set of perturbations, such as assay.Ball('linf', 8/255)", geometry, error=TypeError)
    if objective is not None and not isinstance(objective, Objective):
        reject("objective", "a loss, such as assay.Margin()", objective, error=TypeError)


def radius_in(geometry: Geometry | None, norm: str | None) -> float | None:
    """The radius of a set in a norm; None for a set that is not one of that norm.

    Example:
        >>> radius_in(Ball("l2", 0.5), "l2"), radius_in(Ball("l2", 0.5), "linf"), radius_in(Support(3), "l0")
        (0.5, None, 3)
    """
    if isinstance(geometry, Ball) and geometry.norm == norm:
        return geometry.eps
    if isinstance(geometry, Support) and norm == {"values": "l0", "pixels": "pixels"}[geometry.unit]:
        return geometry.count
    return None
