"""Attacks of strangers: in another package, with other field names. Nothing about them is guessed."""

import inspect
import re
import sys
import types
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

import assay
from assay import Status
from assay.attacks.plan import Planned
from assay.core.attack import Step
from assay.core.combinators import Cascade, Restarts, Targets, vary_attacks, with_budget
from assay.core.fingerprint import fingerprint
from assay.core.traits import Traits
from assay.defences import Adaptation
from assay.parts.balls import Ball
from assay.parts.losses import Evasion
from assay.trust.vary import over_the_box, with_effort, with_step_size
from conformance import test_attacks, test_traits
from conformance.table import Case
from models_for_tests import images, mlp, predicted

GUIDE = Path(__file__).parents[2] / "CONTRIBUTING.md"

ONLY_GRADIENTS = (
    "test_images_within_rounding_of_the_boundary_are_broken",
    "test_beats_noise_of_the_same_size",
    "test_it_is_at_least_as_strong_as_one_gradient_step",
)


@pytest.fixture(scope="module")
def guide():
    """The attack that the guide for contributors shows, as a module of its own."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
    (code,) = (block for block in blocks if "class SignFlip" in block)
    module = types.ModuleType("somebody_elses.flip")
    sys.modules["somebody_elses.flip"] = module
    exec(compile(code, "flip.py", "exec"), vars(module))
    yield module
    del sys.modules["somebody_elses.flip"]


def test_the_attack_of_the_guide_has_every_property(guide):
    case = Case(
        "sign-flip",
        lambda eps: guide.SignFlip(eps),
        "linf",
        0.12,
        steps=False,
        gradient=False,
        passes=lambda _: (20, 0),
    )
    assert isinstance(guide.SignFlip(0.1), assay.core.attack.Attack)
    for stop in ("hit", "never"):
        test_attacks.test_shape_box_and_budget(case, stop)
        test_attacks.test_hits_are_real(case, stop)
    for name, check in {**vars(test_attacks), **vars(test_traits)}.items():
        of_one_case = name.startswith("test_") and inspect.signature(check).parameters.keys() == {"case"}
        if of_one_case and name not in ONLY_GRADIENTS:
            check(case)


@dataclass(frozen=True)
class Other:
    """Gradient steps, under names that nobody expects."""

    reach: float = 0.05
    iterations: int = 4
    stride: float = 0.3
    what: object = assay.CrossEntropy()
    needs: tuple = ()

    @property
    def geometry(self):
        return Ball("linf", self.reach)

    @property
    def traits(self):
        return Traits("gradient", self.iterations, objective=self.what)

    def vary(self, *, effort=1, step_size=1, geometry=None, objective=None):
        reach = self.reach if geometry is None else geometry.eps
        iterations = round(effort * self.iterations)
        return replace(
            self, reach=reach, iterations=iterations, stride=step_size * self.stride, what=objective or self.what
        )

    def init(self, rows, rng):
        return (torch.zeros_like(rows.x), torch.zeros(len(rows), dtype=torch.int64))

    def step(self, rows, state, oracle, rng):
        delta, count = state
        image = (rows.x + delta).clamp(0, 1)
        seen = oracle.evaluate(self.what, image, rows)
        moved = (delta + self.stride * self.reach * seen.grad.sign()).clamp(-self.reach, self.reach)
        after = (moved, count + 1)
        return Step(after, image, rows.goal.reached(seen.logits, image), -seen.value, after[1] >= self.iterations)

    def describe(self):
        return f"other-{self.iterations} {self.geometry.describe()}"


FORMS = {
    "alone": lambda attack: attack,
    "restarts": lambda attack: Restarts(attack, 2),
    "targets": lambda attack: Targets(attack, 2),
    "cascade": lambda attack: Cascade((assay.PGD(0.05, steps=3), attack)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_strangers_attack_is_varied_inside_anything(form):
    def inner(attack):
        return assay.core.combinators.unfold(attack)[-1].attack

    attack = FORMS[form](Other())
    assert inner(with_effort(attack, 2)).iterations == 8
    assert inner(with_step_size(attack, 0.5)).stride == 0.15
    assert inner(with_budget(attack, 3)).reach == pytest.approx(0.15)
    assert inner(over_the_box(attack, (3, 8, 8), 0.2)).reach == 0.2
    loss = assay.Margin()
    assert inner(vary_attacks(attack, lambda plain: plain.vary(objective=loss))).what == loss


@pytest.mark.parametrize("form", FORMS)
def test_a_strangers_attack_is_adapted_to_a_defence(form):
    attack = FORMS[form](Other())
    adapted = Adaptation("jointly", objective=Evasion(), methods=("joint",)).adapt(attack)
    assert assay.core.combinators.unfold(adapted)[-1].attack.what == Evasion()
    assert Adaptation("no loss of its own").adapt(attack) is attack


def test_a_strangers_attack_is_told_apart_by_what_it_declares():
    """Neither its name nor its module says that it uses gradients."""
    from assay.trust import run_checks
    from trust.cases import examined, trained

    planned = Planned(Other(reach=4 / 255), "other", "linf 4/255", 4 / 255)
    exam = examined(trained(), (planned,), count=16)
    found = run_checks(exam, only=("A6", "C10", "B6", "B8"))
    assert found["C10"][0].text.startswith("1 attack by gradients; for one without, C5: ")
    assert "cross-entropy" in found["A6"][0].text
    assert "twice the steps" in found["B6"][0].text
    assert "step size" in found["B8"][0].text
    assert "chooses its step size" not in found["B8"][0].text


def test_its_own_file_is_part_of_a_results_identity():
    assert fingerprint(Other()).code


def test_it_runs_like_any_other():
    model, x = mlp(), images(24)
    outcome = assay.attack(model, x, predicted(model, x), Other(), preflight=False)
    assert outcome.count(Status.BROKEN) > 0
