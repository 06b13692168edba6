"""Training for certificates."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from assay import certified
from assay.certify import trace
from assay.certify.tracing import live_network
from assay.cli.train import print_epoch
from assay.data import load
from assay.training import Recipe, train
from assay.training.objectives.batch import Batch
from assay.training.objectives.certified import BoundTraining, Schedule, SmallBoxes
from assay.training.records import Epoch
from assay.training.validation import best_epoch, collapse, epochs_waited

EPS = 0.14


def network(seed=0):
    torch.manual_seed(seed)
    layers = (nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 2))
    return nn.Sequential(*layers)


def images(count=64):
    """Two classes that differ by 0.4 on all pixels."""
    torch.manual_seed(1)
    y = torch.arange(count) % 2
    x = 0.3 + 0.4 * y.view(-1, 1, 1, 1) + 0.1 * (torch.rand(count, 1, 4, 4) - 0.5)
    return x, y


def trained(objective, steps=150):
    model, (x, y) = network(), images()
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(steps):
        optimiser.zero_grad()
        objective(model.train(), Batch(x, y, torch.arange(len(x)), step, done=step / steps)).backward()
        optimiser.step()
    return model.eval()


@pytest.mark.parametrize(
    "objective", [BoundTraining(EPS), BoundTraining(EPS, linear=True, clean=0.0), SmallBoxes(EPS, part=0.4, steps=3)]
)
def test_what_is_trained_for_certificates_has_them(objective):
    x, y = images()
    assert certified(trained(objective), x, y, "ibp", eps=EPS).certified_accuracy == 1.0


def test_what_is_trained_clean_has_none():
    x, y = images()
    model = trained(lambda model, batch: nn.functional.cross_entropy(model(batch.x), batch.y))
    assert certified(model, x, y, "ibp", eps=EPS).certified_accuracy < 1.0


@pytest.mark.parametrize(("objective", "is_certified"), [("ibp", True), ("sabr", True), ("pgd-at", False)])
def test_the_log_has_certified_accuracy_of_images_held_out(objective, is_certified, tmp_path, capsys):
    data = load("scenes:size=16,count=120")
    recipe = Recipe(arch="conv-small", normalize="none", objective=objective, eps=0.01, epochs=2, validate=0.25)
    last = train(data, recipe, tmp_path).history[-1]
    assert (last.certified is not None) == is_certified
    if is_certified:
        assert 0 <= last.certified <= last.robust <= last.clean
    print_epoch(last)
    assert ("% certified" in capsys.readouterr().err) == is_certified


def epoch(number, certified, budget, robust=0.5):
    return Epoch(number, 9, 1.0, 0.5, 1e-3, 1.0, 0.9, robust, certified=certified, budget=budget)


def test_patience_waits_for_the_whole_budget_and_goes_by_certified_accuracy():
    ramp = [epoch(1, 0.6, 0.3, robust=0.9), epoch(2, 0.4, 0.7, robust=0.8), epoch(3, 0.3, 0.9, robust=0.7)]
    assert epochs_waited(ramp) == 0
    whole = [*ramp, epoch(4, 0.2, 1.0), epoch(5, 0.3, 1.0, robust=0.4), epoch(6, 0.25, 1.0)]
    assert best_epoch(whole) == 5
    assert epochs_waited(whole) == 1


def test_a_training_with_patience_goes_through_the_ramp(tmp_path):
    recipe = Recipe(arch="conv-small", normalize="none", objective="ibp", eps=0.01, epochs=6, validate=0.25, patience=1)
    history = train(load("scenes:size=16,count=120"), recipe, tmp_path).history
    assert [e.budget < 1 for e in history[:3]] == [True] * 3
    assert history[-1].budget == 1.0
    assert len(history) >= 4


def test_a_collapse_of_clean_accuracy_too_is_no_catastrophic_overfitting():
    before = [replace(epoch(1, None, 1.0, robust=0.5), clean=0.9)]
    assert "catastrophic" in collapse(before, replace(epoch(2, None, 1.0, robust=0.1), clean=0.9))
    assert collapse(before, replace(epoch(2, None, 1.0, robust=0.1), clean=0.1)) == ""


def test_a_network_in_training_is_what_it_is_now():
    model, (x, _) = network(), images(4)
    for _ in range(2):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1
        live, written = live_network(model, (1, 4, 4)), trace(model, (1, 4, 4))
        assert torch.allclose(live.forward(x)[-1].double(), written.forward(x.double())[-1], atol=1e-4)
    loss = live.forward(x)[-1].square().sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.training


def test_the_budget_grows():
    schedule = Schedule(0.1, 0.5)
    assert [schedule.at(done) for done in (0.0, 0.1, 0.35, 0.6, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert Schedule(0.0, 0.0).at(0.0) == 1.0


def test_a_small_box_of_the_whole_ball_is_interval_training():
    model, (x, y) = network(), images()
    batch = Batch(x, y, torch.arange(len(x)), 0)
    assert SmallBoxes(EPS, part=1.0)(model, batch).item() == pytest.approx(
        BoundTraining(EPS, clean=0.0)(model, batch).item()
    )


def test_bounds_are_trained_in_float32(tmp_path):
    recipe = Recipe(arch="conv-small", normalize="none", objective="ibp", eps=0.01, epochs=1, precision="bfloat16")
    with pytest.raises(ValueError, match="precision: expected float32"):
        train(load("scenes:size=16,count=120"), recipe, tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: BoundTraining(0.0), "eps: expected"), (lambda: SmallBoxes(EPS, part=2), "part: expected")],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
