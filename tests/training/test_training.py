"""Training: what it minimises, and that stopping it loses nothing."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from assay.data import load
from assay.models import digest
from assay.models import load as load_model
from assay.training import Recipe, paper, train
from assay.training.objectives import Batch, make

DATA = load("scenes:size=16,count=96", split="train")
SMALL = {"arch": "tiny-cnn", "epochs": 3, "batch": 32, "rate": 2e-3, "attack_steps": 2}
RECIPES = {
    "clean": Recipe(**SMALL),
    "pgd-at": Recipe(objective="pgd-at", eps=4 / 255, **SMALL),
    "at-dual": Recipe(objective="at-dual", eps=4 / 255, eps_background=20 / 255, **SMALL),
    "sgd": Recipe(optimiser="sgd", flip=True, milestones=(1,), **(SMALL | {"rate": 0.05})),
}


@pytest.mark.parametrize("name", RECIPES)
def test_loss_falls(name, tmp_path):
    found = train(DATA, Recipe(**{**vars(RECIPES[name]), "epochs": 6}), tmp_path)
    assert found.history[-1].loss < found.history[0].loss
    assert digest(load_model(str(found.path))) == digest(found.model)


@pytest.mark.parametrize("name", ["clean", "at-dual", "sgd"])
def test_a_resumed_run_ends_with_the_same_weights(name, tmp_path):
    whole = train(DATA, RECIPES[name], tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(epoch):
        if epoch.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        train(DATA, RECIPES[name], tmp_path / "parts", progress=stop)
    torch.manual_seed(99)
    resumed = train(DATA, RECIPES[name], tmp_path / "parts")
    assert digest(resumed.model) == digest(whole.model)
    assert [e.loss for e in resumed.history] == [e.loss for e in whole.history]
    again = train(DATA, RECIPES[name], tmp_path / "parts")
    assert digest(again.model) == digest(whole.model)


def test_more_epochs_go_on_and_fewer_are_refused(tmp_path):
    train(DATA, RECIPES["clean"], tmp_path)
    longer = train(DATA, Recipe(**(SMALL | {"epochs": 4})), tmp_path)
    assert len(longer.history) == 4
    with pytest.raises(ValueError, match="epochs: expected at least 4"):
        train(DATA, RECIPES["clean"], tmp_path)


def test_another_recipe_or_other_data_in_the_folder_are_named(tmp_path):
    train(DATA, RECIPES["clean"], tmp_path)
    with pytest.raises(ValueError, match=r"out: expected .*rate was 0\.002, is 0\.01"):
        train(DATA, Recipe(**(SMALL | {"rate": 0.01})), tmp_path)
    with pytest.raises(ValueError, match=r"out: expected .*the data differ"):
        train(DATA.head(64), RECIPES["clean"], tmp_path)


def test_the_trail_keeps_the_epochs_asked_for(tmp_path):
    found = train(DATA, RECIPES["clean"], tmp_path, trail=(0, 2, 3))
    assert sorted(found.trail) == [0, 2, 3]
    digests = {e: digest(load_model(str(p))) for e, p in found.trail.items()}
    assert digests[3] == digest(found.model)
    assert len(set(digests.values())) == 3


def test_at_dual_needs_masks(tmp_path):
    with pytest.raises(ValueError, match="data: expected foreground masks, which at-dual needs"):
        train(load("digits", split="train"), RECIPES["at-dual"], tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(tmp_path):
    recipe = Recipe(**(SMALL | {"rate": 1e30, "optimiser": "sgd"}))
    with pytest.raises(ValueError, match="rate: expected a learning rate at which the loss stays finite"):
        train(DATA, recipe, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_weights_that_are_no_numbers_are_not_kept(tmp_path, monkeypatch):
    """A gradient of the last step that is not finite shows in no loss."""
    from assay.training import loop

    def spoiled(model, recipe):
        class Spoiling(torch.optim.SGD):
            def step(self, closure=None):
                super().step(closure)
                self.param_groups[0]["params"][0].data.fill_(float("nan"))

        return Spoiling(model.parameters(), lr=0.0)

    monkeypatch.setattr(loop, "_optimiser", spoiled)
    with pytest.raises(ValueError, match="rate: expected a learning rate at which the weights stay finite"):
        train(DATA, Recipe(**(SMALL | {"epochs": 1, "batch": len(DATA)})), tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    assert not (tmp_path / "checkpoint.pt").exists()


def test_inner_attack_uses_the_budget_and_leaves_training_mode():
    from assay.models import build

    model = build("tiny-cnn", channels=3, classes=8, size=16).train()
    x, y, mask = DATA.images(slice(0, 16)), DATA.y[:16], DATA.masks[:16].float()
    clean = torch.nn.functional.cross_entropy(model.eval()(x), y)
    model.train()
    batch = Batch(x, y, torch.arange(16), 0, mask)
    for name in ("pgd-at", "at-dual"):
        loss = make(name, eps=4 / 255, eps_background=20 / 255, steps=5)(model, batch)
        assert model.training
        assert loss.requires_grad
        assert loss > 0.5 * clean


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "tradse"}, "did you mean 'trades'?"),
        ({"patience": 2}, "validate: expected a share"),
        ({"schedule": "linear"}, "schedule: expected one of"),
        ({"precision": "int8"}, "precision: expected one of"),
        ({"optimiser": "lion"}, "optimiser: expected one of"),
        ({"objective": "pgd-at"}, "eps: expected a budget, which pgd-at needs"),
        ({"objective": "at-dual", "eps": 0.1}, "eps_background: expected the background budget"),
        ({"rate": 0}, "rate: expected a finite number above 0"),
        ({"batch": 0}, "batch: expected a whole number"),
        ({"epochs": -1}, "epochs: expected a whole number"),
        ({"milestones": (0,)}, "milestones: expected a whole number that is at least 1"),
        ({"drop": 2}, "drop: expected a finite number above 0 and at most 1"),
        ({"norm": "l0"}, "norm: expected one of"),
    ],
)
def test_bad_recipes(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Recipe(**changes)


def test_schedules_are_those_of_the_paper():
    recipe = paper("segment-6", "pgd-at", eps=8 / 255)
    assert (recipe.epochs, recipe.batch, recipe.rate, recipe.attack_steps) == (60, 128, 1e-3, 10)
    assert [round(recipe.learning_rate(e) / 1e-3, 6) for e in (0, 19, 20, 39, 40, 59)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    recipe = paper("stl-10", "clean")
    assert (recipe.epochs, recipe.batch, recipe.rate) == (20, 64, 1e-4)
    assert [round(recipe.learning_rate(e) / 1e-4, 6) for e in (7, 8, 14, 15)] == [1, 0.1, 0.1, 0.01]
    assert paper("imagenet-10", "at-dual", norm="l2", eps=2.0, eps_background=20.0).attack_steps == 50


@pytest.mark.kill
@pytest.mark.timeout(900)
def test_killed_at_random_moments_it_ends_with_the_same_weights(tmp_path):
    command = [
        sys.executable,
        "-m",
        "assay",
        "train",
        "--data",
        "scenes:size=16,count=400",
        "--epochs",
        "60",
        "--objective",
        "pgd-at",
        "--eps",
        "4/255",
        "--attack-steps",
        "2",
        "--batch",
        "32",
    ]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, capture_output=True)
    draws, kept, kills = random.Random(0), tmp_path / "parts" / "checkpoint.pt", 0

    def stamp():
        return kept.stat().st_mtime_ns if kept.exists() else 0

    while kills < 20:
        process = subprocess.Popen(
            [*command, "--out", str(tmp_path / "parts")], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        before = stamp()
        if kills % 4:  # three of four runs get to a checkpoint first; the others die on the way there
            while stamp() == before and process.poll() is None:
                time.sleep(0.005)
            time.sleep(draws.uniform(0, 0.2))
        else:
            time.sleep(draws.uniform(1, 4))
        assert process.poll() is None, "it ended before it was killed 20 times"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    subprocess.run([*command, "--out", str(tmp_path / "parts")], check=True, capture_output=True)
    names = [str(tmp_path / part / "model.safetensors") for part in ("whole", "parts")]
    assert digest(load_model(names[0])) == digest(load_model(names[1]))
