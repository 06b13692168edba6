"""What checks say beforehand that they cost."""

from dataclasses import replace

import pytest
import torch

import assay
from assay.attacks.plan import plan
from assay.defences import defend
from assay.trust.context import AttackResult
from assay.trust.forecast import forecast
from assay.trust.running import check_requests
from trust.cases import EPS, examined, trained


class Counting:
    """Attacks, and remembers what it cost the model."""

    def __init__(self, context):
        self.own = {id(p) for p in context.model.parameters()}
        self.passes = 0

    def __call__(self, model, *arguments, **named):
        outcome = assay.attack(model, *arguments, **named)
        if self.own & {id(p) for p in model.parameters()}:
            self.passes += int((outcome.forwards + outcome.backwards).sum())
        return outcome


@pytest.mark.parametrize(
    "attack", ["pgd:steps=5", *(pytest.param(a, marks=pytest.mark.slow) for a in ("fab:steps=4", "square:queries=50"))]
)
def test_no_check_costs_more_than_was_said(attack):
    exam = examined(trained(), (attack,), count=12)
    for request in check_requests(1):
        if request.slow:
            said = forecast(exam, [request])
            counting = Counting(exam)
            request.answer(replace(exam, run=counting, memory={}))
            assert counting.passes <= said.passes, request.check


def test_draws_of_an_expectation_are_counted():
    exam = examined(assay.Expectation(trained(), 3), ("pgd:steps=5",), count=12)
    for request in check_requests(1):
        if request.check in ("B6", "D1"):
            counting = Counting(exam)
            request.answer(replace(exam, run=counting, memory={}))
            assert 0 < counting.passes <= forecast(exam, [request]).passes, request.check


def test_a_defence_is_not_attacked_beforehand():
    """D4 attacks what is inside the defence, C12 a network of its own: neither is run to say what it costs."""
    model = defend(trained(), "jpeg:quality=75")
    exam = examined(model, ("pgd:steps=5",), count=12)
    rows = []
    handle = model.model.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    try:
        said = forecast(exam, [r for r in check_requests(1) if r.check in ("D4", "C12")])
    finally:
        handle.remove()
    assert said.passes >= 12 * 5
    assert sum(rows) <= 24  # the clean images


def test_what_one_check_has_learnt_is_not_counted_on():
    """With workers each check asks for itself: B7 may have to ask B6's question again, C10 that of C5."""
    exam = examined(trained(), ("pgd:steps=5",), count=12)
    cost = {r.check: forecast(exam, [r]).passes for r in check_requests(1) if r.check in ("B6", "B7", "C5", "C10")}
    assert cost["B7"] > cost["B6"] > 0
    assert cost["C10"] == cost["C5"] > 0


def test_nothing_is_attacked_and_nothing_is_learnt():
    calls = []
    model = trained()
    exam = examined(model, ("pgd:steps=5",), count=12)
    handle = model.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    try:
        said = forecast(exam, [r for r in check_requests(1) if r.check in ("B6", "B7", "B8", "C1", "C2", "C5", "C6")])
    finally:
        handle.remove()
    assert said.passes > 1000
    assert not calls
    assert not exam.memory


def test_seconds_are_those_of_the_evaluations_pace():
    exam = examined(trained(), ("pgd:steps=5",), count=12)
    outcome = exam.results[0].outcome
    spent = int((outcome.forwards + outcome.backwards).sum())
    timed = replace(exam, results=(replace(exam.results[0], outcome=replace(outcome, seconds=2.0)),))
    requests = check_requests(1)
    said = forecast(timed, requests)
    assert said.seconds == pytest.approx(said.passes * 2.0 / spent)
    assert f"{said.seconds:,.0f} s at the pace" in said.describe()
    untimed = replace(exam, results=(replace(exam.results[0], outcome=replace(outcome, seconds=0.5)),))
    assert forecast(untimed, requests).seconds is None


def test_steps_that_no_number_limits_are_told():
    class Endless:
        """An attack that says nothing of its steps."""

        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        @property
        def traits(self):
            return replace(self.inner.traits, steps=None)

    exam = examined(trained(), ("pgd:steps=5",), count=12)
    planned = plan("pgd:steps=5", eps=EPS)
    unknown = AttackResult(
        replace(planned, attack=Endless(planned.attack)), exam.results[0].outcome, exam.results[0].image
    )
    said = forecast(replace(exam, results=(unknown,)), check_requests(1))
    assert said.unbounded
    assert "about" in said.describe()


def test_it_costs_the_model_next_to_nothing():
    """Where students are fitted and starts looked for beforehand, half of the time goes into saying what it will be."""
    model = trained()
    exam = examined(model, ("pgd:steps=5", "apgd:steps=10", "square:queries=50"), count=24)
    assert len(exam.clean_logits)
    images = {request.check: 0 for request in check_requests(3)}
    for request in check_requests(3):
        rows = []
        handle = model.register_forward_hook(lambda _, inputs, __, rows=rows: rows.append(len(inputs[0])))
        try:
            forecast(exam, [request])
        finally:
            handle.remove()
        images[request.check] += sum(rows)
    assert max(images.values()) <= 4 * len(exam.x), images


def test_what_a_model_raises_is_left_to_the_check():
    class Raises(torch.nn.Module):
        def forward(self, x):
            raise RuntimeError("no")

    exam = replace(examined(trained(), ("pgd:steps=5",), count=12), model=Raises())
    assert forecast(exam, check_requests(1)).passes > 0
