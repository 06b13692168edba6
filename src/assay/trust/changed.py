"""Attacks with one parameter changed, whatever they are made of."""

import dataclasses
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from assay.attacks.functional import ColourMap, Flow, Functional
from assay.attacks.peers import STEP_SIZES, STEPS, Peer
from assay.attacks.spatial import RotationTranslation
from assay.core.placed import Placed
from assay.core.steps import Adam, Ascent, Momentum
from assay.core.support import Support

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
        if isinstance(part, Peer):
            return part.times(STEPS, factor)
        for name in ("steps", "queries", "draws"):
            count = getattr(part, name, None)
            if isinstance(count, int) and not isinstance(count, bool):
                return dataclasses.replace(part, **{name: max(1, round(factor * count))})
        return None

    return changed(attack, change)


def with_radius(attack: Any, eps: float) -> Any:
    """The attack with this radius, wherever it has one of its own."""
    return changed(attack, lambda part: _of_radius(part, eps) if _has_radius(part) else None)


def scaled(attack: Any, factor: float) -> Any:
    """The attack with so many times its budget, or all of its budgets; numbers of values are rounded."""
    return changed(attack, lambda part: _scaled(part, factor))


def with_step_size(attack: Any, factor: float) -> Any:
    """The attack with so many times the step size; itself where it chooses one by itself."""

    def change(part: Any) -> Any:
        if isinstance(part, Peer):
            return part.times(STEP_SIZES, factor)
        if not isinstance(part, Ascent | Momentum | Adam) or not isinstance(part.rate, float):
            return None
        return dataclasses.replace(part, rate=factor * part.rate)

    return changed(attack, change)


def _has_radius(part: Any) -> bool:
    fixed = getattr(part, "remake", part) is None  # another library's, that cannot be made for another budget
    number = isinstance(getattr(part, "eps", None), float | int)
    return number and (hasattr(part, "norm") or hasattr(part, "geometry")) and not fixed


def _of_radius(part: Any, eps: float) -> Any:
    counted = isinstance(getattr(part, "geometry", None), Support)
    return dataclasses.replace(part, eps=round(eps) if counted else eps)


_LIMITS = MappingProxyType({Support: ("count",), Placed: ("eps",), Flow: ("pixels",), ColourMap: ("eps",),
                            RotationTranslation: ("degrees", "pixels")})  # fmt: skip
"""What limits the sets that are no balls."""


def _scaled(part: Any, factor: float) -> Any:
    if _has_radius(part):
        return _of_radius(part, factor * part.eps)
    if isinstance(part, Functional):  # steps that do not reach the limit would make nothing of a wider one
        return dataclasses.replace(part, rate=factor * part.rate) if factor > 0 else None
    limits = _LIMITS.get(type(part), ())
    if not limits:
        return None
    wider = {name: factor * getattr(part, name) for name in limits}
    whole = {name: round(value) if isinstance(getattr(part, name), int) else value for name, value in wider.items()}
    return dataclasses.replace(part, **whole)
