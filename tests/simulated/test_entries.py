"""Every entry point on a device that is not the CPU: attacks, training, diagnostics, certificates, signatures, runs."""

import copy
import csv
import inspect
import re

import pytest
import torch

import assay
from assay import diagnostics
from assay.cli import main
from assay.defences import DEFENCES, adaptation_of, defend
from assay.defences.fitted import FITTINGS, fit_defence
from assay.diagnostics.context import DiagnosticContext
from assay.diagnostics.filters import Standard
from assay.diagnostics.registry import DIAGNOSTICS
from assay.diagnostics.trail import Trail
from assay.masks.learned_saliency import SaliencyNetwork
from assay.masks.score import foreground_score
from assay.training import Recipe, train
from conformance import test_contexts
from conformance.test_contexts import ENTRIES, X, Y, network
from defences import test_fitted as defence_tests
from diagnostics.test_every_diagnostic import fragile, relative
from diagnostics.test_every_diagnostic import part as labelled
from runs.builders import STUDY

SHORT = Recipe(arch="tiny-cnn", epochs=1, rate=3e-3)
NUMBER = re.compile(r"\d+(?:\.\d+)?")


@pytest.mark.parametrize("name", ENTRIES)
def test_results_are_those_of_the_cpu(name, tmp_path):
    here = ENTRIES[name](network(), X, Y, tmp_path / "here")
    device = "cpu" if name == "whole_training" else "sim"  # it builds its own network, of data that are on the CPU
    there = ENTRIES[name](network().to(device), X.to(device), Y.to(device), tmp_path / "there")
    test_contexts.same([t.cpu() for t in there], [t.cpu() for t in here])


def apart(sentence):
    """A sentence without its numbers, and these: rounding moves them, with a dozen images by a few hundredths."""
    return NUMBER.sub("#", sentence), [float(n) for n in NUMBER.findall(sentence)]


@pytest.fixture(scope="module")
def part():
    return labelled.__wrapped__()


@pytest.mark.parametrize("name", DIAGNOSTICS)
def test_diagnostics_answer_as_on_the_cpu(name, part):
    diagnostic, answers = DIAGNOSTICS[name], []
    for device in ("cpu", "sim"):
        one = fragile(0).eval()
        models = {"one": one.to(device), "two": relative(copy.deepcopy(one).cpu()).eval().to(device)}
        trail = Trail({0: models["one"], 1: models["two"]}) if diagnostic.trail else None
        context = DiagnosticContext(trail, {} if trail else models, part, part, eps=0.2, updates=1, search_steps=2)
        answers.append(diagnostic.ask(context).verdict())
    words, numbers = zip(*(apart(answer) for answer in answers), strict=True)
    assert words[0] == words[1]
    assert torch.allclose(*map(torch.tensor, numbers), atol=0.05, rtol=0.2)


def test_a_study_gives_the_verdicts_of_the_cpu(tmp_path):
    """Trained, attacked, checked and written: only the device is another."""
    tables = []
    for device in ("cpu", "sim"):
        file = tmp_path / f"{device}.yaml"
        file.write_text(STUDY.replace("{shard: 8}", f"{{shard: 8, device: {device}}}"))
        assert main(["run", str(file), "-o", str(tmp_path / device), "--quiet"]) == 0
        with (tmp_path / device / "samples.csv").open() as table:
            tables.append(list(csv.DictReader(table)))
    here, there = ([(row["model"], row["attack"], row["status"]) for row in rows] for rows in tables)
    apart = sum(one != other for one, other in zip(here, there, strict=True))
    assert apart <= len(here) // 50  # training rounds otherwise in another layout


def diagnosed(device, part):
    """What each diagnostic for networks and images answers, networks and images on a device."""
    x, y, masks = (t.to(device) for t in (part.x[:6].float() / 255, part.y[:6], part.masks[:6].float()))
    one = fragile(0).eval().to(device)
    models, attack = {"one": one, "two": relative(fragile(0).eval()).to(device)}, assay.PGD(0.2, steps=2)
    trail, attacks = Trail({0: one, 1: models["two"]}), {"pgd": attack, "other": assay.PGD(0.1, steps=2)}
    return {
        "attribution": lambda: diagnostics.attribution(models, x, y, eps=0.2, steps=2),
        "budgets": lambda: diagnostics.budgets(models, x, y, lambda eps: assay.PGD(eps, steps=2), eps=[0.1, 0.2]),
        "destruction": lambda: diagnostics.destruction(trail, x, y, attacks),
        "gradients": lambda: diagnostics.gradients(models, x, y, masks=masks),
        "interpretability": lambda: diagnostics.interpretability(one, x, y, (y + 1) % 8, attacks),
        "learning": lambda: diagnostics.learning(trail, {"test": (x, y)}, attacks),
        "parameters": lambda: diagnostics.parameters(one, x, y, attacks, (x, y)),
        "sharedness": lambda: diagnostics.sharedness(trail, (x, y), (1 - x, y), attack),
        "stability": lambda: diagnostics.stability(trail, x, y, attack),
        "surface": lambda: diagnostics.surface(models, x, y, eps=0.2),
        "suspicion": lambda: diagnostics.suspicion(models, x, y, masks, eps=0.1, eps_background=0.2, steps=2),
        "targets": lambda: diagnostics.targets(one, x, y, 8, attacks),
        "tradeoff": lambda: diagnostics.tradeoff(models, x, y, attack),
        "transfer": lambda: diagnostics.transfer(models, x, y, attack),
    }


def measured(device, part):
    """What the parts of diagnostics give, networks and images on a device."""
    x, y = (t.to(device) for t in (part.x[:4].float() / 255, part.y[:4]))
    one, moved = fragile(0).eval().to(device), 1 - x
    standard = Standard.of(diagnostics.filter_gradients(one, x, y))
    return {
        "activation_map": lambda: diagnostics.activation_map(one, x, y)[0],
        "adversarial_saliency": lambda: diagnostics.adversarial_saliency(one, x, y, (y + 1) % 8).promotion,
        "destruction_rate": lambda: torch.tensor(diagnostics.destruction_rate(one, x, moved, y, torch.sqrt)),
        "filter_gradients": lambda: diagnostics.filter_gradients(one, x, y),
        "input_saliency": lambda: diagnostics.input_saliency(one, x, y, standard),
        "spread": lambda: diagnostics.spread(one, moved - x, x, y).cost,
    }


def test_diagnostics_take_images_from_the_device(part):
    functions = {name: getattr(diagnostics, name) for name in diagnostics.__all__}
    with_images = {
        name for name, f in functions.items() if inspect.isfunction(f) and "x" in inspect.signature(f).parameters
    }
    assert with_images <= {*diagnosed("cpu", part), *measured("cpu", part)}  # a new one is tried here, too
    for name in diagnosed("cpu", part):
        here, there = (apart(diagnosed(device, part)[name]().verdict())[0] for device in ("cpu", "sim"))
        assert here == there, name
    for name in measured("cpu", part):
        here, there = (measured(device, part)[name]() for device in ("cpu", "sim"))
        assert there.device.type == "cpu", name
        assert torch.allclose(here, there, atol=1e-3, equal_nan=True), name


def test_a_saliency_network_may_be_on_a_device_of_its_own(part):
    x, masks = part.x[:2].float() / 255, part.masks[:2].float()
    network = SaliencyNetwork(3).eval()
    here = foreground_score(network, x, masks)
    there = foreground_score(network.to("sim"), x, masks)
    assert there.device.type == "cpu"
    assert torch.allclose(here, there, atol=1e-4)


def trained_defences(folder):
    """Defences that are trained first, for a classifier of scenes, hardly trained at all."""
    data, model = defence_tests.DATA.take(slice(0, 24)), train(defence_tests.DATA, SHORT, folder / "classifier").model
    attack = assay.FGSM(0.1)
    return model, {
        name: fit_defence(name, data, folder / name, model=model, attack=attack, epochs=1, refuse=0.1)
        for name in FITTINGS
    }


@pytest.fixture(scope="module")
def defences(tmp_path_factory):
    return trained_defences(tmp_path_factory.mktemp("defences"))


@pytest.mark.parametrize("name", DEFENCES)
def test_defences_go_to_the_device_of_their_classifier(name, defences):
    (model, files), outcomes = defences, []
    x, y = defence_tests.DATA.images(slice(0, 4)), defence_tests.DATA.y[:4]
    for device in ("cpu", "sim"):
        defended = defend(copy.deepcopy(model).to(device), defence_tests.spec_of(name, files))
        adaptation = adaptation_of(defended)
        attack = adaptation.adapt(assay.PGD(0.1, steps=3))
        ways = {"surrogate": adaptation.surrogate, "test": adaptation.test, "preflight": False}
        outcomes.append(assay.attack(defended, x.to(device), y.to(device), attack, **ways))
    here, there = outcomes
    assert torch.equal(here.status, there.status)
    assert float((here.images - there.images).abs().max()) <= 0.2
