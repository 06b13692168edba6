"""Variants beside each other give what they give one after another."""

import itertools

import pytest
import torch

import assay
from assay.core.outcome import Status
from assay.engine.attempts import Attempt, Attempts
from assay.engine.referee import Measurement
from models_for_tests import images, mlp

ORDERS = list(itertools.permutations(range(3)))
DECIDING = [{}, {0: "hit"}, {1: "hit"}, {1: "fail"}, {1: "hit", 2: "hit"}, {0: "hit", 1: "fail"}]


def attempt(sample, variant, *, hit=False, failed=False):
    no, zero = torch.tensor([False]), torch.zeros(1)
    flag = torch.tensor([hit])
    measurement = Measurement(torch.zeros(1, 1, 1, 1), flag, zero, torch.tensor([0]), zero, ~no, no)
    one = torch.ones(1, dtype=torch.int64)
    place = (torch.tensor([sample]), torch.tensor([variant]))
    return Attempt(*place, measurement, zero.double(), one, one, one, one, 0 * one, no, no, torch.tensor([failed]))


def written_in(order, deciding, *, variants=(0, 1, 2), stop_at_hit=True):
    """What is written down when attempts of one sample end in an order, where some decide it."""
    written, closed = [], []

    def write(attempts):
        written.extend(attempts.variant.tolist())
        return ~(attempts.measurement.hit | attempts.failed) if stop_at_hit else torch.ones(1, dtype=torch.bool)

    attempts = Attempts(
        [4], 6, variants, stop_at_hit=stop_at_hit, beside=True, survived=True, write=write, close=closed.append
    )
    assert attempts.draw(9) == [(4, v) for v in variants]
    for variant in order:
        if bool(attempts.alive(torch.tensor([4]), torch.tensor([variant]))[0]):
            attempts.end(
                attempt(4, variant, hit=deciding.get(variant) == "hit", failed=deciding.get(variant) == "fail")
            )
    assert closed == [4]
    assert not attempts.waiting()
    return written


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "deciding", [{}, {0: "hit"}, {1: "hit"}, {1: "fail"}, {1: "hit", 2: "hit"}, {0: "hit", 1: "fail"}]
)
def test_the_first_that_decides_is_the_last_that_counts(order, deciding):
    assert written_in(order, deciding) == [*range(min(deciding, default=2) + 1)]


@pytest.mark.parametrize("order", ORDERS)
def test_without_an_end_at_a_hit_all_count_in_order(order):
    assert written_in(order, {1: "hit"}, stop_at_hit=False) == [0, 1, 2]


def test_variants_have_their_own_order():
    assert written_in((7, 2, 5), {}, variants=(5, 2, 7)) == [5, 2, 7]


def test_nobody_looks_ahead_while_most_attempts_hit():
    attempts = Attempts(
        [0, 1, 2],
        3,
        (0, 1),
        stop_at_hit=True,
        beside=True,
        survived=False,
        write=lambda a: ~a.measurement.hit,
        close=lambda sample: None,
    )
    assert attempts.draw(9) == [(0, 0), (1, 0), (2, 0)]
    attempts.end(attempt(0, 0, hit=True))
    assert not attempts.waiting()
    attempts.end(attempt(1, 0))
    assert attempts.draw(9) == [(1, 1)]


@pytest.mark.parametrize("stop", ["hit", "never"])
@pytest.mark.parametrize(
    "attack", [assay.PGD(0.03, steps=6, restarts=5), assay.FAB(0.03, steps=4, targets=3)], ids=lambda a: a.describe()
)
def test_slots_change_nothing(attack, stop):
    """One slot runs variants one after another, many run them beside each other."""
    model, x = mlp(scale=3.0), images(16)
    y = model(x).argmax(1)
    one, many = (assay.attack(model, x, y, attack, stop=stop, slots=slots, preflight=False) for slots in (1, 200))
    for field in ("status", "restart", "steps", "forwards", "backwards", "checks", "predicted"):
        assert torch.equal(getattr(one, field), getattr(many, field)), field
    assert torch.allclose(one.images, many.images, atol=1e-5)
    assert 0 < int(one.robust.sum()) < len(one)


class FailsAfter(torch.nn.Module):
    """Raises on each call after the first so many."""

    def __init__(self, model, calls):
        super().__init__()
        self.model, self.left = model, calls

    def forward(self, x):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("planted")
        return self.model(x)


def test_an_error_of_a_later_variant_does_not_take_away_the_hit_of_an_earlier_one():
    """Failing rows are isolated one by one; a sample that its first variant breaks stays broken."""
    model, x = mlp(scale=3.0), images(16)
    y = model(x).argmax(1)
    attack = assay.PGD(0.02, steps=6, restarts=3)
    whole = assay.attack(model, x, y, attack, preflight=False)
    broken = whole.status == int(Status.BROKEN)
    hit_first = broken & (whole.restart == 0)
    assert bool(hit_first.any())
    assert bool((~hit_first).any())
    calls = 10  # the first variants have ended by then
    outcome = assay.attack(FailsAfter(model, calls), x, y, attack, errors="record", preflight=False)
    assert bool((outcome.status[hit_first] == int(Status.BROKEN)).all())
    assert set(outcome.errors) <= set((~hit_first).nonzero().squeeze(1).tolist())
    assert outcome.errors
