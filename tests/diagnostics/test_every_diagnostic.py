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

from assay import PGD, diagnostics
from assay.data import load
from assay.diagnostics.context import DiagnosticContext
from assay.diagnostics.registry import DIAGNOSTICS, Diagnostic
from assay.diagnostics.trail import Trail
from assay.study.pace import price_of

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


class Counting(nn.Module):
    """A network that counts the images that it is asked about."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, [0]

    def __deepcopy__(self, memo):
        other = Counting(copy.deepcopy(self.model, memo))
        other.seen = self.seen  # a trail asks copies
        return other

    def forward(self, x):
        self.seen[0] += len(x)
        return self.model(x)


@pytest.mark.parametrize("name", DIAGNOSTICS)
def test_what_it_says_that_it_costs_is_enough_and_not_far_too_much(name, part):
    networks = {"one": Counting(fragile(0)), "two": Counting(relative(fragile(0)))}
    trail = Trail({0: networks["one"], 1: networks["two"]}) if DIAGNOSTICS[name].trail else None
    context = DiagnosticContext(
        trail, {} if trail else networks, part, part, eps=0.01, updates=2, search_steps=20, detector_epochs=2
    )
    cost = DIAGNOSTICS[name].cost(context, lambda attack: price_of(attack, (3, 16, 16), 8))
    DIAGNOSTICS[name].ask(context)
    counted = sum(network.seen[0] for network in networks.values())
    assert counted <= cost.forwards <= 60 * counted, (counted, cost)


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


WITH_IMAGES = {
    "attribution": lambda m, x, y: diagnostics.attribution({"a": m}, x, y, eps=0.1, steps=2),
    "gradients": lambda m, x, y: diagnostics.gradients({"a": m}, x, y),
    "surface": lambda m, x, y: diagnostics.surface({"a": m}, x, y, eps=0.1, places=3),
    "transfer": lambda m, x, y: diagnostics.transfer({"a": m, "b": m}, x, y, PGD(0.1, steps=2)),
    "tradeoff": lambda m, x, y: diagnostics.tradeoff({"a": m}, x, y, PGD(0.1, steps=2)),
    "targets": lambda m, x, y: diagnostics.targets(m, x, y, 8, {"PGD": PGD(0.1, steps=2)}),
    "parameters": lambda m, x, y: diagnostics.parameters(m, x, y, {"PGD": PGD(0.1, steps=2)}, (x, y)),
    "filter_gradients": lambda m, x, y: diagnostics.filter_gradients(m, x, y),
    "adversarial_saliency": lambda m, x, y: diagnostics.adversarial_saliency(m, x, y, (y + 1) % 8),
    "activation_map": lambda m, x, y: diagnostics.activation_map(m, x, y),
    "destruction_rate": lambda m, x, y: diagnostics.destruction_rate(m, x, x, y, lambda images: images),
    "spread": lambda m, x, y: diagnostics.spread(m, torch.zeros_like(x), x, y),
}


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_images_of_another_number_format_come_to_that_of_the_network(name, part):
    x, y = part.images()[:6], part.y[:6]
    for network, images in ((fragile(0).eval(), x.double()), (fragile(0).eval().double(), x)):
        WITH_IMAGES[name](network, images, y)
    with pytest.raises(TypeError, match=r"x: expected a float tensor .*divide 8-bit images by 255.* torch.uint8"):
        WITH_IMAGES[name](fragile(0).eval(), (255 * x).byte(), y)


@pytest.mark.parametrize("name", ["attribution", "parameters", "filter_gradients", "activation_map"])
def test_a_network_without_gradients_is_told_so(name, part):
    network = fragile(0).eval()
    with pytest.raises(ValueError, match=r"expected (a network|models) with (a gradient|gradients)"):
        WITH_IMAGES[name](NoGradient(network), part.images()[:6], part.y[:6])


class NoGradient(nn.Module):
    """A network that hides its gradients."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    @torch.no_grad()
    def forward(self, x):
        return self.model(x)
