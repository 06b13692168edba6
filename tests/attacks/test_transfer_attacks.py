"""What transfer attacks are made of, against formulas of their own, and what they are for: other networks."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import assay
from assay.attacks.transfer import (
    Admixed,
    AveragedGradient,
    DiverseInput,
    Lookahead,
    MixingImages,
    PatchWise,
    PlainGradient,
    ScaledCopies,
    SmoothedGradient,
    VarianceTuned,
    through,
)
from assay.attacks.transfer.gradients import Look
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows, untargeted
from assay.parts.balls import Ball
from assay.parts.step_rules import Move
from models_for_tests import images, mlp, predicted

SIZE = 12


class Smooth(nn.Module):
    """A network whose gradient changes from point to point."""

    def __init__(self, seed=0, channels=2, classes=3):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(6 * SIZE * SIZE, classes)
        )

    def forward(self, x):
        return self.body(x)


@pytest.fixture
def look():
    model, x = Smooth(), images(6, channels=2, size=SIZE)
    oracle = Oracle(model)
    oracle.start(len(x))
    y = predicted(model, x)
    rows = Rows(x, untargeted(y), torch.arange(len(x)) + 7)
    step = torch.arange(len(x))
    return model, x, Look(oracle, assay.CrossEntropy(), rows, Rng(3), step)


def gradient(model, x, y):
    leaf = x.clone().requires_grad_()
    functional.cross_entropy(model(leaf), y, reduction="sum").backward()
    return leaf.grad


def test_scaled_copies_are_a_mean_over_halved_images(look):
    model, x, at = look
    seen, _ = AveragedGradient((ScaledCopies(3),)).evaluate(x, at, ())
    y = at.rows.goal.label
    wanted = sum(gradient(lambda z, s=s: model(z * s), x, y) for s in (1, 0.5, 0.25)) / 3
    assert torch.allclose(seen.grad, wanted, atol=1e-6)
    assert torch.allclose(seen.logits, model(x))


def test_a_diverse_input_is_torchs_resize_put_into_a_black_image(look):
    _, x, at = look
    moved = DiverseInput(p=1.0, smallest=0.5).apply(x, at.rows, at.rng, at.step, "d", 0)
    draw = Rng(3).uniform(at.rows.key, (4,), "d", at.step)
    for image, out, (_, size, top, left) in zip(x, moved, draw.tolist(), strict=True):
        side = min(6 + int(size * 7), SIZE)
        i, j = int(top * (SIZE + 1 - side)), int(left * (SIZE + 1 - side))
        wanted = torch.zeros_like(image)
        small = functional.interpolate(image[None], (side, side), mode="bilinear", align_corners=False)[0]
        wanted[:, i : i + side, j : j + side] = small
        assert torch.allclose(out, wanted, atol=1e-5)
    assert torch.equal(DiverseInput(p=0.0).apply(x, at.rows, at.rng, at.step, "d", 0), x)


def test_about_a_share_p_of_the_steps_is_changed(look):
    _, x, at = look
    steps = [DiverseInput(p=0.3).apply(x, at.rows, at.rng, at.step + 10 * i, "d", 0) for i in range(200)]
    changed = torch.stack([(own != x).flatten(1).any(1) for own in steps]).double().mean()
    assert 0.2 < changed < 0.35  # of those that are drawn, some keep the whole side


def test_a_smoothed_gradient_is_that_of_the_mean_over_shifts(look):
    _, x, at = look
    plain, _ = PlainGradient().evaluate(x, at, ())
    seen, _ = SmoothedGradient(kernel=3, spread=1.0).evaluate(x, at, ())
    weights = torch.exp(-0.5 * torch.tensor([-1.0, 0.0, 1.0]) ** 2)
    weights = weights / weights.sum()
    padded, wanted = functional.pad(plain.grad, (1, 1, 1, 1)), torch.zeros_like(x)
    for i in range(3):
        for j in range(3):
            wanted += weights[i] * weights[j] * padded[:, :, i : i + SIZE, j : j + SIZE]
    assert torch.allclose(seen.grad, wanted, atol=1e-6)


def test_the_variance_is_the_mean_gradient_around_minus_the_gradient(look):
    model, x, at = look
    source = VarianceTuned(Ball("linf", 0.05), samples=3, reach=1.5)
    first, state = source.evaluate(x, at, source.init(x))
    y = at.rows.goal.label
    own = gradient(model, x, y)
    assert torch.allclose(first.grad, own, atol=1e-6)
    around = torch.zeros_like(x)
    for i in range(3):
        draw = Rng(3).uniform(at.rows.key, tuple(x.shape[1:]), f"transfer neighbour {i}", at.step)
        around += gradient(model, (x + 0.075 * (2 * draw - 1)).clamp(0, 1), y)
    second, _ = source.evaluate(x, at, state)
    assert torch.allclose(second.grad, own + around / 3 - own, atol=1e-6)


def test_the_point_ahead_is_where_momentum_goes(look):
    model, x, at = look
    source = Lookahead(Ball("linf", 0.1), 0.2, decay=0.9)
    _, state = source.evaluate(x, at, source.init(x))
    y = at.rows.goal.label
    own = gradient(model, x, y)
    momentum = own / own.abs().flatten(1).mean(1).reshape(-1, 1, 1, 1)
    ahead, _ = source.evaluate(x, at, state)
    wanted = gradient(model, (x + 0.02 * 0.9 * momentum).clamp(0, 1), y)
    assert torch.allclose(ahead.grad, wanted, atol=1e-6)


def test_mixed_images_are_of_other_classes_and_fit(look):
    _, x, at = look
    pool = MixingImages("patterns:size=8,classes=3,count=30", count=12)
    drawn = pool.draw(x, at.rows, at.rng, at.step, "m")
    assert drawn.shape == x.shape
    fitted = functional.interpolate(pool.pool[0], (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
    grey = fitted.mean(1, keepdim=True).expand(-1, 2, -1, -1)
    for one, label in zip(drawn, at.rows.goal.label, strict=True):
        (nth,) = (grey - one).abs().flatten(1).amax(1).lt(1e-6).nonzero()[0].tolist()
        assert pool.pool[1][nth] != label
    mixed = Admixed(pool, share=0.2).apply(x, at.rows, at.rng, at.step, "m", 1)
    assert torch.allclose(mixed, x + 0.2 * pool.draw(x, at.rows, at.rng, at.step, "m 1"))


def test_what_a_pixel_has_too_much_goes_to_its_neighbours():
    rule = PatchWise(Ball("linf", 0.1), rate=0.1, amplification=10.0)
    grad = torch.zeros(1, 1, 3, 3)
    grad[0, 0, 1, 1] = 2.0
    move = Move(None, torch.zeros(1, 1, 3, 3), grad, None, torch.zeros(1), lambda delta: delta.clamp(-0.1, 0.1))
    after, total = rule.update(move, rule.init(grad))
    assert torch.allclose(after, torch.full_like(after, 0.0) + 0.1 * grad / 2)  # 0.1 is not more than the budget
    after, total = rule.update(move._replace(parameters=after), total)
    assert torch.allclose(total[0, 0, 1, 1], torch.tensor(0.2))
    assert torch.allclose(after, torch.full_like(after, 0.1))  # the excess of the middle moves all around it


def test_draws_do_not_depend_on_the_batch():
    model, x = Smooth(), images(9, channels=2, size=SIZE)
    y = predicted(model, x)
    mixing = "patterns:size=8,classes=3,count=30"
    smooth = {"norm": "l2", "eps": 0.2}  # a sign would turn rounding into a step
    for attack in (assay.DIFGSM(**smooth), assay.VMIFGSM(**smooth, samples=3), assay.Admix(**smooth, data=mixing)):
        whole = assay.perturb(model, x, y, attack, seed=0)
        alone = [assay.perturb(model, x[i][None], y[i][None], attack, seed=0, ids=torch.tensor([i])) for i in (2, 5)]
        assert torch.allclose(whole[[2, 5]], torch.cat(alone), atol=1e-4)


def test_an_attack_through_transforms_looks_at_them_and_says_so():
    attack = through(assay.APGD(8 / 255, steps=4), DiverseInput(), ScaledCopies(2))
    assert attack.describe() == (
        "APGD-CE-4 linf 8/255 through DiverseInput(p=0.5, smallest=0.9), ScaledCopies(count=2)"
    )
    assert attack.traits.price == 3
    with pytest.raises(TypeError, match="one single attack by gradients"):
        through(assay.Square(0.1), DiverseInput())
    with pytest.raises(TypeError, match="a tuple of input transforms"):
        through(assay.PGD(0.1), "di")
    with pytest.raises(ValueError, match="without a source of gradients of its own"):
        through(attack, DiverseInput())


def test_images_made_on_one_network_are_measured_on_another():
    source, target = mlp(seed=0), mlp(seed=0, scale=0.5)
    x = images(64)
    y = predicted(target, x)
    outcome = assay.attack(target, x, y, assay.VMIFGSM(0.08, samples=4), surrogate=source)
    assert torch.equal(outcome.predicted, predicted(target, outcome.images))
    assert outcome.robust_accuracy < assay.attack(target, x, y, assay.UniformNoise(0.08)).robust_accuracy
