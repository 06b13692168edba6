"""What else is wrong with a study whose fields are wrong already: its names, seen once those fields are taken out."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from assay.runs.names import WrongNamesError
from assay.runs.schema import Config

_ROUNDS = 4
_STAND_IN = "fgsm"
_NAMED = ("models", "data")
_ATTACKS = ("attacks", "budgets", "suite", "curve")

Place = Sequence[str | int]


@dataclass(frozen=True)
class Doubted:
    """Places and names about which nothing can be said, because something inside them is wrong.

    Attributes:
        places: beginnings of places, as sentences write them.
        names: of models and data.
    """

    places: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)

    def add(self, place: Place) -> None:
        """What is at a place is wrong."""
        first, *rest = place
        if first in _NAMED and rest:
            self.names.add(str(rest[0]))
            self.places.add(f"{first}.{rest[0]}.")
        elif first in _ATTACKS:
            self.places.update(f"{name}[" for name in _ATTACKS)
        else:
            self.places.add(f"{first}[{rest[0]}]" if rest and isinstance(rest[0], int) else f"{first}.")

    def trusts(self, sentence: str) -> bool:
        """Whether a sentence is about nothing that is doubted."""
        unsure = self.places & {f"{name}[" for name in _ATTACKS}
        if unsure and ("(attack)" in sentence or "(budget)" in sentence):
            return False
        if "(answer)" in sentence and any(place.startswith(("diagnostics", "signatures")) for place in self.places):
            return False
        if "on the same data" in sentence and any(place.startswith("data.") for place in self.places):
            return False
        return not sentence.startswith(tuple(self.places)) and not any(repr(name) in sentence for name in self.names)


def names_beside(content: Mapping[str, Any], error: ValidationError) -> Iterator[str]:
    """Sentences about names that do not agree, where single fields are wrong, too.

    The wrong fields are taken out, and what is then said of names is passed on, unless what was taken out has a part in
    it: all mistakes that can be told apart are told at once, and none that is not one.

    Args:
        content: the study as read.
        error: what is wrong with its fields.
    """
    left, doubted = copy.deepcopy(dict(content)), Doubted()
    for _ in range(_ROUNDS):
        places = [(item["loc"], item["type"]) for item in error.errors(include_url=False)]
        if all(not place for place, _ in places):
            yield from (part for item in error.errors() for part in sentences_of(item["ctx"]["error"])
                        if doubted.trusts(part))  # fmt: skip
            return
        if not all(_taken_out(left, place[:-1] if kind == "missing" else place, doubted) for place, kind in places):
            return
        try:
            Config.model_validate(left)
        except ValidationError as further:
            error = further
        else:
            return


def sentences_of(error: Exception) -> tuple[str, ...]:
    """What an error says, sentence by sentence."""
    return error.sentences if isinstance(error, WrongNamesError) else (str(error),)


def _taken_out(content: dict[str, Any], place: Place, doubted: Doubted) -> bool:
    """Take what is at a place out of a study; False where that leaves nothing to go on with."""
    steps = [step for step in place if step != "[key]"]
    if len(steps) < 2 and not (steps and steps[0] in content and steps[0] not in _NAMED):
        return False
    at: Any = content
    for number, step in enumerate(steps[:-1]):
        if not _has(at, step):
            steps = steps[: number + 1]  # a part of the place that is no field, such as one kind of several
            break
        at = at[step]
    doubted.add(steps)
    last = steps[-1]
    if isinstance(at, list) and isinstance(last, int):
        if len(steps) > 2 or steps[0] == "attacks":
            at[last] = _STAND_IN
            return True
        return False  # those behind it would have other numbers
    if isinstance(at, dict):
        at.pop(last, None)
        return True
    return False


def _has(at: Any, step: str | int) -> bool:
    return step in at if isinstance(at, dict) else isinstance(at, list) and isinstance(step, int) and step < len(at)
