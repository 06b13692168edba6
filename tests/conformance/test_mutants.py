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


class SearchState(NamedTuple):
    delta: Tensor
    value: Tensor
    step: Tensor


@dataclass(frozen=True)
class Search:
    """Random search by scores in linf, with room for one mistake."""

    eps: float
    steps: int = 60
    mistake: str = ""
    loss: object = assay.Margin()

    @property
    def geometry(self):
        return Ball("linf", self.eps)

    @property
    def needs(self):
        return () if self.mistake == "needs that are not told" else self.loss.needs

    @property
    def traits(self):
        return Traits("scores", self.steps, randomised=True)

    def vary(self, *, effort=1, step_size=1, geometry=None, objective=None):
        if step_size != 1:
            return None
        eps = self.eps if geometry is None else geometry.eps
        return replace(self, eps=eps, steps=max(1, round(effort * self.steps)), loss=objective or self.loss)

    def init(self, rows, rng):
        count = torch.zeros(len(rows), dtype=torch.int64)
        low = torch.full((len(rows),), -torch.inf, dtype=rows.x.dtype)
        return SearchState(torch.zeros_like(rows.x), low, count)

    def step(self, rows, state, oracle, rng):
        key = rows.key * 0 + 7 if self.mistake == "draws of no row" else rows.key
        shape = tuple(rows.x.shape[1:])
        chosen = rng.uniform(key, shape, "where", state.step) < 0.2
        sign = torch.where(rng.uniform(key, shape, "sign", state.step) < 0.5, -1.0, 1.0).to(rows.x)
        delta = torch.where(chosen, self.eps * sign, state.delta)
        image = (rows.x + delta).clamp(0, 1)
        logits = oracle.logits(image, rows)
        goal = (
            rows.goal
            if self.mistake != "targets that are not looked at"
            else replace(rows.goal, aim=rows.goal.aim * 0 - 1)
        )
        value = self.loss(logits, image, replace(rows, goal=goal))
        better = -value > state.value if self.mistake == "downhill" else value > state.value
        kept = torch.where(better.reshape(-1, 1, 1, 1), delta, state.delta)
        if self.mistake == "a state changed in place":
            state.delta.copy_(kept)
        best = torch.where(better, -value if self.mistake == "downhill" else value, state.value)
        hit = rows.goal.reached(logits, image)
        if self.mistake == "hits that are not told":
            hit = torch.zeros_like(hit)
        cost = value if self.mistake == "the worst is kept" else -value
        count = state.step + 1
        return Step(SearchState(kept, best, count), image, hit, cost, count >= self.steps)

    def describe(self):
        return f"search-{self.steps} {self.geometry.describe()}"


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


def broken_in_search(mistake):
    """The names of the properties that a search by scores does not have."""
    made = Case(
        "mutant",
        lambda eps: Search(eps, mistake=mistake),
        "linf",
        0.05,
        steps=False,
        gradient=False,
        passes=lambda _: (60, 0),
    )
    properties = {
        "scores": test_traits.test_scores_are_used_to_come_nearer,
        "restart": test_traits.test_a_restart_draws_other_numbers,
        "secret": test_traits.test_no_hit_is_kept_secret,
        "cost": test_traits.test_the_cost_of_a_miss_says_how_near_it_was,
        "state": test_traits.test_a_step_leaves_the_state_that_it_got,
        "needs": test_traits.test_every_loss_can_be_had,
    }
    failed = []
    for name, check in properties.items():
        try:
            check(made)
        except (AssertionError, ValueError):
            failed.append(name)
    return failed


@pytest.mark.parametrize(
    ("mistake", "found_by"),
    [
        ("", None),
        ("downhill", "scores"),
        ("targets that are not looked at", "scores"),
        ("the worst is kept", "cost"),
        ("hits that are not told", "secret"),
        ("draws of no row", "restart"),
        ("a state changed in place", "state"),
        ("needs that are not told", "needs"),
    ],
)
def test_a_mistake_of_a_search_is_found(mistake, found_by):
    failed = broken_in_search(mistake)
    assert failed == [] if found_by is None else found_by in failed
