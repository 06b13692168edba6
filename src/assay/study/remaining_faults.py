"""Cross-reference errors of a study that has invalid fields, computed after removing these."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from assay.study.cross_checks import ATTACKS, Path, StudyFault, cross_check
from assay.study.schema import Config

_ROUNDS = 4
_STAND_IN = "fgsm"
_NAMED = ("models", "data")


def remaining_faults(content: Mapping[str, Any], error: ValidationError) -> Iterator[StudyFault]:
    """Cross-reference errors, unless they depend on a field that is invalid itself.

    All errors that are certain are shown at once, and no error that only follows from another.

    Args:
        content: the study as read.
        error: what is wrong with its fields.
    """
    valid, invalid = copy.deepcopy(dict(content)), list[Path]()
    for _ in range(_ROUNDS):
        places = [(item["loc"], item["type"]) for item in error.errors(include_url=False)]
        for place, kind in places:
            removed = _remove(valid, place[:-1] if kind == "missing" else place)
            if removed is None:
                return
            invalid.append(removed)
        try:
            config = Config.model_validate(valid)
        except ValidationError as further:
            error = further
            continue
        yield from (
            fault for fault in cross_check(config) if not any(_overlap(a, b) for a in fault.depends for b in invalid)
        )
        return


def _overlap(one: Path, other: Path) -> bool:
    """Whether one field is inside the other; the fields that decide the attacks count as one."""
    if one[:1] in ATTACKS and other[:1] in ATTACKS:
        return True
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _remove(content: dict[str, Any], place: Sequence[str | int]) -> Path | None:
    """Remove what is at a place, and return the model, data set or section it was in; None if that is impossible."""
    steps = [step for step in place if step != "[key]"]
    if len(steps) < 2 and not (steps and steps[0] in content and steps[0] not in _NAMED):
        return None
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
            at[last] = _STAND_IN
            return section
        return None  # those behind it would have other numbers
    if isinstance(at, dict):
        at.pop(last, None)
        return section
    return None


def _has(at: Any, step: str | int) -> bool:
    return step in at if isinstance(at, dict) else isinstance(at, list) and isinstance(step, int) and step < len(at)
