"""Properties of every diagnostic in the registry, and of the one that the guide for contributors shows."""

import copy
import re
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from assay.data import load
from assay.diagnostics.context import DiagnosticContext
from assay.diagnostics.registry import DIAGNOSTICS, Diagnostic
from assay.diagnostics.trail import Trail

GUIDE = Path(__file__).parents[2] / "CONTRIBUTING.md"


def guide():
    """The diagnostic of the guide, as a module of its own."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
    (code,) = (block for block in blocks if "class Confidence" in block)
    module = sys.modules["somebody_elses.confidence"] = types.ModuleType("somebody_elses.confidence")
    exec(compile(code, "confidence.py", "exec"), vars(module))

    def ask(context):
        return module.confidence(context.networks, context.test.images(), progress=context.progress)

    return Diagnostic(ask, "Confidence", "How sure is the model of its answers?", trail=False)


def fragile(seed):
    """A network that answers otherwise in training mode, and changes in it."""
    torch.manual_seed(seed)
    layers = (nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(8 * 49, 8))
    return nn.Sequential(*layers).train()


def relative(model):
    """A network near another one: right about nearly the same images."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.05 * parameter.abs().mean() * torch.randn(parameter.shape, generator=generator)
    return other


@pytest.fixture(scope="module")
def part():
    """Images with the answers of the first network as labels, so that every question has an answer."""
    images = load("scenes:size=16,count=60", split="test").head(12, 0)
    with torch.no_grad():
        return replace(images, y=fragile(0).eval()(images.images()).argmax(1))


@pytest.mark.parametrize("name", [*DIAGNOSTICS, "the guide's"])
def test_models_stay_as_they_are_and_the_answer_is_the_same_again(name, part):
    diagnostic = DIAGNOSTICS.get(name) or guide()
    models = {"one": fragile(0), "two": relative(fragile(0))}
    before = {key: {k: v.clone() for k, v in model.state_dict().items()} for key, model in models.items()}
    trail = Trail({0: models["one"], 1: models["two"]}) if diagnostic.trail else None
    context = DiagnosticContext(
        trail, {} if trail else models, part, part, eps=0.2, updates=1, search_steps=2, progress=lambda *_: None
    )

    def ask():
        answer = diagnostic.ask(context)
        return answer.verdict(), repr(answer.frame())

    answers = [ask(), ask()]
    assert answers[0] == answers[1]
    for key, model in models.items():
        assert all(part_of.training for part_of in model.modules()), key
        assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
        assert all(torch.equal(value, before[key][k]) for k, value in model.state_dict().items())


@pytest.mark.parametrize("name", [*DIAGNOSTICS, "the guide's"])
def test_answers_show_themselves(name, part):
    """A sentence, records with the same columns, a figure."""
    diagnostic = DIAGNOSTICS.get(name) or guide()
    models = {"one": fragile(0).eval(), "two": relative(fragile(0)).eval()}
    trail = Trail({0: models["one"], 1: models["two"]}) if diagnostic.trail else None
    context = DiagnosticContext(trail, {} if trail else models, part, part, eps=0.2, updates=1, search_steps=2)
    answer = diagnostic.ask(context)
    assert answer.verdict().strip().endswith(".")
    assert len({tuple(record) for record in answer.frame()}) <= 1
    assert type(answer.figure()).__name__ == "Figure"
    assert diagnostic.question.endswith("?")
