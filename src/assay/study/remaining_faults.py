"""Cross-reference errors of a study that has invalid fields, computed after removing these."""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from assay.study.cross_checks import ATTACKS, Path, StudyFault, cross_check
from assay.study.schema import Config

_ROUNDS = 4
_STAND_INS: Mapping[str, Any] = MappingProxyType(
    {"attacks": "fgsm", "models": {"load": "stand-in.pt"}, "data": {"load": "digits"}}
)
"""What stands in for an invalid attack, model or data set, so that others can refer to it."""


def remaining_faults(content: Mapping[str, Any], error: ValidationError) -> Iterator[StudyFault]:
    """Cross-reference errors, unless they depend on a field that is invalid itself.

    All errors that are certain are shown at once, and no error that only follows from another.

    Args:
        content: the study as read.
        error: what is wrong with its fields.
    """
    valid, invalid, dropped = copy.deepcopy(dict(content)), list[Path](), dict[str, list[int]]()
    for _ in range(_ROUNDS):
        places = [(item["loc"], item["type"]) for item in error.errors(include_url=False)]
        # from the end: an item that is dropped changes the numbers of those behind it
        for place, kind in sorted(places, key=lambda known: [str(step).zfill(9) for step in known[0]], reverse=True):
            removed = _remove(valid, place[:-1] if kind == "missing" else place, dropped)
            if removed is None:
                return
            invalid.append(removed)
        try:
            config = Config.model_validate(valid)
        except ValidationError as further:
            error = further
            continue
        for fault in cross_check(config):
            true = _with_true_numbers(fault, dropped)
            if not any(_overlap(a, b) for a in true.depends for b in invalid):
                yield true
        return


def _overlap(one: Path, other: Path) -> bool:
    """Whether one field is inside the other; the fields that decide the attacks count as one."""
    if one[:1] in ATTACKS and other[:1] in ATTACKS:
        return True
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _with_true_numbers(fault: StudyFault, dropped: Mapping[str, list[int]]) -> StudyFault:
    """The fault with the numbers that list items had before some were dropped."""

    def true(section: str, number: int) -> int:
        for gone in sorted(dropped.get(section, ())):
            number += number >= gone
        return number

    def whole(path: Path) -> Path:
        is_item = len(path) > 1 and isinstance(path[1], int)
        return (path[0], true(str(path[0]), int(path[1])), *path[2:]) if is_item else path

    place = re.sub(r"^(\w+)\[(\d+)\]", lambda m: f"{m[1]}[{true(m[1], int(m[2]))}]", fault.place)
    return replace(fault, place=place, depends=tuple(map(whole, fault.depends)))


def _remove(content: dict[str, Any], place: Sequence[str | int], dropped: dict[str, list[int]]) -> Path | None:
    """Remove what is at a place, and return the model, data set or section it was in; None if that is impossible.

    A whole item of a list is noted in ``dropped``, by its number before anything was.
    """
    steps = [step for step in place if step != "[key]"]
    if len(steps) < 2 and not (steps and steps[0] in content and steps[0] not in _STAND_INS):
        return None
    stand_in = _STAND_INS.get(str(steps[0]))
    if (
        len(steps) == 2
        and isinstance(stand_in, dict)
        and "[key]" not in place
        and content[str(steps[0])].get(steps[1]) != stand_in
    ):
        content[str(steps[0])][str(steps[1])] = dict(stand_in)
        return tuple(steps)
    at: Any = content
    for number, step in enumerate(steps[:-1]):
        if not _has(at, step):
            steps = steps[: number + 1]  # a part of the place that is no field, such as one kind of several
            break
        at = at[step]
    section: Path = tuple(steps[:2])
    last = steps[-1]
    if isinstance(at, list) and isinstance(last, int):
        if len(steps) > 2 or steps[0] == "attacks":
            at[last] = _STAND_INS["attacks"]
            return section
        earlier = dropped.setdefault(str(steps[0]), [])
        number = last
        for gone in sorted(earlier):
            number += number >= gone
        del at[last]
        earlier.append(number)
        return (steps[0], number)
    if isinstance(at, dict):
        at.pop(last, None)
        return section
    return None


def _has(at: Any, step: str | int) -> bool:
    return step in at if isinstance(at, dict) else isinstance(at, list) and isinstance(step, int) and step < len(at)
