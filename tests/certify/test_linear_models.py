"""On a linear model a certified distance is the distance itself, for every norm, with the box, and on two regions."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import nn

from assay import Split, certified, certified_distance
from assay.parts.balls import Ball

CERTIFIERS = ("ibp", "crown-ibp", "crown", "alpha-crown:steps=2", "lipschitz", "branch-and-bound")


def linear(classes=3, side=4, seed=0):
    """A linear classifier behind a normalisation, and images of which some pixels are at the edge of the box."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(side * side, classes)).eval()
    model[0].running_mean.fill_(0.4)
    model[0].running_var.fill_(0.3)
    x = (torch.rand(6, 1, side, side) * 1.6 - 0.3).clamp(0, 1)
    with torch.no_grad():
        return model, x, model(x).argmax(1)


def margins(model, x, y):
    """For each wrong class the gradient of the margin, and the margin; in float64."""
    network = model.double()
    leaf = x.double()[None].requires_grad_()
    logits = network(leaf)[0]
    for other in range(len(logits)):
        if other != y:
            margin = logits[y] - logits[other]
            yield torch.autograd.grad(margin, leaf, retain_graph=True)[0].flatten().numpy(), float(margin.detach())
    model.float()


def nearest(slope, margin, x, norm, region=None):
    """The shortest δ with ⟨slope, δ⟩ ≤ −margin that stays in the box; on ``region`` alone where it is given."""
    n, x = len(slope), x.double().flatten().numpy()
    on = np.ones(n) if region is None else region
    low, high = -x * on, (1 - x) * on
    if norm == "l2":
        start = np.clip(-slope * margin / (slope**2).sum(), low, high)
        result = minimize(
            lambda d: (d**2).sum(),
            start,
            jac=lambda d: 2 * d,
            bounds=list(zip(low, high, strict=True)),
            method="SLSQP",
            constraints={"type": "ineq", "fun": lambda d: -margin - slope @ d, "jac": lambda d: -slope},
            options={"maxiter": 500, "ftol": 1e-15},
        )
        return np.sqrt(result.fun) if result.success else np.inf
    eye, one = np.eye(n), np.ones((n, 1))
    if norm == "linf":
        cost, sizes = np.r_[np.zeros(n), 1.0], np.block([[eye, -one], [-eye, -one]])
        limits = [*zip(low, high, strict=True), (0, None)]
    else:
        cost, sizes = np.r_[np.zeros(n), np.ones(n)], np.block([[eye, -eye], [-eye, -eye]])
        limits = [*zip(low, high, strict=True), *[(0, None)] * n]
    extra = np.zeros(len(cost) - n)
    result = linprog(cost, np.vstack([np.r_[slope, extra], sizes]), np.r_[-margin, np.zeros(2 * n)], bounds=limits)
    return result.fun if result.status == 0 else np.inf


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("certify", CERTIFIERS)
def test_the_distance_is_exact(norm, certify):
    model, x, y = linear()
    ours = certified_distance(model, x, y, certify, norm=norm, precision=1e-7)
    for image, label, distance in zip(x, y, ours, strict=True):
        theirs = min(nearest(*pair, image, norm) for pair in margins(model, image, label))
        assert float(distance) == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize(("front", "back"), [("linf", "linf"), ("l2", "l2"), ("l1", "linf")])
def test_the_distance_on_two_regions_is_exact(front, back):
    """Two balls of 0.1 and 0.3 times a scale: the scale at which the two together reach the margin."""
    model, x, y = linear(classes=2)
    mask = torch.zeros_like(x)
    mask[..., :2] = 1
    ours = certified_distance(model, x, y, "crown", geometry=Split(Ball(front, 0.1), Ball(back, 0.3)), mask=mask)
    for image, label, own, scale in zip(x, y, mask, ours, strict=True):
        ((slope, margin),) = margins(model, image, label)
        region, scale = own.flatten().double().numpy(), float(scale)
        reached = [
            gain(slope, image, norm, eps * scale, part)
            for norm, eps, part in ((front, 0.1, region), (back, 0.3, 1 - region))
        ]
        assert sum(reached) == pytest.approx(margin, abs=1e-4)


def gain(slope, x, norm, eps, region):
    """The most that a margin can fall on a region: by numerical search, for itself."""
    x, slope = x.double().flatten().numpy(), slope * region
    room = np.where(slope > 0, x, 1 - x) * region
    size = np.abs(slope)
    if norm == "linf":
        return float((size * np.minimum(room, eps)).sum())
    if norm == "l1":
        order = np.argsort(-size)
        left, total = eps, 0.0
        for i in order:
            step = min(room[i], left)
            total, left = total + size[i] * step, left - step
        return total
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        step = np.minimum(size / max(middle, 1e-12), room)
        low, high = (middle, high) if np.sqrt((step**2).sum()) > eps else (low, middle)
    return float((size * np.minimum(size / max(high, 1e-12), room)).sum())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_what_lies_within_is_certified_and_what_lies_beyond_is_broken(norm):
    model, x, y = linear()
    distance = certified_distance(model, x, y, norm=norm)
    for image, label, own in zip(x, y, distance, strict=True):
        inside = certified(model, image[None], label[None], "branch-and-bound", eps=float(own) * 0.99, norm=norm)
        further = min(float(own) * 1.02, 1.0 if norm == "linf" else 100.0)
        beyond = certified(model, image[None], label[None], "branch-and-bound", eps=further, norm=norm)
        assert inside.counts["certified"] == 1
        if norm == "linf":  # the image at which a linear function is lowest
            assert beyond.counts["broken"] == 1
        assert beyond.counts["certified"] == 0
