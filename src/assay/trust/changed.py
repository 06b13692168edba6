"""Attacks with one parameter changed, whatever they are made of."""

import dataclasses
from collections.abc import Callable
from typing import Any

from assay.core.steps import Adam, Ascent, Momentum

Change = Callable[[Any], Any]


def changed(part: Any, change: Change) -> Any:
    """A record in which every part that ``change`` has another version of is that version.

    Args:
        part: an attack, or anything that it is made of.
        change: gives the new version of a part, the parts inside it being changed already, or None to keep it.
    """
    if isinstance(part, tuple) and not hasattr(part, "_fields"):
        return tuple(changed(item, change) for item in part)
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return part
    inside = {f.name: getattr(part, f.name) for f in dataclasses.fields(part) if f.init}
    made = {name: changed(value, change) for name, value in inside.items()}
    if any(made[name] is not inside[name] for name in inside):
        part = dataclasses.replace(part, **made)
    new = change(part)
    return part if new is None else new


def with_steps(attack: Any, factor: float) -> Any:
    """The attack with so many times the steps, or the queries or draws; itself where it has none."""

    def change(part: Any) -> Any:
        for name in ("steps", "queries", "draws"):
            count = getattr(part, name, None)
            if isinstance(count, int) and not isinstance(count, bool):
                return dataclasses.replace(part, **{name: max(1, round(factor * count))})
        return None

    return changed(attack, change)


def with_radius(attack: Any, eps: float) -> Any:
    """The attack with this radius, wherever it has one of its own."""
    return changed(attack, lambda part: dataclasses.replace(part, eps=eps) if _has_radius(part) else None)


def with_step_size(attack: Any, factor: float) -> Any:
    """The attack with so many times the step size; itself where it chooses one by itself."""

    def change(part: Any) -> Any:
        if not isinstance(part, Ascent | Momentum | Adam) or not isinstance(part.rate, float):
            return None
        return dataclasses.replace(part, rate=factor * part.rate)

    return changed(attack, change)


def _has_radius(part: Any) -> bool:
    fixed = getattr(part, "remake", part) is None  # another library's, that cannot be made for another budget
    return isinstance(getattr(part, "eps", None), float) and hasattr(part, "norm") and not fixed
