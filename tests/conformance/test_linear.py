"""Closed form: on a linear model the best perturbation is known for every norm."""

import pytest
import torch

import assay
from assay import APGD, FGSM, PGD, Ball, Split
from models_for_tests import Linear, images

N = 8
NORMS = {"linf": 0.1, "l2": 1.0, "l1": 0.4}


def dual_norm(w, norm):
    return {"linf": w.abs().sum(), "l2": w.norm(), "l1": w.abs().max()}[norm]


def problem(boxed=False):
    """Two classes far apart (nothing breaks), so that the margin gained is the whole result."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(2, 2, 6, 6, generator=generator)
    x = images(N) if boxed else 0.5 + 0.02 * torch.randn(N, 2, 6, 6, generator=generator)
    model = Linear(weight, torch.tensor([60.0, 0.0]))
    return model, x, torch.zeros(N, dtype=torch.long), weight[1] - weight[0]


def gained(model, x, y, attack, *, targeted, mask=None, preflight=True):
    outcome = assay.attack(
        model,
        x,
        y,
        attack,
        stop="never",
        mask=mask,
        target=torch.ones_like(y) if targeted else None,
        preflight=preflight,
    )
    before = (model(x)[:, 1] - model(x)[:, 0]).detach()
    assert outcome.count(assay.Status.SURVIVED) == N
    assert (outcome.size <= 1 + 1e-5).all()
    return outcome.margin - before


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", ["pgd", "apgd-ce", "apgd-dlr", "fgsm"])
def test_reaches_the_optimum(kind, norm, targeted):
    model, x, y, direction = problem()
    eps = NORMS[norm]
    attack = {
        "pgd": PGD(eps, norm=norm, steps=60, step_size=eps / 4),
        "apgd-ce": APGD(eps, norm=norm),
        "apgd-dlr": APGD(eps, norm=norm, loss="dlr"),
        "fgsm": FGSM(eps, norm=norm),
    }[kind]
    gain = gained(model, x, y, attack, targeted=targeted)
    best = eps * dual_norm(direction, norm)
    assert (gain >= 0.999 * best).all()
    assert (gain <= 1.0001 * best).all()


SIDES = {8: (2, 2), 75: (3, 5), 192: (3, 8), 3072: (3, 32)}
"""Channels and side by the number of values."""


def wide_problem(values, boxed):
    """Two classes far apart, images of so many values, in mid-grey or up to the box."""
    channels, side = SIDES[values]
    generator = torch.Generator().manual_seed(values)
    weight = torch.randn(2, channels, side, side, generator=generator)
    x = torch.rand(N, channels, side, side, generator=generator)
    x = (1.2 * x - 0.1).clamp(0, 1) if boxed else 0.3 + 0.4 * x
    model = Linear(weight, torch.tensor([10 * values**0.5, 0.0]))
    return model, x, torch.zeros(N, dtype=torch.long), weight[1] - weight[0]


@pytest.mark.parametrize("values", SIDES)
@pytest.mark.parametrize("steps", [10, 20, 40, 100])
@pytest.mark.parametrize("kind", ["pgd", "bim", "mim"])
def test_l2_steps_of_default_size_reach_the_optimum(kind, steps, values):
    """Inside the box, and where it stops many of the pixels."""
    make = {"pgd": PGD, "bim": assay.BIM, "mim": assay.MIM}[kind]
    for boxed, eps in ((False, 0.2), (True, 0.08 * values**0.5)):
        share = 0.99 if boxed and values == 8 else 0.999  # of eight values the box stops those that matter most
        model, x, y, direction = wide_problem(values, boxed)
        best = boxed_optimum(direction, x, "l2", eps)
        gain = gained(model, x, y, make(eps, norm="l2", steps=steps), targeted=False, preflight=False)
        assert (gain >= share * best).all()
        assert (gain <= 1.0001 * best).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("values", [75, 192, 3072])
def test_all_defaults_reach_the_optimum(norm, values):
    """PGD and APGD as they are without any argument but the budget."""
    model, x, y, direction = wide_problem(values, boxed=True)
    eps = {"linf": 0.1, "l2": 0.08 * values**0.5, "l1": 0.05 * values}[norm]
    best = boxed_optimum(direction, x, norm, eps)
    for attack in (PGD(eps, norm=norm), APGD(eps, norm=norm)):
        assert (gained(model, x, y, attack, targeted=False, preflight=False) >= 0.999 * best).all()


@pytest.mark.parametrize("steps", [10, 40, 100])
def test_dual_l2_of_default_size_reaches_the_optimum(steps):
    model, x, y, direction = wide_problem(192, boxed=False)
    mask = torch.zeros(N, 1, 8, 8)
    mask[:, :, 1:5, 2:7] = 1
    best = 0.1 * (direction * mask[0]).norm() + 0.3 * (direction * (1 - mask[0])).norm()
    attack = assay.DualPerturbation(0.1, 0.3, norm="l2", steps=steps)
    gain = gained(model, x, y, attack, targeted=False, mask=mask, preflight=False)
    assert (gain >= 0.999 * best).all()
    assert (gain <= 1.0001 * best).all()


def test_a_step_size_that_is_given_is_the_same_in_every_step():
    for attack in (
        PGD(1.0, norm="l2", step_size=0.1),
        assay.BIM(1.0, norm="l2", step_size=0.1),
        assay.MIM(1.0, norm="l2", step_size=0.1),
    ):
        assert (attack.rule.rate, attack.rule.steps) == (0.1, None)
    assert PGD(0.1, steps=40).rule.rate == 2.5 / 40
    pair = assay.DualPerturbation(1.0, 2.0, norm="l2", steps=10, step_foreground=0.1).rule
    assert (pair.rate, pair.steps) == ((0.1, 0.25), None)


def boxed_optimum(direction, x, norm, eps):
    """The optimum over ball and box, by bisection on the multiplier or by filling the best pixels."""
    size, room = direction.abs().flatten().double(), torch.where(direction > 0, 1 - x, x).flatten(1).double()
    if norm == "linf":
        return (size * room.clamp_max(eps)).sum(1)
    if norm == "l2":
        low, high = torch.zeros(len(x), 1).double(), torch.full((len(x), 1), 1e4).double()
        for _ in range(200):
            middle = (low + high) / 2
            over = torch.minimum(middle * size, room).norm(dim=1, keepdim=True) > eps
            low, high = torch.where(over, low, middle), torch.where(over, middle, high)
        return (torch.minimum(low * size, room) * size).sum(1)
    order = size.argsort(descending=True)
    spent = torch.minimum(room[:, order], (eps - (room[:, order].cumsum(1) - room[:, order])).clamp_min(0))
    return (spent * size[order]).sum(1)


@pytest.mark.parametrize(("norm", "eps", "share"), [("linf", 0.1, 0.999), ("l2", 1.0, 0.999), ("l1", 3.0, 0.999)])
@pytest.mark.parametrize("kind", ["pgd", "apgd"])
def test_reaches_the_optimum_at_the_box(kind, norm, eps, share):
    model, x, y, direction = problem(boxed=True)
    attack = PGD(eps, norm=norm, steps=60, step_size=eps / 4) if kind == "pgd" else APGD(eps, norm=norm)
    best = boxed_optimum(direction, x, norm, eps)
    assert (gained(model, x, y, attack, targeted=False) >= share * best).all()
    assert (gained(model, x, y, FGSM(eps, norm=norm), targeted=False) >= 0.999 * best).all()


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", ["dual", "dual-apgd", "dual-mim", "dual-restarts"])
def test_dual_perturbation_reaches_the_optimum(kind, norm, targeted):
    """ε_F‖w_F‖* + ε_B‖w_B‖*, for the dual attack and for what comes free by the geometry."""
    model, x, y, direction = problem()
    mask = torch.zeros(N, 1, 6, 6)
    mask[:, :, 1:4, 2:6] = 1
    front, back = 0.25 * NORMS[norm], NORMS[norm]
    split = Split(Ball(norm, front), Ball(norm, back))
    steps = {"step_foreground": front / 4, "step_background": back / 4}

    def dual():
        if norm == "l1":  # the attack of the paper has linf and l2; the same search on the set itself
            return PGD(split, steps=60)
        return assay.DualPerturbation(front, back, norm=norm, steps=60, **steps)

    attack = {
        "dual": dual,
        "dual-apgd": lambda: APGD(split),
        "dual-mim": lambda: assay.MIM(split, steps=20),
        "dual-restarts": lambda: assay.Restarts(dual(), 2),
    }[kind]()
    best = front * dual_norm(direction * mask[0], norm) + back * dual_norm(direction * (1 - mask[0]), norm)
    gain = gained(model, x, y, attack, targeted=targeted, mask=mask)
    assert (gain >= 0.999 * best).all()
    assert (gain <= 1.0001 * best).all()


def test_confident_model_still_gives_a_direction():
    """Logits 10⁴ apart: cross-entropy is 0 in float32 and its plain gradient too."""
    model, x, y, direction = problem()
    with torch.no_grad():
        model.weight.mul_(100)
        model.bias.mul_(200)
    gain = gained(model, x, y, PGD(0.1, steps=10), targeted=False)
    assert (gain >= 0.999 * 100 * 0.1 * direction.abs().sum()).all()
