"""Training objectives against their papers' formulas, written out with plain autograd.

The adversarial images too are made here, step by step, so that nothing of assay is in the expected numbers.
"""

import copy
import math
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from assay import FGSM
from assay.attacks.dual import DualPerturbation
from assay.training.objectives import (
    Adversarial,
    Batch,
    Clean,
    Curvature,
    Distillation,
    Fast,
    Free,
    Gaussian,
    Interpolated,
    LocalLinearity,
    Mart,
    Mixed,
    Pairing,
    RobustAttribution,
    Stability,
    Trades,
    VertexMixup,
    WeightPerturbation,
    interpolated,
    make,
)
from models_for_tests import Linear, images, masks, mlp

N, CLASSES, EPS = 8, 4, 0.06


@pytest.fixture
def net():
    return mlp(dtype=torch.float64)


class Drawn(Batch):
    """A batch whose random numbers are those given."""

    def normal(self, purpose, shape=None):
        return self.carry["draws"]

    def uniform(self, purpose, shape):
        return self.carry["draws"].expand(len(self.x), *shape)


def batch(draws=None, seed=0, n=N):
    x, y = images(n, dtype=torch.float64), torch.arange(n) % CLASSES
    mask = masks(n).double()
    return Batch(x, y, torch.arange(n), seed, mask) if draws is None else Drawn(x, y, y, seed, mask, {"draws": draws})


def log_p(z):
    return z - z.exp().sum(1, keepdim=True).log()


def losses(net, x, y):
    return -log_p(net(x))[torch.arange(len(y)), y]


def ce(net, x, y):
    return losses(net, x, y).mean()


def divergence(z, other):
    """KL(softmax z ‖ softmax other) of each row."""
    return (log_p(z).exp() * (log_p(z) - log_p(other))).sum(1)


def slope_at(net, x, y):
    """The gradient of each image's loss, one image after the other."""
    slopes = []
    for image, label in zip(x, y, strict=True):
        leaf = image[None].detach().clone().requires_grad_()
        slopes.append(torch.autograd.grad(losses(net, leaf, label[None]).sum(), leaf)[0])
    return torch.cat(slopes)


def climbed(net, x, y, radius, steps=1, share=1.0):
    """Steps of the gradient's sign from the image itself, within ``radius`` and [0, 1]."""
    moved = x
    for _ in range(steps):
        moved = moved + share * radius * slope_at(net, moved, y).sign()
        moved = torch.maximum(torch.minimum(moved, x + radius), x - radius).clamp(0, 1)
    return moved


def slopes_by_weights(loss, net):
    return torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)


def agree(net, loss, expected):
    """The same loss and the same gradient by every weight."""
    assert loss.item() == pytest.approx(expected.item(), rel=1e-7)
    for one, other in zip(slopes_by_weights(loss, net), slopes_by_weights(expected, net), strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-10)


def test_clean(net):
    """Label smoothing spreads its share over all classes; the temperature divides the logits."""
    b = batch()
    agree(net, Clean()(net, b), ce(net, b.x, b.y))
    q = log_p(net(b.x) / 3)
    own = q[torch.arange(N), b.y]
    agree(net, Clean(0.2, 3.0)(net, b), -(0.8 * own + 0.2 / CLASSES * q.sum(1)).mean())


@pytest.mark.parametrize(("spec", "attack", "steps"), [("fgsm-at", None, 1), ("pgd-at", "bim", 3)])
def test_adversarial(net, spec, attack, steps):
    b = batch()
    moved = climbed(net, b.x, b.y, EPS, steps, 1 / steps)
    assert not torch.allclose(moved, b.x)
    agree(net, make(spec, eps=EPS, attack=attack, steps=steps if attack else None)(net, b), ce(net, moved, b.y))


def test_dual(net):
    """A budget for the foreground and one for the rest, with steps of 2.5 budgets in all."""
    b = batch()
    radius = 0.03 * b.mask + 0.15 * (1 - b.mask)
    moved = climbed(net, b.x, b.y, radius, 3, 2.5 / 3)
    attack = DualPerturbation(0.03, 0.15, steps=3, random_start=False)
    agree(net, Adversarial(attack)(net, b), ce(net, moved, b.y))


def test_trades_mart_and_pairing(net):
    b, rows = batch(), torch.arange(N)
    moved = climbed(net, b.x, b.y, EPS)
    z, far, attack = net(b.x), net(moved), FGSM(EPS)
    agree(net, Trades(attack, 4.0)(net, b), ce(net, b.x, b.y) + 4 * divergence(z, far).mean())
    p, q = log_p(far).exp(), log_p(z).exp()
    rival = torch.stack([max(p[i, k] for k in range(CLASSES) if k != b.y[i]) for i in rows.tolist()])
    boosted = -p[rows, b.y].log() - (1 - rival).log()
    agree(net, Mart(attack, 2.0)(net, b), (boosted + 2 * divergence(z, far) * (1 - q[rows, b.y])).mean())
    paired = ((z - far) ** 2).sum(1) / CLASSES
    half = 0.5 * (ce(net, b.x, b.y) + ce(net, moved, b.y))
    agree(net, Pairing(attack, 0.7)(net, b), half + 0.7 * paired.mean())


@pytest.mark.parametrize("labels", ["true", "predicted"])
def test_mixed(net, labels):
    b = batch()
    moved = climbed(net, b.x, b.y if labels == "true" else net(b.x).argmax(1), EPS)
    agree(net, Mixed(FGSM(EPS), 0.3, labels)(net, b), 0.3 * ce(net, b.x, b.y) + 0.7 * ce(net, moved, b.y))


def test_free(net):
    """Weights and perturbation move by one gradient; the next batch goes on from the perturbation."""
    b, other = batch(), copy.deepcopy(net)
    carry, delta = b.carry, torch.zeros_like(b.x)
    ours, theirs = (torch.optim.SGD(model.parameters(), lr=0.05) for model in (net, other))
    for _ in range(2):
        for update in Free(EPS, replays=2).updates(net, Batch(b.x, b.y, b.index, 0, carry=carry)):
            ours.zero_grad()
            update.loss.backward()
            ours.step()
            leaf = delta.clone().requires_grad_()
            loss = ce(other, b.x + leaf, b.y)
            assert update.loss.item() == pytest.approx(loss.item(), rel=1e-7)
            theirs.zero_grad()
            loss.backward()
            theirs.step()
            delta = torch.clamp(delta + EPS * leaf.grad.sign(), -EPS, EPS)
            delta = (b.x + delta).clamp(0, 1) - b.x
        assert torch.allclose(carry["delta"], delta, atol=1e-12)
    assert all(torch.allclose(p, q, rtol=1e-9) for p, q in zip(net.parameters(), other.parameters(), strict=True))


def test_fast_takes_a_step_of_five_quarters_from_a_uniform_start():
    """One pixel, slope 30: δ = min(ε, u + 1.25ε) downhill for the label, u uniform in the ball; its mean loss."""
    n, eps, slope = 6000, 0.1, 30.0
    weight = torch.tensor([0.0, slope], dtype=torch.float64).view(2, 1, 1, 1)
    model = Linear(weight, torch.tensor([0.0, -0.5 * slope], dtype=torch.float64))
    b = Batch(torch.full((n, 1, 1, 1), 0.5).double(), torch.ones(n, dtype=torch.int64), torch.arange(n), 3)

    def mean(stretch):
        def loss(u):
            return np.logaddexp(0, slope * min(eps, u + stretch * eps)) / (2 * eps)

        return integrate.quad(loss, -eps, eps, points=[(1 - stretch) * eps])[0]

    assert Fast(eps)(model, b).item() == pytest.approx(mean(1.25), rel=0.01)
    assert Fast(eps, stretch=0.5)(model, b).item() == pytest.approx(mean(0.5), rel=0.02)
    assert Fast(eps, stretch=2)(model, b).item() == pytest.approx(math.log1p(math.exp(slope * eps)), rel=1e-7)


def test_interpolated(net, monkeypatch):
    """One of the six orders of three images, the same for clean and adversarial ones, and the share that was drawn."""
    monkeypatch.setattr(interpolated, "_beta", lambda alpha, generator: 0.3)
    b = batch(n=3)
    pair = [b.x, climbed(net, b.x, b.y, EPS)]
    by_order = {}
    for order in permutations(range(3)):
        other = list(order)
        parts = [
            0.3 * losses(net, 0.3 * x + 0.7 * x[other], b.y) + 0.7 * losses(net, 0.3 * x + 0.7 * x[other], b.y[other])
            for x in pair
        ]
        by_order[order] = (0.5 * (parts[0] + parts[1])).mean().item()
    seen = set()
    for seed in range(12):
        loss = Interpolated(FGSM(EPS))(net, batch(n=3, seed=seed)).item()
        (match,) = [order for order, value in by_order.items() if value == pytest.approx(loss, rel=1e-7)]
        seen.add(match)
    assert len(seen) > 3


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_shares_of_mixtures_are_those_of_a_beta_distribution(alpha):
    generator = torch.Generator().manual_seed(0)
    drawn = [interpolated._beta(alpha, generator) for _ in range(2000)]
    assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_vertices(net):
    """Points of the line to the vertex, γ times as far as the adversarial image, with the labels of the line."""
    share = torch.linspace(0.05, 0.95, N, dtype=torch.float64)
    b = batch(share.view(N, 1, 1, 1))
    moved = climbed(net, b.x, b.y, EPS)
    expected = 0
    for i in range(N):
        a = share[i]
        point = (b.x[i] + (1 - a) * 1.7 * (moved[i] - b.x[i])).clamp(0, 1)
        kept = a * 0.9 + (1 - a) * 0.2
        soft = torch.full((CLASSES,), 1.0).double() * (1 - kept) / (CLASSES - 1)
        soft[b.y[i]] = kept
        expected = expected - (soft * log_p(net(point[None]))[0]).sum() / N
    agree(net, VertexMixup(FGSM(EPS), gamma=1.7, near=0.9, far=0.2)(net, b), expected)


def test_weight_perturbation(net):
    """Each matrix moves by γ of its length along its gradient on the adversarial images; biases stay."""
    b = batch()
    moved, other = climbed(net, b.x, b.y, EPS), copy.deepcopy(net)
    slopes = slopes_by_weights(ce(other, moved, b.y), other)
    with torch.no_grad():
        for weight, slope in zip(other.parameters(), slopes, strict=True):
            if weight.dim() > 1:
                weight += 0.05 * (weight**2).sum().sqrt() / (slope**2).sum().sqrt() * slope
    expected = ce(other, moved, b.y)
    (update,) = list(WeightPerturbation(FGSM(EPS), gamma=0.05).updates(net, b))
    assert update.loss.item() == pytest.approx(expected.item(), rel=1e-7)
    pairs = zip(slopes_by_weights(update.loss, net), slopes_by_weights(expected, other), strict=True)
    assert all(torch.allclose(one, two, rtol=1e-6, atol=1e-10) for one, two in pairs)


def test_gaussian(net):
    """The noise is not clipped."""
    noise = torch.randn(N, 2, 6, 6, dtype=torch.float64)
    b = batch(noise)
    assert bool((b.x + 0.4 * noise > 1).any())
    agree(net, Gaussian(0.4)(net, b), ce(net, b.x + 0.4 * noise, b.y))


def test_noise_of_a_batch_is_standard_normal():
    drawn = batch().normal("gaussian", (500,)).flatten().numpy()
    assert stats.kstest(drawn, "norm").pvalue > 0.01


def test_stability(net):
    noise = torch.randn(N, 2, 6, 6, dtype=torch.float64)
    b = batch(noise)
    apart = divergence(net(b.x), net(b.x + 0.2 * noise)).mean()
    agree(net, Stability(0.2, 1.5)(net, b), ce(net, b.x, b.y) + 1.5 * apart)


def test_distillation(net):
    b, teacher = batch(), mlp(seed=5, dtype=torch.float64)
    soft = log_p(teacher(b.x).detach() / 8).exp()
    agree(net, Distillation(teacher, 8.0)(net, b), -(soft * log_p(net(b.x) / 8)).sum(1).mean())


def differentiable_slope(net, x, y):
    leaf = x.detach().clone().requires_grad_()
    return torch.autograd.grad(losses(net, leaf, y).sum(), leaf, create_graph=True)[0]


def test_curvature(net):
    b, h = batch(), 0.4
    sign = slope_at(net, b.x, b.y).sign()
    z = sign / (sign**2).flatten(1).sum(1).sqrt().view(-1, 1, 1, 1)
    change = differentiable_slope(net, b.x + h * z, b.y) - differentiable_slope(net, b.x, b.y)
    bend = (change / h).flatten(1).pow(2).sum(1)
    agree(net, Curvature(0.7, h)(net, b), (losses(net, b.x, b.y) + 0.7 * bend).mean())


def test_local_linearity(net):
    """Two ascents of half a budget from the random start, on the distance between the loss and its tangent."""
    draws = torch.rand(N, 2, 6, 6, dtype=torch.float64)
    b, eps = batch(draws), 0.2
    loss, slope = losses(net, b.x, b.y).detach(), slope_at(net, b.x, b.y)
    delta = (b.x + eps * (2 * draws - 1)).clamp(0, 1) - b.x
    for _ in range(2):
        leaf = delta.clone().requires_grad_()
        gap = (losses(net, b.x + leaf, b.y) - loss - (leaf * slope).flatten(1).sum(1)).abs()
        delta = (delta + eps / 2 * torch.autograd.grad(gap.sum(), leaf)[0].sign()).clamp(-eps, eps)
        delta = (b.x + delta).clamp(0, 1) - b.x
    along = (delta * differentiable_slope(net, b.x, b.y)).flatten(1).sum(1)
    apart = (losses(net, b.x + delta, b.y) - losses(net, b.x, b.y) - along).abs()
    expected = (losses(net, b.x, b.y) + 2 * apart + 1.5 * along.abs()).mean()
    agree(net, LocalLinearity(eps, steps=2, weight=2.0, slope=1.5)(net, b), expected)


def test_attribution(net):
    """The integral of the gradient from the image to the adversarial one, at the middles of four segments."""
    b = batch()
    delta = climbed(net, b.x, b.y, EPS) - b.x
    mean = sum(differentiable_slope(net, b.x + place * delta, b.y) for place in (0.125, 0.375, 0.625, 0.875)) / 4
    expected = ce(net, b.x, b.y) + 0.6 * (delta * mean).abs().flatten(1).sum(1).mean()
    agree(net, RobustAttribution(FGSM(EPS), 0.6, 4)(net, b), expected)
