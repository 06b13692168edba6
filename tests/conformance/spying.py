"""An attack that is watched: what it asks, claims and costs at each step."""

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch

import assay
from assay.core.attack import Priced
from assay.core.combinators import map_attacks
from assay.core.tree import map_rows
from models_for_tests import images, masks, mlp, predicted


@dataclass(frozen=True)
class Watched:
    """A plain attack whose steps are written down.

    Attributes:
        attack: the attack.
        steps: of each step the rows, the price that was told, the `Step` and the forward passes of each row.
        unchanged: of each step whether it left the state that it got as it was.
    """

    attack: Any
    steps: list[Any] = field(default_factory=list, repr=False, compare=False)
    unchanged: list[bool] = field(default_factory=list, repr=False, compare=False)

    @property
    def geometry(self):
        return self.attack.geometry

    @property
    def needs(self):
        return self.attack.needs

    @property
    def traits(self):
        return self.attack.traits

    def vary(self, **changes):
        inner = self.attack.vary(**changes)
        return None if inner is None else replace(self, attack=inner)

    def init(self, rows, rng):
        return self.attack.init(rows, rng)

    def step(self, rows, state, oracle, rng):
        before, kept = oracle.forwards.clone(), map_rows(torch.clone, state)
        step = self.attack.step(rows, state, oracle, rng)
        self.unchanged.append(equal(state, kept))
        price = self.attack.price(state) if isinstance(self.attack, Priced) else None
        self.steps.append((rows, price, step, oracle.forwards - before))
        return step

    def describe(self):
        return self.attack.describe()


def equal(state, kept):
    """Whether a state is as it was, NaN and all."""
    same = []
    map_rows(
        lambda a, b: (
            same.append(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) if a.is_floating_point() else torch.equal(a, b))
            or a
        ),
        state,
        kept,
    )
    return all(same)


def plain_parts(attack):
    """The plain attacks that any attack is made of, each once."""
    parts = []
    map_attacks(attack, lambda part: parts.append(part) or part)
    return list(dict.fromkeys(parts)) if all(part.__hash__ for part in parts) else parts


def watch(attack, n=12, **settings):
    """Run an attack, and return the outcome, the model and what each plain attack in it did."""
    model, x, mask = mlp(), images(n), masks(n)
    watched = []

    def wrap(part):
        watched.append(Watched(part))
        return watched[-1]

    spied = map_attacks(attack, wrap)
    given = {"mask": mask, "slots": n, "preflight": False, **settings}
    outcome = assay.attack(given.pop("model", model), x, predicted(model, x), spied, **given)
    return outcome, model, watched


def candidates(watched):
    """All images that a watched run has looked at, by row key and step."""
    return {
        (int(key), i): image
        for i, (rows, _, step, _) in enumerate(watched.steps)
        for key, image in zip(rows.key, step.candidate, strict=True)
    }


@cache
def watched_case(case, how="usual", **settings):
    """What an attack of the table does: at its usual budget, or at one that every row survives (``"tiny"``)."""
    return watch(case.make(case.eps if how == "usual" or "zero" in case.holes else 1e-7), **settings)


def same(first, second):
    """Whether two runs have looked at the same images."""
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
