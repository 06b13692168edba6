"""What training asks of the attacks inside it: steps, budgets and shares that are set have an effect."""

import pytest
import torch
from torch.nn import functional as F

import assay
import assay.training.trainer
from assay.cli.main import main
from assay.data import load
from assay.training import Recipe, train
from assay.training.objectives import OBJECTIVES, make
from assay.training.objectives.batch import Batch
from assay.training.objectives.registry import OPTIONS, check_options, options_of
from models_for_tests import Counting, images, mlp

WITH_STEPS = ("pgd-at", "mixed", "trades", "mart", "alp", "iat", "avmixup", "awp", "attribution")
EPS = 0.05


def batch(n=8):
    x = images(n)
    return Batch(x, torch.arange(n) % 4, torch.arange(n), 0)


def passes(objective):
    model = Counting(mlp())
    objective(model, batch())
    return model.forwards


@pytest.mark.parametrize("name", WITH_STEPS)
def test_the_number_of_passes_changes_with_the_steps(name):
    few, more = (passes(make(name, eps=EPS, steps=steps)) for steps in (2, 7))
    assert more - few == 5 * 8
    assert passes(make(name, eps=EPS)) - few == 8 * 8  # ten by default


@pytest.mark.parametrize("attack", ["bim", "pgd", "mim", "apgd", "pgd:loss=dlr", "ddn", "bim:step_size=1/255", "bim:"])
def test_any_inner_attack_with_steps_takes_them(attack):
    few, more = (passes(make("mixed", eps=EPS, steps=steps, attack=attack)) for steps in (2, 6))
    assert more - few == 4 * 8
    if attack != "ddn":
        stated = passes(
            make("mixed", eps=EPS, steps=2, attack=attack.rstrip(":") + ("," if "=" in attack else ":") + "steps=6")
        )
        assert stated == more


def test_the_share_and_the_attack_of_mixed_are_those_that_are_set():
    net, b = mlp(), batch()
    with torch.no_grad():
        predicted = net(b.x).argmax(1)
    for share, spec, attack in (
        (0.0, "bim:step_size=1/255", assay.BIM(EPS, steps=4, step_size=1 / 255)),
        (0.3, "pgd", assay.PGD(EPS, steps=4)),
        (0.5, None, assay.BIM(EPS, steps=4)),
    ):
        moved = assay.perturb(net, b.x, predicted, attack, seed=b.seed, ids=b.index)
        expected = share * F.cross_entropy(net(b.x), b.y) + (1 - share) * F.cross_entropy(net(moved), b.y)
        loss = make(f"mixed:share={share}", eps=EPS, steps=4, attack=spec)(net, b)
        assert torch.allclose(loss, expected, rtol=1e-5)


def test_steps_of_mixed_reach_training(tmp_path, monkeypatch):
    """From Python and from the command line."""
    used, run = [], assay.training.trainer.TrainingRun

    def spy(data, recipe, objective, *more):
        used.append(objective)
        return run(data, recipe, objective, *more)

    monkeypatch.setattr(assay.training.trainer, "TrainingRun", spy)
    data = load("scenes:size=16,count=32", limit=32)
    for steps in (2, 5):
        recipe = Recipe(epochs=1, eps=EPS, objective="mixed:share=0.25", attack_steps=steps)
        train(data, recipe, tmp_path / f"python{steps}")
        words = [
            "train",
            "--data",
            "scenes:size=16,count=32",
            "--limit",
            "32",
            "--objective",
            "mixed:share=0.25",
            "--eps",
            str(EPS),
            "--attack-steps",
            str(steps),
            "--epochs",
            "1",
            "--quiet",
            "-o",
            str(tmp_path / f"shell{steps}"),
        ]
        assert main(words) == 0
    assert [objective.share for objective in used] == [0.25] * 4
    assert [objective.attack.steps for objective in used] == [2, 2, 5, 5]
    assert passes(used[2]) - passes(used[0]) == 3 * 8


def test_options_that_are_read():
    """Every objective's options, by its own arguments and those of its inner attack."""
    table = {name: set(options_of(name)) for name in OBJECTIVES}
    for name in ("clean", "gaussian", "stability", "distillation", "cure"):
        assert table[name] == set()
    for name in ("free", "fast", "llr"):
        assert table[name] == {"eps", "norm"}
    for name in WITH_STEPS:
        assert table[name] == {"eps", "norm", "attack", "attack_steps"}
    assert table["fgsm-at"] == {"eps", "norm", "attack"}
    assert table["at-dual"] == set(OPTIONS)
    assert options_of("fgsm-at", "pgd") == options_of("pgd-at")
    assert "attack_steps" not in options_of("pgd-at", "fgsm")


@pytest.mark.parametrize(
    ("objective", "option", "attack", "words"),
    [
        ("clean", "attack", None, "as clean has no inner attack (its own options: smoothing, temperature)"),
        ("clean", "eps", None, "as clean has no budget"),
        ("gaussian", "norm", None, "as gaussian has no budget (its own options: sigma)"),
        ("free", "attack_steps", None, "as free has no inner attack (its own options: eps, norm, replays)"),
        ("llr", "attack_steps", None, "as llr has no inner attack (its own options: eps, norm, steps"),
        ("fast", "attack_steps", None, "as fast has no inner attack"),
        ("fgsm-at", "attack_steps", None, "as the inner attack fgsm takes no steps (choose attack pgd"),
        ("mixed", "attack_steps", "fgsm", "as the inner attack fgsm takes no steps"),
        ("pgd-at", "eps_background", None, "as the inner attack pgd has one budget (choose attack dual"),
        ("trades:beta=3", "eps_background", None, "as the inner attack pgd has one budget"),
    ],
)
def test_options_that_are_not_read_are_refused(objective, option, attack, words):
    with pytest.raises(ValueError) as error:
        check_options(objective, [option], attack)
    assert str(error.value).startswith(f"{option}: expected nothing, {words}")


def test_options_that_are_read_are_not_refused():
    for name in OBJECTIVES:
        check_options(name, options_of(name))
    with pytest.raises(ValueError, match="did you mean 'mixed'"):
        check_options("mixd", [])
