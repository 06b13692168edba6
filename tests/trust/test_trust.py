"""The checks: every planted failure is found by its own check, and honest models raise no alarm."""

import copy
import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from assay.attacks import BIM
from assay.attacks.plan import Planned, plan
from assay.cli import main
from assay.core.combinators import with_budget
from assay.core.outcome import Status
from assay.defences import defend
from assay.engine.api import attack, perturb
from assay.trust import CHECKS, GRADES, CheckContext, CheckRequest, CheckResult, Level, grade, run_checks
from assay.trust.answer import DECIDED, worst_result
from assay.trust.defence import FrozenDraws
from assay.trust.grading import STANDARD, STRONG
from assay.trust.planting.planted import planted
from assay.trust.running import settled
from assay.trust.vary import over_the_box, with_effort, with_step_size
from trust.cases import ATTACKS, EPS, HONEST, data, examined, trained
from trust.zoo import ZOO, Wrapped, noisy


@pytest.mark.parametrize("case", ZOO, ids=lambda name: name.replace(" ", "-"))
def test_a_planted_failure_is_found_by_its_own_check(case):
    name, make = ZOO[case]
    found = worst_result(run_checks(make(), only=(name,))[name])
    assert found.level in (Level.ISSUE, Level.WARNING), found.text
    assert "could not be carried out" not in found.text


QUICK = ("clean",)


@pytest.mark.parametrize("case", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in HONEST])
def test_no_false_alarm_on_an_honest_model(case):
    few = case.startswith("smoothed")
    attacks = ("apgd:steps=20", "square:queries=100") if few else ATTACKS
    exam = examined(HONEST[case](), attacks, count=64 if case == "clean" else 32)
    exam = dataclasses.replace(exam, samples=64 if case == "clean" else 24)
    found = run_checks(exam)
    doubts = {
        n: worst_result(a).text for n, a in found.items() if worst_result(a).level in (Level.ISSUE, Level.WARNING)
    }
    assert doubts == {}
    assert grade(found).grade in ("standard", "strong")


def test_scaled_logits_do_not_mask_our_losses():
    """Plain float32 cross-entropy has no gradient there; ours breaks what it breaks without the factor."""
    x, y = data()
    broken = [
        attack(m, x, y, plan("pgd:steps=20", eps=EPS).attack, preflight=False).status.tolist()
        for m in (trained(), Wrapped(after=lambda z: 1e4 * z))
    ]
    assert sum(a != b for a, b in zip(*broken, strict=True)) <= 2  # of 64, on the boundary


def test_a_failure_elsewhere_does_not_silence_its_check():
    """All checks together: the planted failure is among what was found, and the grade falls."""
    name, make = ZOO["masked by rounding"]
    found = run_checks(dataclasses.replace(make(), samples=24), only=(name, "A4", "B6", "C5"))
    assert worst_result(found[name]).level is Level.WARNING
    assert grade(found).grade in ("weak", "unusable")
    assert grade(run_checks(ZOO["no numbers"][1](), everything=False)).grade == "unusable"


def test_before_attacks_only_the_model_is_asked():
    x, y = data()
    found = run_checks(CheckContext(trained(), x, y))
    assert {name[0] for name in found} == {"A"}
    assert grade(found).grade == "weak"
    assert "B1" in grade(found).why


def test_what_attacks_anew_can_be_left_out():
    exam = examined(trained(), ("apgd:steps=20", "square:queries=100"))
    found = run_checks(exam, fast=True)
    assert "skipped" in found["B6"][0].text
    assert grade(found).grade == "weak"


def answers(**levels):
    given = dict.fromkeys(CHECKS, Level.PASSED) | levels
    return {name: (CheckResult(level, "so"),) for name, level in given.items()}


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ({}, ("strong", ())),
        ({"A3": Level.ISSUE, "B6": Level.WARNING}, ("unusable", ("A3",))),
        ({"B6": Level.WARNING}, ("weak", ("B6",))),
        ({"C11": Level.NOT_APPLICABLE}, ("standard", ("C11",))),
        ({"C12": Level.NOT_APPLICABLE}, ("standard", ("C12",))),
        ({"A10": Level.OPEN}, ("weak", ("A10",))),
        ({"D4": Level.OPEN}, ("standard", ("D4",))),
        ({"B3": Level.OPEN}, ("weak", ("B3",))),
        (dict.fromkeys(("C4", "C5", "C6"), Level.NOT_APPLICABLE), ("weak", ("C4", "C5", "C6"))),
        (dict.fromkeys(("C4", "C5"), Level.NOT_APPLICABLE), ("strong", ())),
        ({"D1": Level.NOT_APPLICABLE, "A12": Level.NOT_APPLICABLE}, ("strong", ())),
    ],
)
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
    ("model", "words"), [(trained, "in float64"), (Single, "in float32, as float64 does not work")]
)
def test_the_precision_of_the_slope_is_told(model, words):
    x, y = data()
    (found,) = run_checks(CheckContext(model(), x, y), only=("A7",))["A7"]
    assert found.level is Level.PASSED
    assert words in found.text


def test_what_was_not_asked_is_no_pass():
    some = {name: found for name, found in answers().items() if name != "C6"}
    assert grade(some).grade == "weak"
    assert set(STANDARD) | set(STRONG) <= set(CHECKS)


def test_parameters_are_changed_wherever_they_are():
    attack = plan("standard", eps=EPS).attack
    assert "eps=0.0" in repr(with_budget(attack, 0.0))
    assert repr(with_budget(attack, 1.0)) == repr(attack)
    assert "eps=0.5" in repr(over_the_box(attack, (1, 4, 4), 0.5))
    pgd = plan("pgd:steps=10,restarts=3", eps=EPS).attack
    assert "PGD-20" in with_effort(pgd, 2).describe()
    assert with_step_size(plan("apgd", eps=EPS).attack, 2) is None
    assert with_step_size(pgd, 2) != pgd


def test_what_raises_is_open_and_loses_nothing(monkeypatch):
    from assay.trust import running

    def raising(exam):
        raise KeyError("nobody thought of this")

    asked = {**CHECKS, "A4": dataclasses.replace(CHECKS["A4"], ask=raising)}
    monkeypatch.setattr(running, "CHECKS", asked)
    x, y = data()
    (found,) = run_checks(CheckContext(trained(), x, y), only=("A4",))["A4"]
    assert found.level is Level.OPEN
    assert "could not be carried out: KeyError" in found.text


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_models_of_other_precisions_are_asked_too(kind):
    exam = examined(copy.deepcopy(trained()).to(kind), ("pgd:steps=5",), count=32)
    found = run_checks(exam, fast=True)
    assert not [n for n, answers in found.items() if "could not be carried out" in worst_result(answers).text]
    precise = run_checks(exam, only=("E6",))["E6"][0]
    assert precise.level in (Level.PASSED, Level.WARNING)
    assert ("bfloat16" in precise.text) == (kind is torch.bfloat16)


class Told(torch.nn.Module):
    """Reads its answer off the first pixel of an image."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def forward(self, x):
        at = (x[:, 0, 0, 0] * 1000).round().long()
        return 5.0 * torch.nn.functional.one_hot(at, self.classes).float() + 0 * x.sum((1, 2, 3))[:, None]


@pytest.mark.parametrize(("classes", "share"), [(1000, 0.7), (1000, 0.5), (100, 0.6), (10, 0.5)])
def test_many_classes_are_no_other_order_of_classes(classes, share):
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(0, classes, (128,), generator=draw)
    answer = torch.where(torch.rand(128, generator=draw) < share, y, torch.randint(0, classes, (128,), generator=draw))
    x = torch.zeros(128, 1, 4, 4)
    x[:, 0, 0, 0] = answer / 1000
    honest = CheckContext(Told(classes), x, y, samples=128)
    assert run_checks(honest, only=("A11",))["A11"][0].level in (Level.PASSED, Level.WARNING)
    shifted = dataclasses.replace(honest, y=(y + 1) % classes)
    assert run_checks(shifted, only=("A11",))["A11"][0].level is Level.ISSUE


def test_a_small_l2_budget_is_one():
    x = torch.zeros(4, 3, 224, 224)
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 4)).eval()
    exam = examined(model, ("pgd:steps=1",), eps=0.25, norm="l2", x=x, y=torch.zeros(4, dtype=torch.int64))
    assert run_checks(exam, only=("E3b",))["E3b"][0].level is Level.PASSED


def test_too_few_images_are_no_pass():
    found = run_checks(examined(trained(), ("apgd:steps=20", "square:queries=50"), count=8), fast=True)
    assert worst_result(found["A10"]).level is Level.OPEN
    assert "A10" in grade(found).why


def test_a_refused_image_is_no_success():
    from assay.defences import defend

    exam = examined(defend(trained(), "squeezing:threshold=0.0"), ("pgd:steps=5",), count=16)
    index = torch.arange(4)
    noise = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert not exam.fools(index, noise).any()
    assert (exam.logits(noise).argmax(1).cpu() != exam.y[index]).all()
    (found,) = run_checks(exam, only=("D3",))["D3"]
    assert "it refuses 100 % of clean images" in found.text


def test_random_models_are_shown_their_images_several_times():
    exam = examined(ZOO["random, without expectation"][1]().model, ("pgd:steps=10",))
    (found,) = run_checks(exam, only=("B1",))["B1"]
    assert "of the time" in found.text


def test_frozen_draws_are_frozen_and_nothing_is_drawn_meanwhile():
    """One image gets one answer, and the process goes on as if nothing had been drawn."""
    model, x = ZOO["random, without expectation"][1]().model, data()[0][:1]
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    frozen = FrozenDraws(model, 0)
    assert torch.equal(frozen(x), frozen(x))
    assert not torch.equal(frozen(x), FrozenDraws(model, 1)(x))
    assert torch.equal(torch.rand(2), expected)
    strong = run_checks(examined(model, ("apgd:steps=20",)), only=("D1b",))["D1b"][0]
    assert strong.level is Level.PASSED
    assert "with its draws frozen" in strong.text
    plain = run_checks(examined(trained(), ("pgd:steps=3",)), only=("D1b",))["D1b"][0]
    assert plain.level is Level.NOT_APPLICABLE


@pytest.mark.parametrize("name", ["C11", "C12", "D1b", "B6"])
def test_an_interrupt_inside_an_attack_is_no_answer(name):
    """The engine ends an attack at Ctrl-C and says so; a check that counted what was there would be kept for good."""
    exam = examined(noisy() if name == "D1b" else trained("pgd-at"), ("pgd:steps=3",))
    outcome = exam.results[0].outcome
    outcome = outcome.merge(dataclasses.replace(outcome, events=("interrupted",)), torch.arange(64))
    with pytest.raises(KeyboardInterrupt):
        run_checks(dataclasses.replace(exam, run=lambda *a, **k: outcome), only=(name,))


def test_two_attacks_with_the_same_words_are_two_attacks():
    """B7 goes by what B6 has found of its own attack."""
    weak, idle = (BIM(EPS, steps=4, step_size=size) for size in (EPS / 25, 1e-6))
    assert weak.describe() == idle.describe()
    exam = examined(trained(), [Planned(a, a.describe(), f"linf {EPS}", EPS) for a in (weak, idle)])
    for order in (exam.results, exam.results[::-1]):
        answers = run_checks(dataclasses.replace(exam, results=order, memory={}), only=("B6", "B7"))
        for more, again in zip(answers["B6"], answers["B7"], strict=True):
            assert ("(B6)" in again.text) == (more.level is Level.PASSED and not more.value)
        assert any(answer.value for answer in answers["B6"])


@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["A13", "C8", "C11", "C14", "C15", "E4"])
def test_images_of_either_precision_are_asked_about(name, kind):
    x, y = data(16)
    answer = worst_result(run_checks(examined(trained(), ("pgd:steps=5",), x=x.to(kind), y=y), only=(name,))[name])
    assert not answer.failed, answer.text


@pytest.mark.parametrize("change", [torch.jit.trace, lambda model, x: torch.jit.script(model)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_slope_of_scripted_and_traced_models_is_measured(change):
    x, y = data(16)
    scripted = change(copy.deepcopy(trained())[1].eval(), x[:2])  # past the check of channels, which tracing warns of
    (answer,) = run_checks(CheckContext(scripted, x, y), only=("A7",))["A7"]
    assert answer.level is Level.PASSED, answer.text


def test_without_samples_every_check_says_so():
    exam = dataclasses.replace(examined(trained(), ("pgd:steps=3",), count=8), x=data(8)[0][:0], y=data(8)[1][:0])
    assert {a.level for answers in run_checks(exam).values() for a in answers} == {Level.NOT_APPLICABLE}


@pytest.mark.parametrize("name", ["C4", "C6", "D1b"])
def test_samples_that_raise_have_not_survived(monkeypatch, name):
    """A model that raises while it is attacked again: the check is open, and no pass."""
    model = noisy()
    exam = examined(model, ("bim:steps=2,step_size=0.0005",), count=16)
    exam.is_random, exam.clean_logits  # noqa: B018 (asked before it raises)

    def raising(x):
        raise ValueError("odd")

    model.before = raising
    found = run_checks(exam, only=(name,))[name][0]
    assert found.failed
    assert "samples raised, the first: ValueError: odd" in found.text


def test_a_better_attack_among_the_claims_is_no_false_alarm():
    exam = examined(noisy(), ("bim:steps=2,step_size=0.0005", "apgd:steps=50"))
    assert run_checks(exam, only=("D1b",))["D1b"][0].level is Level.PASSED
    exam = examined(defend(trained(), "bits:bits=6"), ("bim:steps=2,step_size=0.0005", "apgd:steps=50"))
    assert run_checks(exam, only=("D4",))["D4"][0].level is Level.PASSED


@pytest.mark.parametrize("name", ["C6", "B6"])
def test_samples_without_numbers_have_not_survived(name):
    """A model that gives NaN off the grid of 8-bit images: whether the samples survive is not known."""
    exam = examined(trained(), ("bim:steps=2,step_size=0.0005",))
    off_grid = lambda x: (255 * x - (255 * x).round()).abs().amax((1, 2, 3), keepdim=True) > 1e-2  # noqa: E731
    model = Wrapped(before=lambda x: torch.where(off_grid(x), torch.nan, x))
    found = run_checks(dataclasses.replace(exam, model=model), only=(name,))[name][0]
    assert (found.level, found.failed) == (Level.OPEN, False)
    assert "the model gave no numbers" in found.text


def test_bytes_are_looked_at_as_floats_are():
    """Eight-bit images, a quarter of the memory, get the same answers."""
    exam = examined(trained(), ("pgd:steps=5",), count=16)
    stored = dataclasses.replace(exam, x=(255 * exam.x).round().to(torch.uint8))
    only = ("A4", "A10", "B1", "B2", "B6", "C4", "C11")
    assert run_checks(stored, only=only) == run_checks(exam, only=only)


def test_images_that_were_not_kept_cannot_be_shown_again():
    exam = examined(trained(), ("pgd:steps=10",))
    blind = dataclasses.replace(exam, results=tuple(dataclasses.replace(r, image=lambda _: None) for r in exam.results))
    found = run_checks(blind, only=("B1", "B2"))
    assert found["B1"][0].level is Level.OPEN
    assert "no image was kept" in found["B2"][0].text


def test_memory_that_runs_out_is_no_answer():
    class Small(Wrapped):
        def forward(self, x):
            if len(x) > 5:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.model(x)

    x, y = data()
    exam = CheckContext(Small(), x, y)
    assert torch.allclose(exam.clean_logits, CheckContext(trained(), x, y).clean_logits, atol=1e-5)


@pytest.mark.parametrize(
    ("attacks", "level"), [(("bim:steps=1,step_size=0.0005",), Level.WARNING), (("apgd:steps=60",), Level.PASSED)]
)
def test_another_library_breaks_what_was_left(monkeypatch, attacks, level):
    """With a stand-in for the library, which may be absent: C13 warns of what it finds beyond the claims."""
    from assay.attacks.peers.adapter import Peer
    from assay.trust import known_answers

    def theirs(name, *, eps, norm, steps):
        strong = plan(f"pgd:steps={steps}", eps=eps, norm=norm).attack
        return Peer(name, lambda model, x, y, _target: perturb(model, x, y, strong), norm=norm, eps=eps)

    monkeypatch.setattr(known_answers, "peer", theirs)
    monkeypatch.setattr(known_answers.importlib.util, "find_spec", lambda name: name == "foolbox" or None)
    (found,) = run_checks(examined(trained("pgd-at"), attacks), only=("C13",))["C13"]
    assert found.level is level
    assert "PGD-40 of foolbox breaks" in found.text


def test_another_librarys_attack_gets_another_budget():
    from assay.attacks.peers.adapter import Peer

    def remake(eps):
        return lambda model, x, y, target: x + eps

    peer = Peer("foolbox:BoundaryAttack", remake(0.1), eps=0.1, remake=remake)
    x = torch.zeros(2, 1, 4, 4)
    assert float(over_the_box(peer, (1, 4, 4), 0.3).run(None, x, None, None).max()) == pytest.approx(0.3)
    fixed = Peer("foolbox:LinfPGD", remake(0.1), eps=0.1)
    assert over_the_box(fixed, (1, 4, 4), 0.3) is None
    assert (peer.traits.access, fixed.traits.access) == ("labels", "gradient")


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
    run_checks(examined(model, ("pgd:steps=5", "square:queries=50"), count=16))
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert modes == [part.training for part in model.modules()]
    assert all(p.requires_grad for p in model.parameters())


def test_check_on_the_command_line(tmp_path, capsys):
    from assay.models import save

    path = tmp_path / "model.safetensors"
    save(trained().cpu(), path, {"arch": "tiny-cnn", "channels": 3, "classes": 8, "size": 16, "normalize": "half"})
    words = [
        "check",
        str(path),
        "--data",
        "scenes:size=16,count=1200",
        "--eps",
        "4/255",
        "-o",
        str(tmp_path / "run"),
        "--limit",
        "32",
        "--attack",
        "apgd:steps=20",
        "--attack",
        "square:queries=50",
        "--quiet",
    ]
    assert main([*words, "--json"]) in (0, 3)
    told = json.loads(capsys.readouterr().out)
    assert told["grade"] in GRADES
    assert {a["check"] for a in told["answers"]} == set(CHECKS)
    assert main([*words, "--all"]) in (0, 3)
    assert "evidence: " in capsys.readouterr().out


def test_a_required_grade_decides_the_exit_code(tmp_path, capsys):
    model = tmp_path / "m"
    assert main(["train", "--data", "scenes:size=16,count=200", "-o", str(model), "--epochs", "1", "--quiet"]) == 0
    words = [
        "evaluate",
        "--model",
        str(model / "model.safetensors"),
        "--data",
        "scenes:size=16,count=120",
        "--limit",
        "24",
        "-o",
        str(tmp_path / "run"),
        "--attack",
        "pgd:steps=3",
        "--quiet",
    ]
    assert main([*words, "--require", "strong"]) == 3
    assert "required strong" in capsys.readouterr().err
    assert main([*words, "--require", "string"]) == 2
    assert main([*words, "--checks", "none"]) == 0
    assert main([*words, "--checks", "none", "--require", "weak"]) == 3
    assert "no model has a grade" in capsys.readouterr().err


def test_the_check_of_the_guide_is_one():
    """The guide for contributors shows a function that the registry takes as it stands."""
    guide = Path(__file__).parents[2] / "CONTRIBUTING.md"
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", guide.read_text(), re.S) if "def few_classes" in c)
    names = {}
    exec(compile(code, "guide.py", "exec"), names)
    answer = names["few_classes"](examined(trained()))
    assert answer.level is Level.PASSED
    assert answer.text == "8 classes"


def known(**levels):
    """Answers of these levels, by the request of a check."""
    return {CheckRequest(name): CheckResult(Level[level.upper()], level) for name, level in levels.items()}


@pytest.mark.parametrize(
    ("levels", "left_out"),
    [
        ({"A2": "passed"}, set()),
        ({"A2": "open"}, set()),
        ({"A2": "warning"}, {"C5", "C6"}),
        ({"A2": "issue"}, {"C3", "C5", "C6"}),
        ({"C3": "issue"}, {"C5", "C6"}),
        ({"C3": "warning", "C5": "warning"}, {"C5", "C6"}),
        ({"C5": "warning"}, {"C6"}),
        ({"C6": "warning"}, set()),
    ],
)
def test_checks_end_when_the_grade_is_decided(levels, left_out):
    """In the order in which they count, whoever answers first: C6's warning leaves nothing out before it."""
    answers = known(**{"A2": "passed", "C3": "passed", "C5": "passed", "C6": "passed", **levels})
    counted = settled(answers, answers)
    assert {request.check for request, answer in counted.items() if answer.text == DECIDED} == left_out
    assert settled(answers, answers, everything=True) == answers


def test_what_is_not_known_has_to_be_asked_until_an_earlier_answer_decides():
    requests = [CheckRequest(name) for name in ("A2", "C3", "C5", "C6")]
    assert {r.check for r in requests if r not in settled(requests, known(A2="passed", C5="warning"))} == {"C3"}
    assert not [r for r in requests if r not in settled(requests, known(A2="issue"))]


def test_a_squeezed_output_is_not_attacked_again():
    exam = examined(Wrapped(after=lambda z: z.softmax(1)), ("pgd:steps=2",), count=16)
    answers = run_checks(exam, everything=False)
    assert grade(answers).grade == "unusable"
    assert "C5" not in grade(answers).why
    assert worst_result(answers["C5"]).text == DECIDED
    assert worst_result(answers["A4"]).level is Level.ISSUE


@pytest.mark.parametrize(("queries", "most"), [(100, 12), (20_000, 3)])
def test_another_form_is_tried_on_as_many_as_half_of_the_evaluation_pays_for(queries, most):
    """Where few survive and each was dear, B6 would cost more than the evaluation that it checks."""
    exam = examined(trained(), ("square:queries=2",), count=16)
    result = exam.results[0]
    survived = result.outcome.status == int(Status.SURVIVED)
    dear = torch.where(survived, queries, 1)
    outcome = dataclasses.replace(result.outcome, forwards=dear, backwards=torch.zeros_like(dear))
    exam = dataclasses.replace(exam, results=(dataclasses.replace(result, outcome=outcome),))
    sizes = []

    def noted(model, x, y, attack, **options):
        sizes.append(len(x))
        return result.outcome.take(torch.arange(len(x)))

    run_checks(dataclasses.replace(exam, run=noted), only=("B6",))
    assert sizes == [min(most, int(survived.sum()))]
