"""A package beside assay that registers an attack, a model and a check: found, run, graded, listed."""

import json
import os
import subprocess
import sys

import pytest

PACKAGE = '''
from dataclasses import dataclass, replace

import torch
from torch import nn

from assay.core.attack import Step
from assay.core.traits import Traits
from assay.parts.balls import Ball
from assay.trust.answer import passed, warning
from assay.trust.registry import Check


@dataclass(frozen=True)
class CornerSearch:
    """Random corners of the linf ball."""

    eps: float
    tries: int = 20
    needs: tuple = ()

    @property
    def geometry(self):
        return Ball("linf", self.eps)

    @property
    def traits(self):
        return Traits("none", steps=self.tries, randomised=True)

    def vary(self, *, effort=1, step_size=1, geometry=None, objective=None):
        if step_size != 1 or objective is not None:
            return None
        if geometry is not None and getattr(geometry, "norm", "") != "linf":
            return None
        eps = self.eps if geometry is None else geometry.eps
        return replace(self, eps=eps, tries=max(1, round(effort * self.tries)))

    def init(self, rows, rng):
        return (torch.zeros(len(rows), dtype=torch.int64),)

    def step(self, rows, state, oracle, rng):
        draw = rng.uniform(rows.key, tuple(rows.x.shape[1:]), "corner", state[0]).to(rows.x)
        image = (rows.x + self.eps * torch.where(draw < 0.5, -1.0, 1.0)).clamp(0, 1)
        hit = rows.goal.reached(oracle.logits(image, rows), image)
        return Step((state[0] + 1,), image, hit, (~hit).to(image), state[0] + 1 >= self.tries)

    def describe(self):
        return f"corners-{self.tries} {self.geometry.describe()}"


def few_images(context):
    n = len(context.y)
    return passed("many", n, 100) if n >= 100 else warning(f"{n} images say little", n, 100)


FEW = Check(few_images, "enough images", "my own", before=True)


def flat(channels, classes, size):
    """One linear layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size**2, classes))
'''
POINTS = """
[assay.attacks]
corner-search = assay_extra:CornerSearch
pgd = assay_extra:CornerSearch
broken = assay_extra:missing

[assay.models]
flat = assay_extra:flat

[assay.checks]
X1 = assay_extra:FEW

[assay.defences]
wrong = assay_extra:flat
"""


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """A folder with an installed package, and an environment in which it is on the path."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "assay_extra.py").write_text(PACKAGE)
    about = folder / "assay_extra-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: assay-extra\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(POINTS)
    return folder, {**os.environ, "PYTHONPATH": str(folder)}


def run(beside, *command, code=0):
    folder, environment = beside
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment, cwd=folder, check=False
    )
    assert done.returncode == code, done.stderr
    return done


def test_it_is_listed_with_its_package(beside):
    done = run(beside, "-W", "ignore", "-m", "assay", "ls", "attacks", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)["attacks"]}
    assert rows["corner-search"] == {
        "name": "corner-search",
        "what": "Random corners of the linf ball. (assay-extra 1.2)",
        "arguments": "eps, tries, needs",
    }
    assert rows["pgd"]["what"].startswith("projected gradient descent")
    assert "broken" not in rows


def test_what_cannot_be_used_is_left_out_with_a_warning(beside):
    code = (
        "import warnings\n"
        "from assay.attacks.registry import ATTACKS\nfrom assay.defences.registry import DEFENCES\n"
        "with warnings.catch_warnings(record=True) as told:\n"
        "    warnings.simplefilter('always')\n    list(ATTACKS), list(DEFENCES)\n"
        "print(*(w.message for w in told), sep='\\n')"
    )
    lines = run(beside, "-c", code).stdout.splitlines()
    assert lines[0] == (
        "assay.attacks: 'broken' of assay-extra (assay_extra:missing) is left out: AttributeError: "
        "module 'assay_extra' has no attribute 'missing'"
    )
    assert lines[1] == "assay.attacks: 'pgd' of assay-extra (assay_extra:CornerSearch) is left out: the name is taken"
    assert "an instance of assay.defences.registry.Entry (docs/plugins.md)" in lines[2]


def test_attack_model_and_check_take_part_in_an_evaluation(beside):
    folder, _ = beside
    train = ["train", "--data", "digits", "--arch", "flat", "--epochs", "2", "-o", "net", "--quiet"]
    run(beside, "-W", "ignore", "-m", "assay", *train)
    attacks = ["--attack", "corner-search:tries=5", "--attack", "pgd:steps=3", "--limit", "24", "--eps", "0.05"]
    model = ["--model", "net/model.safetensors", "--data", "digits", "-o", "run", "--quiet"]
    run(beside, "-W", "ignore", "-m", "assay", "evaluate", *model, *attacks)
    summary = json.loads((folder / "run" / "summary.json").read_text())
    text = json.dumps(summary)
    assert "corners-5 linf 0.05" in text
    assert "24 images say little" in text
    done = run(beside, "-W", "ignore", "-m", "assay", "verify", "run")
    assert "nothing is wrong" in done.stdout


def test_the_kit_passes_it(beside):
    code = (
        "from assay.testing import check_attack\nfrom assay_extra import CornerSearch\n"
        "check_attack(lambda eps: CornerSearch(eps, tries=30), norm='linf', eps=0.1)"
    )
    run(beside, "-W", "ignore", "-c", code)
