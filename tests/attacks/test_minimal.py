"""Attacks that minimise a distance: exact on a linear model, on black and white images, with and without a limit."""

import pytest
import torch
from torch import nn

import assay
from assay import DDN, EAD, FAB, FMN, JSMA, CarliniWagnerL0, CarliniWagnerL2, CarliniWagnerLinf, DeepFool, SigmaZero
from assay.attacks.hyperplane import reach
from assay.attacks.jsma import best_pair, best_single
from models_for_tests import Linear, images, mlp, predicted

N = 8


def problem():
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(2, 2, 6, 6, generator=generator)
    x = 0.5 + 0.02 * torch.randn(N, 2, 6, 6, generator=generator)
    model = Linear(weight, torch.tensor([3.0, 0.0]))
    with torch.no_grad():
        z = model(x)
    return model, x, z.argmax(1), (weight[1] - weight[0]).flatten(), (z[:, 0] - z[:, 1]).abs()


def exact(norm, x, w, gap):
    """The least distance: dual norm, or the greedy filling of the box (l1), or the fewest values (l0)."""
    if norm == "linf":
        return gap / w.abs().sum()
    if norm == "l2":
        return gap / w.norm()
    order = w.abs().argsort(descending=True)
    gains = (_room(x, w) * w.abs())[:, order]
    before = gains.cumsum(1) - gains
    if norm == "l0":
        return (before < gap[:, None]).sum(1).float()
    used = torch.minimum(gains, (gap[:, None] - before).clamp_min(0))
    return (used / w.abs()[order]).sum(1)


def _room(x, w):
    """How far each value may go in the direction that lowers the label's lead (all labels are 0)."""
    return torch.where(w > 0, 1 - x.flatten(1), x.flatten(1))


LINEAR = [
    ("deepfool-l2", DeepFool(overshoot=0.01), "l2"),
    ("deepfool-linf", DeepFool(norm="linf", overshoot=0.01), "linf"),
    ("ddn", DDN(), "l2"),
    ("fmn-l2", FMN(), "l2"),
    ("fmn-linf", FMN(norm="linf"), "linf"),
    ("fmn-l1", FMN(norm="l1"), "l1"),
    ("cw-l2", CarliniWagnerL2(200), "l2"),
    ("cw-linf", CarliniWagnerLinf(100, rate=0.005), "linf"),
    ("ead", EAD(500, rate=0.003), "l1"),
    ("fab-l2", FAB(norm="l2"), "l2"),
    ("fab-linf", FAB(), "linf"),
    ("fab-l1", FAB(norm="l1"), "l1"),
]


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize(("attack", "norm"), [c[1:] for c in LINEAR], ids=[c[0] for c in LINEAR])
def test_distance_on_a_linear_model_is_exact(attack, norm, targeted):
    model, x, y, w, gap = problem()
    assert (y == 0).all()
    target = 1 - y if targeted else None
    outcome = assay.attack(model, x, y, attack, target=target, preflight=False)
    ratio = outcome.distance(norm) / exact(norm, x, w, gap)
    assert (ratio <= 1.02).all()
    assert (ratio >= 1 - 1e-4).all()
    assert outcome.success_rate == 1.0


@pytest.mark.parametrize(
    ("attack", "slack"),
    [(FMN(norm="l0"), 1), (SigmaZero(300), 1), (JSMA(both=True), 2), (CarliniWagnerL0(100), 2)],
    ids=["fmn-l0", "sigma-zero", "jsma", "cw-l0"],
)
def test_values_on_a_linear_model_are_few(attack, slack):
    model, x, y, w, gap = problem()
    outcome = assay.attack(model, x, y, attack, preflight=False)
    fewest = exact("l0", x, w, gap)
    assert outcome.success_rate == 1.0
    assert (outcome.norm("l0") >= fewest).all()
    assert (outcome.norm("l0") <= fewest + slack).all()


@pytest.mark.parametrize("attack", [CarliniWagnerL2(200, 5), CarliniWagnerLinf(100), CarliniWagnerL0(100), EAD(200, 5)])
def test_pixels_at_exactly_0_and_1_can_be_changed(attack):
    """On black and white images the tanh of a clipped pixel has no gradient in some libraries, and nothing happens."""
    model = mlp(scale=0.5)
    x = (images(12) > 0.5).float()
    y = predicted(model, x)
    outcome = assay.attack(model, x, y, attack, preflight=False)
    assert outcome.success_rate == 1.0


def test_confidence_is_reached():
    model, x = mlp(), images(12)
    y = predicted(model, x)
    for attack in (CarliniWagnerL2(200, 5, confidence=0.5), EAD(200, 5, confidence=0.5)):
        outcome = assay.attack(model, x, y, attack, preflight=False)
        assert outcome.success_rate == 1.0
        assert (outcome.margin >= 0.5 - 1e-4).all()


@pytest.mark.parametrize(
    "attack", [DeepFool(), DeepFool(norm="linf"), FAB(norm="l2", steps=20), JSMA(both=True), FMN(50)]
)
def test_two_classes(attack):
    model, x = mlp(classes=2), images(12)
    y = predicted(model, x)
    assert assay.attack(model, x, y, attack, preflight=False).success_rate == 1.0


def test_deepfool_finds_the_boundary_that_looking_at_all_classes_finds(monkeypatch):
    """Gradients are taken for three classes at a time; looking at all of them gives the same images."""
    from assay.attacks import deepfool

    model, x = mlp(classes=12, hidden=48), images(24)
    y = predicted(model, x)
    few = assay.attack(model, x, y, DeepFool(), preflight=False)
    monkeypatch.setattr(deepfool, "_AT_ONCE", 11)
    every = assay.attack(model, x, y, DeepFool(), preflight=False)
    assert torch.allclose(few.images, every.images, atol=1e-5)
    assert few.backwards.sum() < 0.7 * every.backwards.sum()


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_reach_is_the_nearest_point_of_the_hyperplane_in_the_box(norm):
    """Feasible, on the plane, and no longer than any of many other points that are."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(50, 7, generator=generator, dtype=torch.float64)
    up, down = torch.rand(2, 50, 7, generator=generator, dtype=torch.float64)
    offset = 0.8 * torch.randn(50, 1, generator=generator, dtype=torch.float64)
    step = reach(norm, normal, up, down, offset)
    assert (step <= up + 1e-12).all()
    assert (step >= -down - 1e-12).all()
    sign = torch.where(offset < 0, -1.0, 1.0)
    most = (normal * sign > 0) * up * (normal * sign).clamp_min(0) + (normal * sign < 0) * down * (-normal * sign)
    possible = most.sum(1, keepdim=True) >= offset.abs()
    on = (normal * step).sum(1, keepdim=True)
    assert torch.allclose(on[possible], offset[possible], atol=1e-9)
    full = torch.where(normal * sign > 0, up, -down)
    assert torch.allclose(step[~possible.squeeze(1)], full[~possible.squeeze(1)], atol=1e-9)
    order = {"l2": 2, "linf": torch.inf, "l1": 1}[norm]
    length = torch.linalg.vector_norm(step, ord=order, dim=1)
    for _ in range(300):
        other = torch.minimum(torch.maximum(step + 0.3 * torch.randn(50, 7, generator=generator), -down), up)
        there = (normal * other * sign).sum(1) >= offset.abs().squeeze(1)
        assert (torch.linalg.vector_norm(other, ord=order, dim=1)[there] >= length[there] - 1e-9).all()


def test_best_pair_is_the_best_of_all_pairs():
    generator = torch.Generator().manual_seed(0)
    rise, fall = torch.randn(2, 20, 30, generator=generator)
    allowed = torch.rand(20, 30, generator=generator) > 0.3
    chosen, value = best_pair(rise, fall, allowed)
    assert (chosen.sum(1) == 2).all()
    assert (chosen <= allowed).all()
    for row in range(20):
        best = -torch.inf
        index = allowed[row].nonzero().squeeze(1).tolist()
        for p in index:
            for q in index:
                a, b = rise[row, p] + rise[row, q], fall[row, p] + fall[row, q]
                if p < q and a > 0 and b > 0:
                    best = max(best, float(a * b))
        assert value[row].item() == pytest.approx(best, rel=1e-5)


def test_best_single_and_nothing_allowed():
    rise, fall = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 2.0, -1.0]])
    chosen, _ = best_single(rise, fall, torch.ones(1, 3, dtype=torch.bool))
    assert chosen.tolist() == [[False, True, False]]
    for function in (best_single, best_pair):
        chosen, value = function(rise, fall, torch.zeros(1, 3, dtype=torch.bool))
        assert not chosen.any()
        assert value.item() == -torch.inf


def test_jsma_memory_grows_with_the_values_not_their_square():
    """224 × 224 × 3 with pairs: a table of all pairs would have 2·10¹⁰ entries."""
    model = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(3 * 14 * 14, 5))
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    y = predicted(model, x)
    outcome = assay.attack(model, x, y, JSMA(gamma=20 / x.numel()), target=(y + 1) % 5, preflight=False)
    assert 0 < outcome.norm("l0").item() <= 20


def test_one_run_gives_the_whole_curve():
    model, x = mlp(), images(24)
    y = predicted(model, x)
    y[0] = (y[0] + 1) % 4
    outcome = assay.attack(model, x, y, FMN(50), preflight=False)
    assert outcome.distance("l2")[0] == 0
    accuracies = [outcome.accuracy_at(eps, "l2") for eps in (0.0, 0.1, 0.2, 0.4, 5.0)]
    assert accuracies[0] == pytest.approx(23 / 24)
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[-1] == 0
    at = assay.attack(model, x, y, FMN(50, eps=0.2), preflight=False)
    assert at.robust_accuracy == pytest.approx(outcome.accuracy_at(0.2, "l2"))


def test_without_a_limit_a_hit_does_not_end_the_search():
    model, x = mlp(), images(24)
    y = predicted(model, x)
    nearest = assay.attack(model, x, y, FMN(60), preflight=False)
    within = assay.attack(model, x, y, FMN(60, eps=1.0), preflight=False)
    assert (nearest.forwards == 60).all()
    assert within.forwards.float().mean() < 20
    assert (nearest.norm("l2") <= within.norm("l2") + 1e-6).all()
    assert nearest.norm("l2").mean() < 0.95 * within.norm("l2").mean()


def test_l0_limits_are_whole_numbers():
    for attack in (SigmaZero, JSMA, CarliniWagnerL0):
        with pytest.raises(ValueError, match="eps: expected a whole number of values"):
            attack(eps=0.03)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 0.3)])
def test_curve_agrees_with_the_attack_at_its_own_budget(norm, eps):
    """A perturbation on the edge of the budget is inside it, rounding or not."""
    model, x = mlp(), images(24)
    y = predicted(model, x)
    outcome = assay.attack(model, x, y, assay.PGD(eps, norm=norm, steps=10), preflight=False)
    assert outcome.accuracy_at(eps, norm) == outcome.robust_accuracy
    with pytest.raises(TypeError, match="eps: expected a finite number"):
        outcome.accuracy_at([eps], norm)
