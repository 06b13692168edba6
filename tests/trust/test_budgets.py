"""Checks where budgets are not one ball in linf: other sets, distances, several claims at once, other libraries."""

import dataclasses

import pytest
import torch

from assay import Peer, perturb
from assay.attacks.functional import Functional
from assay.attacks.plan import plan
from assay.core.combinators import with_budget
from assay.core.outcome import Status
from assay.defences import defend
from assay.parts.balls import Ball, Split
from assay.parts.sparse_sets import Support
from assay.parts.unmeasured_set import UnmeasuredSet
from assay.trust import AttackResult, CheckContext, Level, consistency, run_checks
from assay.trust.answer import worst_result
from assay.trust.budgets import members, outermost, within
from assay.trust.known_answers import known_model
from assay.trust.vary import with_effort
from trust.cases import EPS, data, examined, trained
from trust.zoo import Wrapped, lying, stuck, told


def answer(exam, name):
    return worst_result(run_checks(exam, only=(name,))[name])


def test_what_lies_within_what():
    small, large = Ball("linf", 0.1), Ball("linf", 0.2)
    assert within(small, large)
    assert not within(large, small)
    assert not within(Ball("l2", 0.1), large)
    assert within(small, Split(small, large))
    assert not within(large, Split(small, large))
    assert within(Support(3), Support(5))
    assert not within(Support(3, "pixels"), Support(5))
    assert not within(None, large)
    assert outermost([small, None, large, Split(small, large), UnmeasuredSet("flow"), small]) == (
        large,
        Split(small, large),
        UnmeasuredSet("flow"),
    )
    x = torch.full((2, 1, 2, 2), 0.5)
    moved = x + torch.tensor([0.1, 0.3]).reshape(2, 1, 1, 1)
    assert members(large, x, moved).tolist() == [True, False]
    assert members(UnmeasuredSet("flow"), x, moved).tolist() == [False, False]
    assert members(Split(small, large), x, moved).tolist() == [False, False]  # no mask, nothing known


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("sigma-zero:eps=10", "l0 40"),
        ("dual", "F 16/255, B 80/255"),
        ("patch:side=2,eps=0.2", "eps=0.8"),
        ("stadv:pixels=2", "flow ≤ 8 px"),
        ("recoloradv:eps=0.05", "0.2"),
        ("rotation:degrees=10", "rotation ≤ 40°"),
        ("ddn:eps=0.5", "l2 2"),
        ("boundary:eps=0.5", "l2 2"),
        ("pgd", "linf 16/255"),
    ],
)
def test_every_budget_can_be_widened(spec, words):
    wide = with_budget(plan(spec, eps=EPS).attack, 4)
    assert words in wide.describe() or words in repr(wide)
    none = with_budget(plan(spec, eps=EPS).attack, 0)
    assert repr(none) != repr(plan(spec, eps=EPS).attack)


@pytest.mark.parametrize(
    ("spec", "access", "norm"),
    [
        ("nes", "scores", None),
        ("square", "scores", None),
        ("apgd", "gradient", None),
        ("noise", "none", None),
        ("hopskipjump", "labels", "linf"),
        ("fab-t", "gradient", "linf"),
        ("ddn", "gradient", "l2"),
        ("ead", "gradient", "l1"),
    ],
)
def test_what_an_attack_declares(spec, access, norm):
    attack = plan(spec, eps=0.5, norm="l2" if spec == "ddn" else "linf").attack
    part = attack.stages()[0].attack if hasattr(attack, "stages") else attack
    assert (part.traits.access, part.traits.minimises) == (access, norm)


def test_a_weak_attack_within_another_set_is_found():
    """It is not enough that the attacks on a ball beside it are good ones."""
    exam = examined(trained(), ("apgd:steps=20", "square:queries=100", "sigma-zero:steps=12,eps=10"), count=32)
    found = answer(exam, "B6")
    assert found.level is Level.WARNING
    assert "sigma-zero" in found.about.lower() or "σ-zero" in found.about
    assert "l0 10" in answer(exam, "C6").text or answer(exam, "C6").level is Level.PASSED
    assert answer(exam, "C12").level is not Level.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("spec", "words"),
    [("stadv:steps=1,rate=0.001", "flow ≤ 3 px"), ("recoloradv:steps=1,rate=0.0001,eps=0.3", "colours ≤ 0.3")],
)
def test_noise_within_a_flow_or_a_colour_map_is_held_against_its_attack(spec, words):
    found = answer(examined(trained(), ("pgd:steps=5", spec), count=32), "C6")
    assert found.level is Level.WARNING
    assert words in found.text


def test_random_draws_are_not_held_against_themselves():
    found = answer(examined(trained(), ("pgd:steps=5", "rotation:k=2"), count=16), "C6")
    assert found.level is not Level.OPEN


def test_a_set_that_cannot_be_drawn_from_is_open(monkeypatch):
    monkeypatch.setattr(Functional, "geometry", property(lambda self: UnmeasuredSet("a set of one's own")))
    found = answer(examined(trained(), ("pgd:steps=5", "stadv:steps=3"), count=16), "C6")
    assert found.level is Level.OPEN
    assert "a set of one's own" in found.text


def test_steps_grow_with_the_limit_of_a_flow():
    attack = plan("stadv:pixels=2,rate=0.1", eps=EPS).attack
    assert with_budget(attack, 4).rate == pytest.approx(0.4)
    assert with_budget(attack, 4).deformation.pixels == 8
    assert with_budget(attack, 0).deformation.pixels == 0


@pytest.mark.parametrize(("left", "level"), [(1, Level.PASSED), (2, Level.WARNING)])
def test_one_survivor_does_not_tell_that_a_budget_has_no_effect(monkeypatch, left, level):
    def leave(outcome):
        outcome.status[:] = int(Status.BROKEN)
        outcome.status[:left] = int(Status.SURVIVED)

    exam = told(examined(trained("pgd-at"), (stuck(),), count=16), leave)
    same = exam.results[0].outcome.status == int(Status.BROKEN)
    monkeypatch.setattr(consistency, "broken", lambda outcome: same)  # at every budget
    assert answer(exam, "C2").level is level


def test_attacks_that_keep_nothing_of_a_miss_are_no_false_alarm():
    exam = examined(trained("pgd-at"), ("ddn:steps=20,eps=0.2",), norm="l2", eps=0.2, count=32)
    assert exam.results[0].outcome.count(Status.SURVIVED)
    assert answer(exam, "B11").level is Level.PASSED


def test_a_distance_beside_a_budget_hides_nothing():
    """What breaks at any distance is no success within the budget."""
    alone = examined(trained("pgd-at"), (stuck(),))
    both = dataclasses.replace(
        alone, results=(*alone.results, *examined(trained("pgd-at"), ("deepfool:norm=l2",)).results)
    )
    assert both.results[1].outcome.count(Status.SURVIVED) == 0
    assert answer(alone, "C2").text == answer(both, "C2").text
    assert answer(alone, "C2").level is Level.WARNING
    assert answer(alone, "E1").text == answer(both, "E1").text
    assert [len(both.survivors()), len(alone.survivors())] == [len(alone.survivors())] * 2


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("dual-apgd:steps=20", "dual:steps=1,step_foreground=1e-6,step_background=1e-6"),
        ("dual-apgd:steps=30,norm=l2,eps_foreground=0.3,eps_background=1.0", None),
        ("sigma-zero:eps=5", None),
        ("fmn:norm=l0,eps=5", "sigma-zero:steps=1,eps=5"),
    ],
)
def test_the_known_model_knows_other_sets(good, bad):
    x = torch.zeros(2, 1, 8, 8)
    for spec, passes in ((good, True), (bad, False)):
        if spec is None:
            continue
        result = AttackResult(plan(spec, eps=EPS), None, lambda _: None)
        exam = CheckContext(None, x, torch.zeros(2, dtype=torch.int64), (result,), masks=torch.ones(2, 1, 8, 8))
        found = known_model(exam, result)
        assert (found.level is Level.PASSED) == passes, found.text


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.3), ("l2", 0.5), ("l2", 3.0), ("l1", 1.0), ("l1", 12.0)])
def test_the_known_model_knows_the_box(norm, eps):
    """Where the box is nearer than the ball the best perturbation is another one."""
    x = torch.zeros(2, 1, 8, 8)
    for spec, level in (("apgd:steps=20", Level.PASSED), ("pgd:steps=1,step_size=1e-6", Level.ISSUE)):
        result = AttackResult(plan(spec, eps=eps, norm=norm), None, lambda _: None)
        exam = CheckContext(None, x, torch.zeros(2, dtype=torch.int64), (result,))
        assert known_model(exam, result).level is level


def flat(logits):
    """A model's outputs, squashed."""
    return logits.sigmoid()


def test_a_sigmoid_is_told():
    assert answer(examined(Wrapped(after=flat), ("pgd:steps=2",)), "A4").level is Level.ISSUE


@pytest.mark.parametrize(("classes", "each", "share"), [(100, 5, 0.6), (10, 6, 0.5), (2, 8, 0.8)])
def test_few_images_of_many_classes_are_no_alarm(classes, each, share):
    from trust.test_trust import Told

    alarms = 0
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        y = torch.arange(classes).repeat(each)
        other = (y + torch.randint(1, classes, y.shape, generator=draw)) % classes
        x = torch.zeros(len(y), 1, 4, 4)
        x[:, 0, 0, 0] = torch.where(torch.rand(len(y), generator=draw) < share, y, other) / 1000
        exam = CheckContext(Told(classes), x, y, samples=len(y))
        alarms += answer(exam, "A11").level in (Level.ISSUE, Level.WARNING)
    assert alarms <= 1


def test_less_than_the_commonest_class_is_no_chance():
    """Of uneven classes a model may be right more seldom than one that names the commonest, and know them both."""
    from trust.test_trust import Told

    y = torch.tensor([0] * 90 + [1] * 10)
    answer_of = torch.where(torch.arange(100) % 6 == 0, 1 - y, y)  # 83 of 100
    x = torch.zeros(100, 1, 4, 4)
    x[:, 0, 0, 0] = answer_of / 1000
    assert answer(CheckContext(Told(2), x, y, samples=100), "A11").level in (Level.PASSED, Level.OPEN)


def test_a_librarys_attack_that_does_nothing_is_found():
    """An attack of another library keeps what it made: where nothing moved, nothing was attacked."""
    exam = examined(trained("pgd-at"), ("pgd:steps=2",), count=32)
    idle = Peer("foolbox:LinfPGD", lambda model, x, y, _target: x, eps=EPS)
    from assay import attack

    outcome = attack(exam.model, exam.x, exam.y, idle, preflight=False)
    planned = dataclasses.replace(exam.results[0].planned, attack=idle)
    one = dataclasses.replace(exam.results[0], planned=planned, outcome=outcome)
    assert answer(dataclasses.replace(exam, results=(one,)), "B11").level is Level.ISSUE


def test_naming_the_commonest_class_is_chance():
    y = torch.tensor([0] * 48 + [1] * 16)
    x = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 2)).eval()
    with torch.no_grad():
        model[1].bias.copy_(torch.tensor([100.0, 0.0]))
    assert answer(CheckContext(model, x, y), "A11").level is Level.ISSUE


def test_a_detector_may_refuse_grey_images():
    """Everything far from an image is refused: that is no sign of a failing attack."""
    model = defend(trained(), "squeezing:threshold=0.05")
    found = answer(examined(model, ("pgd:steps=5",), count=16), "C3")
    assert found.level is not Level.ISSUE


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_planting_in_other_precisions(kind):
    import copy

    found = answer(examined(copy.deepcopy(trained()).to(kind), ("apgd:steps=20",), count=16), "C11")
    assert not found.failed, found.text


def theirs(strength):
    """A stand-in for another library's attack: so many steps of PGD, counted by its own argument."""

    def run(model, x, y, _target):
        return perturb(model, x, y, plan(f"pgd:steps={strength}", eps=EPS).attack)

    return Peer("foolbox:LinfPGD", run, eps=EPS, arguments=(("steps", strength),))


def test_arguments_of_other_libraries_are_part_of_the_attack():
    assert repr(theirs(1)) != repr(theirs(40))
    assert theirs(40).describe() == "foolbox:LinfPGD,steps=40 linf 4/255"
    newer = dataclasses.replace(theirs(40), version="2")
    assert repr(newer) != repr(theirs(40))


def test_steps_of_other_libraries_can_be_doubled(monkeypatch):
    from assay.attacks.peers import adapter as peers

    monkeypatch.setattr(peers, "peer", lambda spec, eps, *, norm, access, **given: (spec, eps, norm, given))
    known = dataclasses.replace(theirs(10), arguments=(("rel_stepsize", 0.1), ("steps", 10)))
    assert known.vary(effort=2) == ("foolbox:LinfPGD", EPS, "linf", {"rel_stepsize": 0.1, "steps": 20})
    assert known.vary(step_size=0.5) == ("foolbox:LinfPGD", EPS, "linf", {"rel_stepsize": 0.05, "steps": 10})
    unknown = dataclasses.replace(theirs(1), arguments=())
    assert with_effort(unknown, 2) is None


def test_restarts_of_other_libraries_draw_anew():
    from assay import Restarts, attack

    drawn = []

    def run(model, x, y, _target):
        drawn.append(torch.rand(1).item())
        return x

    x, y = data(4)
    model = trained("pgd-at")
    for _ in range(2):
        attack(model, x, y, Restarts(Peer("mine", run, eps=EPS), 3), preflight=False)
    assert drawn[: len(drawn) // 2] == drawn[len(drawn) // 2 :]
    assert len(set(drawn)) == 3


def test_what_other_libraries_maximise_is_looked_at():
    """Their cross-entropy has no gradient behind saturated logits, whatever ours does."""
    model = Wrapped(after=lambda z: 1e4 * z)
    exam = examined(model, ("pgd:steps=2",), count=32)
    assert answer(exam, "A6").level is Level.PASSED
    planned = dataclasses.replace(exam.results[0].planned, attack=theirs(2))
    other = dataclasses.replace(exam, results=(dataclasses.replace(exam.results[0], planned=planned),))
    assert answer(other, "A6").level is Level.ISSUE


def test_an_attack_that_lies_is_still_found_beside_a_distance():
    exam = told(examined(trained("pgd-at"), ("pgd:steps=10", "deepfool")), lying)
    assert answer(exam, "B1").level is Level.ISSUE
