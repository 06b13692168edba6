"""Planted failures that have a true number, and honest models that have none: what grade each is given (slow)."""

import pytest

from assay.defences import defend
from assay.trust import Level, grade, run_checks
from assay.trust.answer import worst_result
from trust.cases import examined
from trust.failures.base import KINDS, reported
from trust.failures.seen import FAILURES
from trust.honest import HONEST

TOO_HIGH = 0.03
OWN_CHECK = {
    "without the centre, digits": "A7",
    "a vote, digits": "A7",
    "a small step, digits": "C14",
    "upside down, scenes": "A7",
    "half of the channels, scenes": "A7",
    "sees gradients, digits": "A13",
    "sees copies, digits": "A13",
    "no targets, scenes": "C8",
    "a decoy beside a vote, digits": "C15",
    "a decoy beside a sharp softmax, digits": "C15",
    "a substitute that is linear, digits": "D6",
    "a substitute of another training, digits": "D6",
    "accepts bytes alone, digits": "D3",
    "four images, many times, digits": "E4",
    "eight images, with noise, digits": "E4",
    "the easiest images, digits": "E4",
    "one class, digits": "E4",
    "turned back for three classes, digits": "A7",
    "turned back where no module is seen, digits": "C15",
    "a hill before the boundary, digits": "C15",
    "outputs that are always second, digits": "C8",
    "knows its caller, digits": "A13",
    "knows whole levels, digits": "C17",
    "images of the training, digits": "E8",
    "the network's own labels, digits": "E8",
    "away from the boundary, digits": "E8",
    "masks of other images, scenes": "E7",
    "masks of a corner, scenes": "E7",
}


QUICK = {check: name for name, check in reversed(OWN_CHECK.items()) if "digits" in name}
"""The first of each check; all are tried where there is time."""


@pytest.mark.parametrize(
    "name", [n if n in QUICK.values() else pytest.param(n, marks=pytest.mark.slow) for n in OWN_CHECK]
)
def test_a_planted_failure_is_found_by_the_check_that_is_meant_for_it(name):
    (failure,) = (f for f in FAILURES if f.name == name)
    answer = worst_result(run_checks(failure.make().evaluated(), only=(OWN_CHECK[name],))[OWN_CHECK[name]])
    assert answer.level in (Level.ISSUE, Level.WARNING), answer.text


def test_every_kind_is_planted():
    assert {failure.kind for failure in FAILURES} == set(KINDS)
    assert len({failure.name for failure in FAILURES}) == len(FAILURES)


@pytest.mark.slow
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name.replace(" ", "-"))
def test_a_number_that_is_too_high_is_graded_below_standard(failure):
    case = failure.make()
    context = case.evaluated()
    gap = float(reported(context).float().mean()) - case.true_share(context)
    verdict = grade(run_checks(context, everything=False))
    assert verdict.grade != "strong" or gap <= 0
    assert gap <= TOO_HIGH or verdict.grade in ("unusable", "weak"), (gap, verdict)


@pytest.mark.slow
@pytest.mark.parametrize("honest", HONEST, ids=lambda honest: honest.name.replace(" ", "-"))
def test_an_honest_model_evaluated_with_standard_is_graded_strong(honest):
    x, y = honest.pair()
    context = examined(honest.make(), ("standard",), eps=honest.eps, norm=honest.norm, x=x, y=y)
    answers = run_checks(context, everything=False)
    verdict = grade(answers)
    assert verdict.grade == "strong", [(name, worst_result(answers[name]).text) for name in verdict.why]


@pytest.mark.slow
def test_queries_to_a_defence_find_what_its_stand_in_hides():
    """`standard` asks JPEG's stand-in, C5 the defence itself: what it breaks is missing from the number."""
    x, y = HONEST[0].pair()
    context = examined(defend(HONEST[0].make(), "jpeg:quality=60"), ("standard",), eps=HONEST[0].eps, x=x, y=y)
    answers = run_checks(context, only=("C5",))
    assert answers["C5"][0].level is Level.WARNING, answers["C5"][0].text
