"""What rivals break together (C16), what more passes would break (B13), and the six indicators (B12)."""

import dataclasses

import pytest
import torch
from torch import nn

import assay
from assay.trust import Level, grade, run_checks
from assay.trust.answer import DECIDED, inconclusive, passed, warning
from assay.trust.failure_indicators import indicators
from assay.trust.more import estimate, what_more_breaks
from assay.trust.rivals.together import together
from trust.cases import EPS, data, examined, trained


def one(sample, n=64):
    return (passed("", 1 / n, 1.5 / n, (sample,)),)


def test_rivals_that_are_left_out_are_no_doubt():
    """Else C16 stands beside each reason of a weak grade, though nobody has asked it."""
    model = nn.Sequential(trained(), nn.Softmax(1))
    answers = run_checks(examined(model, ("pgd:steps=5",), count=12), everything=False)
    verdict = grade(answers)
    assert verdict.grade == "unusable"
    assert answers["C16"][0].text == DECIDED
    assert "C16" not in verdict.why


def test_rivals_that_break_one_sample_each_are_several_samples():
    assert together({"C5": one(3), "C14": one(9)}).level is Level.WARNING
    assert together({"C5": one(3), "C14": one(9)}).samples == (3, 9)
    assert together({"C5": one(3), "C14": one(3)}).level is Level.PASSED
    assert together({"C5": one(3, 1000), "C14": one(9, 1000), "C8": one(5, 1000)}).level is Level.PASSED


def test_without_rivals_there_is_nothing_to_add_up():
    assert together({}).level is Level.NOT_APPLICABLE
    assert together({"C5": (inconclusive("it raised"),)}).text == "no rival could be asked"
    assert together({"C5": (warning("", 0.5, 0.1, (1, 2)),)}).level is Level.WARNING


def test_rivals_are_added_up_in_every_evaluation():
    answers = run_checks(examined(trained(), ("pgd:steps=10",), count=12), only=("C4", "C6", "C16"))
    assert answers["C16"][0].level is Level.PASSED
    assert "C4" in answers["C16"][0].text


def test_late_hits_promise_more_than_early_ones():
    left = torch.full((40,), 1000)
    early, late = estimate(torch.full((24,), 4), left, 64), estimate(torch.linspace(300, 900, 24), left, 64)
    assert early.high < 0.06 < late.share
    assert early.low == 0 < late.low
    assert estimate(torch.tensor([5]), left[:0], 64).high == 0
    assert estimate(torch.full((24,), 4), left, 64, times=2).share < early.share


def test_the_interval_covers_what_follows_where_the_rate_is_known():
    covered = 0
    for seed in range(40):
        draws = torch.Generator().manual_seed(seed)
        when = 4 * 2 ** (torch.rand(128, generator=draws).log() / torch.tensor(0.96).log())  # 4 % a doubling
        seen, following = when <= 400, (when > 400) & (when <= 4000)
        value = estimate(when[seen], torch.full((int((~seen).sum()),), 400), 128)
        covered += value.low - 1e-9 <= int(following.sum()) / 128 <= value.high + 1e-9
    assert covered >= 30


def test_no_estimate_of_fewer_passes():
    with pytest.raises(ValueError, match="times"):
        what_more_breaks(assay.attack(trained(), *(part[:4] for part in data()), assay.PGD(EPS, steps=2)), times=1)


def test_a_search_that_was_stopped_early_is_told_so():
    context = examined(trained("pgd-at"), ("square:queries=500",))
    result = context.results[0]
    half = torch.arange(len(context.x)) % 2 == 0
    status, forwards = torch.where(half, 1, 2), torch.where(half, torch.linspace(260, 490, len(half)).long(), 500)
    outcome = dataclasses.replace(result.outcome, forwards=forwards, status=status)
    late = dataclasses.replace(context, results=(dataclasses.replace(result, outcome=outcome),))
    assert run_checks(late, only=("B13",))["B13"][0].level is Level.WARNING
    assert run_checks(context, only=("B13",))["B13"][0].level in (Level.PASSED, Level.WARNING)
    whole = examined(trained("pgd-at"), ("apgd:steps=40",), eps=8 / 255)
    assert run_checks(whole, only=("B13",))["B13"][0].level is Level.PASSED


def test_hits_of_a_schedule_promise_nothing():
    context = examined(trained("pgd-at"), ("pgd:steps=10",), count=16)
    assert run_checks(context, only=("B13",))["B13"][0].level is Level.NOT_APPLICABLE


def test_when_a_sample_broke_is_not_known_of_an_attack_that_goes_on():
    context = examined(trained(), ("ddn:steps=10,eps=0.3",), norm="l2", eps=0.3, count=8)
    assert run_checks(context, only=("B13",))["B13"][0].level is Level.NOT_APPLICABLE
    plain = examined(trained(), ("pgd:steps=3",), count=8)
    never = dataclasses.replace(plain, recorded={"stop": "never"})
    assert run_checks(never, only=("B13",))["B13"][0].level is Level.NOT_APPLICABLE


class Flat(nn.Module):
    """A model whose answers do not change with a small step, and that has no slope."""

    def __init__(self):
        super().__init__()
        self.model = trained("pgd-at")

    def forward(self, x):
        return self.model((x * 4).round() / 4) + 0 * x.sum((1, 2, 3))[:, None]


def test_indicators_point_at_what_is_wrong():
    context = examined(trained("pgd-at"), ("pgd:steps=2,step_size=0.004",), count=32)
    short = indicators(context, context.results[0])
    assert short.unavailable_gradients == short.silent_success == short.transfer_failure == 0
    assert short.incomplete_optimisation > 0.5
    context = examined(trained("pgd-at"), ("apgd:steps=50",), count=32)
    whole = indicators(context, context.results[0])
    assert whole.incomplete_optimisation < 0.3
    assert whole.unconstrained_failure == 0
    context = examined(Flat(), ("apgd:steps=10",), count=16)
    values = indicators(context, context.results[0])
    assert values.unavailable_gradients == 1
    assert values.unconstrained_failure > 0.2


def test_indicators_count_an_attack_that_hides_its_success():
    context = examined(trained(), ("pgd:steps=10",), count=16)
    result = context.results[0]
    outcome = dataclasses.replace(result.outcome, status=torch.full_like(result.outcome.status, 2))
    values = indicators(context, dataclasses.replace(result, outcome=outcome))
    assert values.silent_success > 0.3
    assert "silent success" in values.describe()
