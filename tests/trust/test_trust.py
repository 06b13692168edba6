"""The checks: every planted failure is found by its own check, and honest models raise no alarm."""

import dataclasses
import json

import pytest
import torch

from assay.attacks.registry import plan
from assay.cli import main
from assay.core.run import attack
from assay.trust import CHECKS, GRADES, Exam, Found, Level, examine, grade
from assay.trust.changed import with_radius, with_step_size, with_steps
from assay.trust.grade import STANDARD, STRONG
from assay.trust.planted import planted
from assay.trust.registry import worst
from trust.cases import ATTACKS, EPS, HONEST, data, examined, trained
from trust.zoo import ZOO, Wrapped


@pytest.mark.parametrize("case", ZOO, ids=lambda name: name.replace(" ", "-"))
def test_a_planted_failure_is_found_by_its_own_check(case):
    name, make = ZOO[case]
    found = worst(examine(make(), only=(name,))[name])
    assert found.level in (Level.ISSUE, Level.WARNING), found.text
    assert "could not be carried out" not in found.text


@pytest.mark.parametrize("case", HONEST)
def test_no_false_alarm_on_an_honest_model(case):
    few = case.startswith("smoothed")
    exam = examined(
        HONEST[case](), ("apgd:steps=20", "square:queries=100") if few else ATTACKS, count=32 if few else 64
    )
    found = examine(exam)
    doubts = {n: worst(a).text for n, a in found.items() if worst(a).level in (Level.ISSUE, Level.WARNING)}
    assert doubts == {}
    assert grade(found).grade in ("standard", "strong")


def test_scaled_logits_do_not_mask_our_losses():
    """Plain float32 cross-entropy has no gradient there; ours breaks what it breaks without the factor."""
    x, y = data()
    broken = [attack(m, x, y, plan("pgd:steps=20", eps=EPS).attack, preflight=False).status.tolist()
              for m in (trained(), Wrapped(after=lambda z: 1e4 * z))]  # fmt: skip
    assert sum(a != b for a, b in zip(*broken, strict=True)) <= 2  # of 64, on the boundary


def test_a_failure_elsewhere_does_not_silence_its_check():
    """All checks together: the planted failure is among what was found, and the grade falls."""
    name, make = ZOO["masked by rounding"]
    found = examine(dataclasses.replace(make(), samples=24))
    assert worst(found[name]).level is Level.WARNING
    assert grade(found).grade in ("weak", "unusable")
    assert grade(examine(ZOO["no numbers"][1]())).grade == "unusable"


def test_before_attacks_only_the_model_is_asked():
    x, y = data()
    found = examine(Exam(trained(), x, y))
    assert {name[0] for name in found} == {"A"}
    assert grade(found).grade == "weak"
    assert "B1" in grade(found).why


def test_what_attacks_anew_can_be_left_out():
    exam = examined(trained(), ("apgd:steps=20", "square:queries=100"))
    found = examine(exam, fast=True)
    assert "left out" in found["B6"][0].text
    assert grade(found).grade == "weak"


def answers(**levels):
    given = dict.fromkeys(CHECKS, Level.PASSED) | levels
    return {name: (Found(level, "so"),) for name, level in given.items()}


@pytest.mark.parametrize(("levels", "expected"), [
    ({}, ("strong", ())),
    ({"A3": Level.ISSUE, "B6": Level.WARNING}, ("unusable", ("A3",))),
    ({"B6": Level.WARNING}, ("weak", ("B6",))),
    ({"C11": Level.NOT_APPLICABLE}, ("standard", ("C11",))),
    (dict.fromkeys(("C4", "C5", "C6"), Level.NOT_APPLICABLE), ("weak", ("C4", "C5", "C6"))),
    (dict.fromkeys(("C4", "C5"), Level.NOT_APPLICABLE), ("strong", ())),
    ({"D1": Level.NOT_APPLICABLE, "A12": Level.NOT_APPLICABLE}, ("strong", ())),
])  # fmt: skip
def test_the_ladder(levels, expected):
    found = grade(answers(**levels))
    assert (found.grade, found.why) == expected
    assert found.grade in GRADES


class Single(Wrapped):
    """Takes float32 alone."""

    def forward(self, x):
        if x.dtype != torch.float32:
            raise TypeError("float32 only")
        return self.model(x)


@pytest.mark.parametrize(
    ("model", "words"), [(trained, "in float64"), (Single, "in float32, as float64 cannot be had")]
)
def test_the_precision_of_the_slope_is_told(model, words):
    x, y = data()
    (found,) = examine(Exam(model(), x, y), only=("A7",))["A7"]
    assert found.level is Level.PASSED
    assert words in found.text


def test_what_was_not_asked_is_no_pass():
    some = {name: found for name, found in answers().items() if name != "C6"}
    assert grade(some).grade == "weak"
    assert set(STANDARD) | set(STRONG) <= set(CHECKS)


def test_parameters_are_changed_wherever_they_are():
    attack = plan("standard", eps=EPS).attack
    assert "eps=0.0" in repr(with_radius(attack, 0.0))
    assert repr(with_radius(attack, EPS)) == repr(attack)
    pgd = plan("pgd:steps=10,restarts=3", eps=EPS).attack
    assert "PGD-20" in with_steps(pgd, 2).describe()
    assert repr(with_step_size(plan("apgd", eps=EPS).attack, 2)) == repr(plan("apgd", eps=EPS).attack)
    assert with_step_size(pgd, 2) != pgd


def test_a_planted_example_is_within_the_budget_and_a_strong_attack_finds_it():
    """The test has an answer: an exhaustive attack succeeds where one step of an eighth of the budget does not."""
    strong = planted(examined(trained(), ("apgd:steps=60",)))
    assert strong.level is Level.PASSED
    assert strong.value >= 0.95
    weak = planted(examined(trained(), ("pgd:steps=1,step_size=0.0005",)))
    assert weak.level is not Level.PASSED


def test_a_model_is_left_as_it_was():
    model = trained()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    examine(examined(model, ("pgd:steps=5", "square:queries=50")))
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert modes == [part.training for part in model.modules()]
    assert all(p.requires_grad for p in model.parameters())


def test_check_on_the_command_line(tmp_path, capsys):
    from assay.models import save

    path = tmp_path / "model.safetensors"
    save(trained().cpu(), path, {"arch": "tiny-cnn", "channels": 3, "classes": 8, "size": 16, "normalize": "half"})
    words = ["check", str(path), "--data", "scenes:size=16,count=1200", "--eps", "4/255", "-o", str(tmp_path / "run"),
             "--limit", "32", "--attack", "apgd:steps=20", "--attack", "square:queries=50", "--quiet"]  # fmt: skip
    assert main([*words, "--json"]) in (0, 3)
    told = json.loads(capsys.readouterr().out)
    assert told["grade"] in GRADES
    assert {a["check"] for a in told["answers"]} == set(CHECKS)
    assert main([*words, "--all"]) in (0, 3)
    assert "grade: " in capsys.readouterr().out


def test_a_required_grade_decides_the_exit_code(tmp_path, capsys):
    model = tmp_path / "m"
    assert main(["train", "--data", "scenes:size=16,count=200", "-o", str(model), "--epochs", "1", "--quiet"]) == 0
    words = ["evaluate", "--model", str(model / "model.safetensors"), "--data", "scenes:size=16,count=120", "--limit",
             "24", "-o", str(tmp_path / "run"), "--attack", "pgd:steps=3", "--quiet"]  # fmt: skip
    assert main([*words, "--require", "strong"]) == 3
    assert "required strong" in capsys.readouterr().err
    assert main([*words, "--require", "string"]) == 2
    assert main([*words, "--checks", "none"]) == 0
