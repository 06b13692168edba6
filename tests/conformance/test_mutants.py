"""Attacks with one mistake each: the properties of this folder find every one, and nothing in one without."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import assay
from assay.core.attack import Step
from assay.core.traits import Traits
from assay.parts.balls import Ball
from conformance import test_attacks, test_traits
from conformance.table import Case


class State(NamedTuple):
    delta: Tensor
    step: Tensor


@dataclass(frozen=True)
class Plain:
    """Projected gradient ascent in l2, with room for one mistake."""

    eps: float
    steps: int = 5
    rate: float = 0.5
    mistake: str = ""
    loss: object = assay.CrossEntropy()
    needs: tuple = ()

    @property
    def geometry(self):
        return Ball("l2", self.eps)

    @property
    def traits(self):
        return Traits("gradient", self.steps, price=1, randomised=True, objective=self.loss)

    def vary(self, *, effort=1, step_size=1, geometry=None, objective=None):
        eps = self.eps if geometry is None else geometry.eps
        steps = max(1, round(effort * self.steps))
        return replace(self, eps=eps, steps=steps, rate=step_size * self.rate, loss=objective or self.loss)

    def init(self, rows, rng):
        if self.mistake == "random numbers of the batch":
            start = torch.randn(rows.x.shape, generator=torch.Generator().manual_seed(0)).to(rows.x)
            start = self.geometry.project(start * self.eps, rows)
        else:
            start = self.geometry.sample(rows, rng, "start")
        return State(start, torch.zeros(len(rows), dtype=torch.int64))

    def step(self, rows, state, oracle, rng):
        image = (rows.x + state.delta).clamp(0, 1)
        seen = oracle.evaluate(self.loss, image, rows)
        if self.mistake == "a price that is not told":
            oracle.logits(image, rows)
        grad = -seen.grad if self.mistake == "downhill" else seen.grad
        size = grad.norm() if self.mistake == "one norm for the batch" else grad.flatten(1).norm(dim=1)
        unit = grad / size.clamp_min(1e-12).reshape(-1, 1, 1, 1)
        weak = self.mistake == "next to no steps"
        moved = state.delta + (1e-4 if weak else self.rate) * self.eps * unit
        if self.mistake != "no projection":
            moved = self.geometry.project(moved, rows)
        after = State(moved, state.step + 1)
        hit = rows.goal.reached(seen.logits, image)
        if self.mistake == "every image is a hit":
            hit = torch.ones_like(hit)
        last = self.steps + (self.mistake == "a step too many")
        return Step(after, image, hit, -seen.value, after.step >= last)

    def describe(self):
        return f"plain-{self.steps} {self.geometry.describe()}"


def case(mistake):
    return Case("mutant", lambda eps, steps=6: Plain(eps, steps, mistake=mistake), "l2", 0.25)


def broken_properties(mistake):
    """The names of the properties that an attack does not have."""
    made = case(mistake)
    properties = {
        "budget": lambda: test_attacks.test_shape_box_and_budget(made, "hit"),
        "one by one": lambda: test_attacks.test_one_by_one_and_shuffled_give_the_same(made),
        "passes": lambda: test_attacks.test_passes_are_as_declared_and_as_counted(made),
        "noise": lambda: test_attacks.test_beats_noise_of_the_same_size(made),
        "price": lambda: test_traits.test_its_steps_cost_what_it_declares(made),
        "claims": lambda: test_traits.test_a_claimed_hit_is_a_hit(made),
        "one step": lambda: test_traits.test_it_is_at_least_as_strong_as_one_gradient_step(made),
    }
    failed = []
    for name, check in properties.items():
        try:
            check()
        except AssertionError:
            failed.append(name)
    return failed


def test_the_attack_without_a_mistake_has_every_property():
    assert broken_properties("") == []


@pytest.mark.parametrize(
    ("mistake", "found_by"),
    [
        ("one norm for the batch", "one by one"),
        ("random numbers of the batch", "one by one"),
        ("no projection", "claims"),
        ("a price that is not told", "price"),
        ("a step too many", "price"),
        ("downhill", "one step"),
        ("every image is a hit", "claims"),
        ("next to no steps", "one step"),
    ],
)
def test_a_mistake_is_found(mistake, found_by):
    assert found_by in broken_properties(mistake)
