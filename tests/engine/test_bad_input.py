"""Bad input: each case is one error that names the argument."""

import pytest
import torch
from torch import nn

import assay
from assay import PGD, Ball
from models_for_tests import images, masks, mlp, predicted

MODEL, X = mlp(), images(6)
Y = predicted(MODEL, X)
MASK = masks(6)


def attack(**changes):
    given = {"model": MODEL, "x": X, "y": Y, "attack": PGD(0.1, steps=2)} | changes
    return assay.attack(given.pop("model"), given.pop("x"), given.pop("y"), given.pop("attack"), **given)


CASES = {
    # the call
    "x not a tensor": (lambda: attack(x=[[1]]), "x: expected a float tensor"),
    "x with three dimensions": (lambda: attack(x=X[0]), r"x: expected .* got shape \(2, 6, 6\)"),
    "x in bytes": (lambda: attack(x=(X * 255).byte()), "x: expected .*divide 8-bit images by 255.* got dtype"),
    "x to 255": (lambda: attack(x=X * 255), r"x: expected .* got 403 values outside, from 0 to 255"),
    "x normalised": (lambda: attack(x=X - 0.5), "x: expected .*Normalize"),
    "x of NumPy": (lambda: attack(x=X.numpy()), "x: expected a float tensor .*torch.as_tensor"),
    "y as floats": (lambda: attack(y=Y.float()), r"y: expected an integer tensor of shape \(6,\) \(y.long\(\)\)"),
    "y one-hot in floats": (lambda: attack(y=torch.eye(6, 4)), r"y: expected .*y.argmax\(1\)"),
    "y of another length": (lambda: attack(y=Y[:3]), r"y: expected .* got shape \(3,\)"),
    "y one-hot": (lambda: attack(y=torch.eye(6, 4).long()), r"y: expected .* got shape \(6, 4\)"),
    "y a list": (lambda: attack(y=[0] * 6), "y: expected an integer tensor"),
    "y negative": (lambda: attack(y=Y - 5), "y: expected .* of classes from 0"),
    "y beyond the logits": (lambda: attack(y=Y + 4), "y: expected classes below 4"),
    "target equal to the label": (lambda: attack(target=Y), "target: expected a class other than the label"),
    "target of another length": (lambda: attack(target=Y[:2]), "target: expected an integer tensor"),
    "target beyond the logits": (lambda: attack(target=Y + 7), "target: expected classes below 4"),
    "mask of another size": (lambda: attack(mask=MASK[:, :, :3]), r"mask: expected a foreground mask of shape"),
    "mask with greys": (lambda: attack(mask=0.5 * MASK.float()), "mask: expected .* got other values"),
    "mask a list": (lambda: attack(mask=[1]), "mask: expected a foreground mask"),
    "no mask for dual": (
        lambda: attack(attack=assay.DualPerturbation(0.1, 0.2)),
        "mask: expected .* which this attack needs",
    ),
    "model not callable": (lambda: attack(model="resnet"), "model: expected a callable"),
    "model with one logit": (
        lambda: attack(model=nn.Sequential(nn.Flatten(), nn.Linear(72, 1)), y=torch.zeros(6, dtype=torch.long)),
        r"model: expected logits of shape \(6, k\) with k at least 2",
    ),
    "model with a map of logits": (lambda: attack(model=nn.Identity()), "model: expected logits of shape"),
    "model a mapping": (lambda: attack(model=MODEL.state_dict()), r"model: expected .*load_state_dict\(weights\)"),
    "model a path": (lambda: attack(model="w.pt"), "model: expected .* got 'w.pt' .assay.models.load"),
    "model a class": (lambda: attack(model=nn.Flatten), "model: expected .* got the class Flatten .call it"),
    "attack not called": (lambda: attack(attack=PGD), "attack: expected an attack, .* got PGD, which makes one .call"),
    "attack a class": (lambda: attack(attack=Ball), "attack: expected an attack"),
    "attack a name": (lambda: attack(attack="pgd"), "attack: expected an attack"),
    "stop unknown": (lambda: attack(stop="soon"), "stop: expected one of 'hit', 'never'"),
    "slots zero": (lambda: attack(slots=0), "slots: expected a whole number that is at least 1"),
    "slots a float": (lambda: attack(slots=2.5), "slots: expected a whole number"),
    "search unknown": (lambda: attack(search="float16"), "search: expected one of"),
    "compile unknown": (lambda: attack(compile="yes"), "compile: expected one of"),
    "seed a float": (lambda: attack(seed=0.5), "seed: expected a whole number"),
    "budget zero": (lambda: attack(max_forwards=0), "max_forwards: expected a whole number that is at least 1"),
    "errors unknown": (lambda: attack(errors="ignore"), "errors: expected one of"),
    "ids of another length": (lambda: attack(ids=Y[:2]), "ids: expected an integer tensor"),
    "test not callable": (lambda: attack(test=3), "test: expected a callable"),
    "x with channels last": (
        lambda: assay.attack(nn.Sequential(nn.Conv2d(3, 1, 3), nn.Flatten()), torch.rand(2, 8, 8, 3), Y[:2], PGD(0.1)),
        r"x: expected images of shape \(n, c, h, w\); these have their channels last: x.permute\(0, 3, 1, 2\)",
    ),
    "keep unknown": (lambda: assay.perturb(MODEL, X, Y, PGD(0.1), keep="first"), "keep: expected one of"),
    # the attacks
    "eps negative": (lambda: PGD(-0.1), "eps: expected a finite number that is at least 0, got -0.1"),
    "eps infinite": (lambda: PGD(float("inf")), "eps: expected a finite number"),
    "eps a word": (lambda: PGD("eight"), r"eps: expected a number, or a fraction such as .8/255., got .eight."),
    "eps a bool": (lambda: PGD(True), "eps: expected a finite number"),
    "norm unknown": (lambda: PGD(0.1, norm="l3"), "norm: expected one of 'linf', 'l2', 'l1', got 'l3'"),
    "norm a number": (lambda: PGD(0.1, norm=2), "norm: expected one of"),
    "steps negative": (lambda: PGD(0.1, steps=-1), "steps: expected a whole number that is at least 0"),
    "steps a float": (lambda: assay.APGD(0.1, steps=1.5), "steps: expected a whole number"),
    "step size zero": (lambda: PGD(0.1, step_size=0), "step_size: expected a finite number above 0"),
    "step size for two balls": (
        lambda: PGD(assay.Split(Ball("linf", 0.1), Ball("linf", 0.2)), step_size=0.1),
        "step_size: expected None for a geometry that is not a ball",
    ),
    "restarts zero": (lambda: PGD(0.1, restarts=0), "(restarts|n): expected a whole number that is at least 1"),
    "targets negative": (lambda: assay.APGD(0.1, targets=-1), "targets: expected a whole number"),
    "loss unknown": (lambda: PGD(0.1, loss="hinge"), "loss: expected an Objective or one of 'ce'"),
    "lambda negative": (lambda: assay.DualPerturbation(0.1, 0.2, lam=-1), "lam: expected a finite number"),
    "lambda without saliency": (lambda: assay.DualPerturbation(0.1, 0.2, lam=1), "saliency: expected a saliency model"),
    "foreground budget negative": (lambda: assay.DualPerturbation(-1, 0.2), "eps_foreground: expected"),
    "background step zero": (lambda: assay.DualPerturbation(0.1, 0.2, step_background=0), "step_background: expected"),
    "decay negative": (lambda: assay.MIM(0.1, decay=-1), "decay: expected a finite number"),
    "draws zero": (lambda: assay.UniformNoise(0.1, draws=0), "draws: expected a whole number"),
    "empty cascade": (lambda: assay.Cascade(()), "attacks: expected at least one attack"),
    "no targets": (lambda: assay.Targets(PGD(0.1), 0), "k: expected a whole number that is at least 1"),
    "average unknown": (lambda: assay.Expectation(MODEL, 3, average="max"), "average: expected one of"),
    "sigma negative": (lambda: assay.Expectation(MODEL, 3, sigma=-1), "sigma: expected a finite number"),
    "norm of an outcome": (lambda: attack().norm("l3"), "norm: expected one of"),
}


@pytest.mark.parametrize("case", CASES, ids=lambda name: name.replace(" ", "-"))
def test_bad_input_names_the_argument(case):
    call, message = CASES[case]
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_there_are_enough_cases():
    assert len(CASES) >= 40


def test_images_that_are_no_numbers_are_named_and_not_the_model():
    x = X.clone()
    x[0, 0, 0, 0] = torch.nan
    with pytest.warns(assay.engine.preflight.ModelWarning, match="1 of 6 clean images hold NaN or infinite") as told:
        attack(x=x)
    assert told[0].filename == __file__  # the caller's line, not one of the library's


def test_a_model_that_takes_no_such_images_is_noted():
    with pytest.raises(RuntimeError) as raised:
        attack(model=nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(144, 4)))
    assert any("x of shape (6, 2, 6, 6)" in note for note in raised.value.__notes__)
