"""Universal perturbations: one δ for all, by its update rule, with a curve, and no trace on the model."""

import pytest
import torch

import assay
from assay import UniversalDeepFool, UniversalPatch, UniversalSign, universal
from assay.attacks.universal_perturbations.patch import paste
from assay.data import random_batches
from models_for_tests import Linear, images, mlp, predicted


def problem(n=64):
    model, x = mlp(), images(n)
    return model, x, predicted(model, x)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_sign_follows_its_update_rule(norm):
    """Two updates of two batches, written out."""
    model, x, y = problem(32)
    parts = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 32, 8)]
    eps, step = (0.1, 0.04) if norm == "linf" else (1.0, 0.3)
    made = universal(model, parts, UniversalSign(eps, norm, step, updates=2, batches=2))
    delta = torch.zeros(1, *x.shape[1:])
    for update in range(2):
        total = torch.zeros_like(delta)
        for xb, yb in parts[2 * update : 2 * update + 2]:
            z = (xb + delta).clamp(0, 1).requires_grad_()
            (grad,) = torch.autograd.grad(torch.nn.functional.cross_entropy(model(z), yb, reduction="sum"), z)
            mean = grad.mean(0, keepdim=True)
            total += mean.sign() if norm == "linf" else mean / mean.norm()
        delta = delta + step / 2 * total
        delta = delta.clamp(-eps, eps) if norm == "linf" else delta * min(1, eps / delta.norm().item())
    assert torch.allclose(made.delta, delta, atol=1e-5)
    assert made.finished
    assert len(made.curve) == 2


@pytest.mark.parametrize(
    "attack",
    [UniversalSign(0.15, updates=15, batches=2), UniversalSign(1.5, "l2", updates=15, batches=2)],
    ids=lambda a: a.describe(),
)
def test_it_fools_more_than_noise_of_the_same_size(attack):
    model, x, y = problem(256)
    train, test = x[:192], x[192:]
    made = universal(model, lambda: zip(train.split(32), y[:192].split(32), strict=True), attack)
    assert made.geometry.size(made.delta.double(), None).item() <= 1 + 1e-5
    with torch.no_grad():
        fooled = (model(made.apply(test)).argmax(1) != y[192:]).float().mean().item()
        noise = attack.eps * torch.randn(20, *made.delta.shape[1:], generator=torch.Generator().manual_seed(0)).sign()
        if attack.norm == "l2":
            noise = noise * attack.eps / noise.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        rates = [(model((test + n).clamp(0, 1)).argmax(1) != y[192:]).float().mean().item() for n in noise]
    assert fooled > 1.5 * sum(rates) / len(rates)
    assert made.curve[-1].fooled > made.curve[0].fooled


@pytest.mark.parametrize(
    "attack",
    [
        UniversalDeepFool(0.15, updates=6),
        UniversalDeepFool(1.5, "l2", updates=6),
        UniversalDeepFool(0.15, updates=6, together=8),
        UniversalDeepFool(0.15, updates=6, inner="l2"),
    ],
    ids=lambda a: f"{a.describe()} {a.together} {a.inner}",
)
def test_deepfool_steps_add_up_inside_the_ball(attack):
    """On this network the steps of different images partly cancel; it still fools images that nothing fooled before."""
    model, x, y = problem(256)
    train, test = x[:192], x[192:]
    made = universal(model, lambda: zip(train.split(32), y[:192].split(32), strict=True), attack)
    assert made.geometry.size(made.delta.double(), None).item() <= 1 + 1e-5
    with torch.no_grad():
        assert (model(made.apply(test)).argmax(1) != y[192:]).float().mean() > 0.1


def test_a_data_set_can_be_given_as_it_is():
    model, x, y = problem(64)
    data = assay.data.Dataset(x, y, tuple("abcd"))
    made = universal(model, data, UniversalSign(0.1, updates=2, batches=1))
    same = universal(model, random_batches(x, y), UniversalSign(0.1, updates=2, batches=1))
    assert torch.equal(made.delta, same.delta)


def test_deepfool_on_two_classes_finds_the_common_direction():
    """All images of one class have the same nearest boundary: one step fools them all."""
    weight = torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    x = images(32, size=5, channels=1)
    model = Linear(weight)
    with torch.no_grad():
        y = model(x).argmax(1)
    side = (y == y.mode().values).nonzero().squeeze(1)
    made = universal(model, [(x[side], y[side])], UniversalDeepFool(5.0, "l2", updates=1))
    with torch.no_grad():
        clean = model(x[side]).argmax(1)
        assert (model(x[side] + made.delta).argmax(1) != clean).all()
    direction = (weight[1] - weight[0]).flatten()
    cosine = torch.nn.functional.cosine_similarity(made.delta.flatten(), direction, dim=0).abs()
    assert cosine > 0.9


def test_steps_of_deepfool_are_small_in_the_inner_norm():
    """On a linear network a step is along the weights in l2, and along their signs in linf."""
    weight = torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    model, x = Linear(weight), images(1, size=5, channels=1)
    x = 0.4 + 0.2 * x  # far from the box
    with torch.no_grad():
        y = model(x).argmax(1)
    way = (weight[1] - weight[0]).flatten()
    for inner, along in (("l2", way), (None, way.sign())):
        result = universal(model, [(x, y)], UniversalDeepFool(5.0, updates=1, inner=inner))
        assert torch.nn.functional.cosine_similarity(result.delta.flatten(), along, dim=0).abs() > 0.999
    with pytest.raises(ValueError, match="inner: expected one of 'linf', 'l2'"):
        UniversalDeepFool(0.1, inner="l1")


def test_linear_model_has_the_known_optimum():
    """Two classes: every image wants the same direction, ε·sign(w)."""
    weight = torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    model, x = Linear(weight), images(32, size=5, channels=1)
    y = torch.zeros(32, dtype=torch.long)
    made = universal(model, [(x, y)], UniversalSign(0.1, updates=10, batches=1))
    assert torch.allclose(made.delta[0], 0.1 * (weight[1] - weight[0]).sign(), atol=1e-6)


def test_targeted_detector_and_continued():
    model, x, y = problem(64)
    aimed = universal(model, [(x, y)], UniversalSign(0.3, updates=20, batches=1, target=2))
    with torch.no_grad():
        assert (model(aimed.apply(x)).argmax(1) == 2).float().mean() > 2 * (y == 2).float().mean()
    first = universal(model, [(x, y)], UniversalSign(0.1, updates=3, batches=1))
    rest = universal(model, [(x, y)], UniversalSign(0.1, updates=2, batches=1), start=first.delta)
    whole = universal(model, [(x, y)], UniversalSign(0.1, updates=5, batches=1))
    assert torch.allclose(rest.delta, whole.delta)


def test_model_is_left_as_found_and_ctrl_c_keeps_what_there_is():
    model, x, y = problem(16)
    model.train()
    seen = []

    def stop(point):
        seen.append(point)
        if len(seen) == 3:
            raise KeyboardInterrupt

    made = universal(model, [(x, y)], UniversalSign(0.1, updates=10, batches=1), progress=stop)
    assert not made.finished
    assert len(made.curve) == 3
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_patch_works_where_it_is_put():
    model, x, y = problem(128)
    made = universal(model, [(x, y)], UniversalPatch(4, updates=40, step_size=0.1))
    patch = made.delta[:, :, :4, :4]
    assert patch.min() >= 0
    assert patch.max() <= 1
    place = torch.rand(128, 2, generator=torch.Generator().manual_seed(1))
    image, region = paste(x, patch, place)
    assert (region.flatten(1).sum(1) == 16).all()
    assert torch.equal(torch.where(region > 0, x, image), x)
    grey, _ = paste(x, torch.full_like(patch, 0.5), place)
    with torch.no_grad():
        fooled, plain = ((model(z).argmax(1) != y).float().mean() for z in (image, grey))
    assert fooled > plain + 0.1


def test_random_batches_are_a_function_of_the_seed():
    _, x, y = problem(16)
    first, again, other = (next(random_batches(x, y, 8, seed)) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x, y: universal(m, [(x, y)], assay.PGD(0.1)), "attack: expected a universal attack"),
        (lambda m, x, y: universal(m, [], UniversalSign(0.1)), "batches: expected at least one pair"),
        (lambda m, x, y: universal(m, [x], UniversalSign(0.1)), "batches: expected pairs"),
        (lambda m, x, y: universal(m, [(x, y)], UniversalSign(0.1), start=x[:2]), "start: expected a tensor of shape"),
        (lambda m, x, y: UniversalSign(0.1, "l1"), "norm: expected one of"),
        (lambda m, x, y: UniversalDeepFool(-1.0), "eps: expected a finite number"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(*problem(8))
