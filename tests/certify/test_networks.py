"""Bounds hold: against images drawn from the region, against all activation patterns, for every layer."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn
from torch.nn import functional as F

from assay import PGD, Split, attack, certified, certified_distance
from assay.certify import CERTIFIERS, trace
from assay.certify.registry import limit_seconds
from assay.core.outcome import Status
from assay.core.rng import Rng
from assay.core.rows import Rows, untargeted
from assay.defences import Smoothed, defend
from assay.models.registry import build
from assay.parts.balls import Ball

FAST = ("ibp", "crown-ibp", "crown", "alpha-crown:steps=5", "alpha-crown:steps=3,inner=true", "lipschitz")
GEOMETRIES = {
    "linf": Ball("linf", 0.03),
    "l2": Ball("l2", 0.2),
    "l1": Ball("l1", 0.5),
    "two of linf": Split(Ball("linf", 0.01), Ball("linf", 0.06)),
    "two norms": Split(Ball("l2", 0.1), Ball("linf", 0.03)),
}


class Everything(nn.Module):
    """Each kind of layer once."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.grouped = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 3, 2, 1, groups=2)
        self.dense, self.last = nn.Linear(9 * 4 * 4, 12), nn.Linear(12, 4)
        self.slopes = nn.PReLU(4, init=0.3)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = (x - 0.2) / 0.5
        h = F.relu(self.norm(self.first(x)))
        h = h + self.second(h)
        branches = [F.max_pool2d(h, 2), F.avg_pool2d(self.slopes(h), 2), self.grouped(h)[:, :1]]
        h = torch.cat([F.pad(F.max_pool2d(branches[0], 3, 1, 1), (0, 0, 0, 0)), *branches[1:]], 1)
        h = F.leaky_relu(self.dense(h.flatten(1)), 0.1).clamp(-1, 3)
        return self.last(F.relu6(h) + h.abs())


def everything(seed=0):
    torch.manual_seed(seed)
    model = Everything().eval()
    x = torch.rand(5, 1, 8, 8)
    mask = (torch.rand(5, 1, 8, 8) > 0.5).float()
    with torch.no_grad():
        return model, x, model(x).argmax(1), mask


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_bounds_hold_on_images_of_the_region(geometry):
    model, x, y, mask = everything()
    region = GEOMETRIES[geometry]
    lowest = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for turn in range(40):
        rows = Rows(x, untargeted(y), torch.arange(len(x)) + 10 * turn, mask=mask)
        moved = (x + region.sample(rows, Rng(turn), "test", edge=True)).clamp(0, 1)
        with torch.no_grad():
            z = model(moved).double()
        own = z.gather(1, y[:, None]).squeeze(1)
        lowest = torch.minimum(lowest, own - z.scatter(1, y[:, None], -torch.inf).amax(1))
    bounds = {name: certified(model, x, y, name, eps=region, mask=mask).margin for name in FAST}
    for name, margin in bounds.items():
        assert bool((margin <= lowest).all()), name
    assert bool((bounds["ibp"] <= bounds["crown"] + 1e-9).all() | (bounds["ibp"].mean() < bounds["crown"].mean()))
    assert bool((bounds["crown"] <= bounds["alpha-crown:steps=5"] + 1e-9).all())


def test_a_network_says_what_the_model_says():
    for name in ("tiny-cnn", "strattack-cnn", "preactresnet18"):
        torch.manual_seed(0)
        model = build(name, channels=3, classes=4, size=32, normalize="cifar10").eval()
        x = torch.rand(2, 3, 32, 32)
        network = trace(model, (3, 32, 32))
        with torch.no_grad():
            assert torch.allclose(network.forward(x.double())[-1], model.double()(x.double()), atol=1e-9), name
    model, x, _, _ = everything()
    for alone in (False, True):
        network = trace(model, (1, 8, 8), rectifiers_alone=alone)
        with torch.no_grad():
            assert torch.allclose(network.forward(x.double())[-1].float(), model(x), atol=1e-5)


def small(seed, hidden=7):
    """A ReLU network small enough for all activation patterns."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 3)).eval()
    x = torch.rand(3, 1, 2, 2)
    with torch.no_grad():
        return model, x, model(x).argmax(1)


def least_margin(model, x, y, eps):
    """The least margin in the ball, by a linear program for each activation pattern."""
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in model.parameters())
    x, best = x.double().flatten().numpy(), np.inf
    limits = list(zip(np.maximum(x - eps, 0), np.minimum(x + eps, 1), strict=True))
    for pattern in itertools.product((0.0, 1.0), repeat=len(b1)):
        on = np.array(pattern)
        sides, values = (1 - 2 * on)[:, None] * w1, -(1 - 2 * on) * b1
        for other in range(len(b2)):
            if other != y:
                row, constant = (w2[y] - w2[other]) * on, b2[y] - b2[other]
                program = linprog(row @ w1, sides, values, bounds=limits)
                if program.status == 0:
                    best = min(best, program.fun + row @ b1 + constant)
    return best


@pytest.mark.parametrize("seed", range(3))
def test_branch_and_bound_decides_as_all_activation_patterns_do(seed):
    model, x, y = small(seed)
    for eps in (0.05, 0.15, 0.4):
        ours = certified(model, x, y, "branch-and-bound", eps=eps)
        for i, label in enumerate(y.tolist()):
            least = least_margin(model, x[i], label, eps)
            if abs(least) > 1e-4:  # else it is a matter of rounding
                assert ours.decision[i] == (2 if least > 0 else 1), (eps, i, least)
        moved = (ours.images - x).abs().flatten(1).amax(1)
        broken = ours.decision == 1
        assert bool((moved[broken] <= eps * (1 + 5e-5)).all())
        with torch.no_grad():
            assert bool((model(ours.images[broken]).argmax(1) != y[broken]).all())


def test_branch_and_bound_decides_maxima_and_leaky_rectifiers_too():
    torch.manual_seed(1)
    layers = (
        nn.Conv2d(1, 2, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 6),
        nn.LeakyReLU(0.1),
    )
    model = nn.Sequential(*layers, nn.Linear(6, 3)).eval()
    x = torch.rand(8, 1, 4, 4)
    with torch.no_grad():
        y = model(x).argmax(1)
    result = certified(model, x, y, "branch-and-bound", eps=0.1)
    assert result.counts["open"] == 0
    attacked = attack(model, x, y, PGD(0.1, steps=100))
    assert not bool(((attacked.status == int(Status.BROKEN)) & result.certified).any())


@pytest.mark.parametrize("name", ["ibp", "crown-ibp", "crown", "lipschitz"])
def test_bounds_fall_with_the_budget_and_do_not_depend_on_the_batch(name):
    model, x, y, _ = everything()
    margins = [certified(model, x, y, name, eps=eps).margin for eps in (0.0, 0.01, 0.03)]
    for smaller, larger in itertools.pairwise(margins):
        assert bool((larger <= smaller + 1e-12).all())
    alone = torch.cat([certified(model, x[i : i + 1], y[i : i + 1], name, eps=0.01).margin for i in range(2)])
    assert torch.allclose(alone, margins[1][:2], rtol=1e-9, atol=1e-12)


def test_without_a_budget_only_rounding_is_lost():
    model, x, y, _ = everything()
    with torch.no_grad():
        z = model(x).double()
    margin = z.gather(1, y[:, None]).squeeze(1) - z.scatter(1, y[:, None], -torch.inf).amax(1)
    for name in ("ibp", "crown", "lipschitz"):
        lost = margin - certified(model, x, y, name, eps=0.0).margin
        assert bool(((lost > 0) & (lost < 5e-3)).all()), name


def test_functions_of_few_pixels_are_bounded_as_on_the_whole_map(monkeypatch):
    model, x, y, _ = everything()
    ours = certified(model, x, y, "crown", eps=0.02).margin
    monkeypatch.setattr("assay.certify.windows.MOST", 0.0)
    assert torch.allclose(certified(model, x, y, "crown", eps=0.02).margin, ours, rtol=1e-9)
    monkeypatch.setattr("assay.certify.linear_bounds._NUMBERS", 1)
    assert torch.allclose(certified(model, x, y, "crown", eps=0.02).margin, ours, rtol=1e-9)


def test_memory_that_runs_out_halves_the_batch(monkeypatch):
    model, x, y, _ = everything()
    whole = certified(model, x, y, "crown-ibp", eps=0.02)
    sizes, real = [], CERTIFIERS["crown-ibp"].certify

    def narrow(self, subject):
        sizes.append(len(subject.y))
        if len(subject.y) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return real(self, subject)

    monkeypatch.setattr(CERTIFIERS["crown-ibp"], "certify", narrow)
    parts = certified(model, x, y, "crown-ibp", eps=0.02)
    assert max(sizes) == len(x)
    assert torch.allclose(parts.margin, whole.margin)
    assert "out of memory" in parts.events[0]


class Sigmoids(nn.Module):
    """A layer that is not bounded."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2))

    def forward(self, x):
        return self.body(x)


IMAGES = torch.rand(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))


class Loops(nn.Module):
    """Nothing that can be written down as layers."""

    def forward(self, x):
        return torch.stack([torch.stack([v.sum(), -v.sum()]) if float(v.sum()) > 1 else v.flatten()[:2] for v in x])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Sigmoids(), "model: expected layers that bounds know: linear, .*got aten.sigmoid.default in body.2"),
        (Loops(), "model: expected a network that torch.export can trace"),
        (lambda x: x.flatten(1)[:, :2], "model: expected a torch.nn.Module, whose layers can be read"),
    ],
)
def test_what_cannot_be_bounded_is_named(model, message):
    with pytest.raises((ValueError, TypeError), match=message):
        certified(model, IMAGES, model(IMAGES).argmax(1), "crown", eps=0.1)


class Depends(Sigmoids):
    """A branch on the values of the images."""

    def forward(self, x):
        return self.body(x) if x.mean() > 0.5 else -self.body(x)


def test_a_forward_that_depends_on_values_is_named_and_prints_nothing(capfd):
    model = Depends()
    with pytest.raises(ValueError, match="its forward depends on the values of the images"):
        certified(model, IMAGES, model(IMAGES).argmax(1), "crown", eps=0.1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("certify", "message"),
    [
        ("crwon", r"certify: expected one of ibp, .*got 'crwon' \(did you mean 'crown'\?\)"),
        ("beta-crown", "did you mean 'branch-and-bound'"),
        ("alpha-crown:step=3", "certify: expected arguments of alpha-crown"),
        ("alpha-crown:steps=0", "steps: expected"),
        ("smoothing", "model: expected assay.defences.Smoothed"),
        ([], "certify: expected a name"),
    ],
)
def test_wrong_certifiers(certify, message):
    model, x, y = small(0)
    with pytest.raises((ValueError, TypeError), match=message):
        certified(model, x, y, certify, eps=0.1)


def test_certifiers_one_after_another_decide_as_the_last_and_say_who_did():
    model, x, y, _ = everything()
    alone = certified(model, x, y, "crown", eps=0.004)
    both = certified(model, x, y, "ibp, crown", eps=0.004)
    assert torch.equal(alone.certified, both.certified)
    assert int(alone.certified.sum()) > 0
    assert set(both.by[both.certified].tolist()) <= {0, 1}
    assert "IBP then CROWN" in str(both)


def test_a_model_is_left_as_it_was_and_labels_that_are_wrong_are_not_certified():
    model, x, y, _ = everything()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrong = y.clone()
    wrong[0] = (y[0] + 1) % 4
    result = certified(model, x, wrong, "ibp", eps=0.0)
    assert result.counts["misclassified clean"] == 1
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert certified_distance(model, x[:0], y[:0]).shape == (0,)
    assert len(certified(model, x[:0], y[:0], "crown", eps=0.1)) == 0


def test_the_fewer_digits_a_model_computes_with_the_more_rounding_it_pays():
    _, x, y = small(0)
    margins = {}
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        margins[dtype] = certified(small(0)[0].to(dtype), x, y, "crown", eps=0.0).margin
    assert bool((margins[torch.float64] > margins[torch.float32]).all())
    assert bool((margins[torch.float32] > margins[torch.bfloat16]).all())


class Padded(nn.Module):
    """Padding by a number, a difference from a number with a factor, and limits in the wrong order."""

    def __init__(self):
        super().__init__()
        self.convolution, self.last = nn.Conv2d(1, 2, 2), nn.Linear(36, 3)

    def forward(self, x):
        h = self.convolution(F.pad(x, (1, 0, 2, -1), value=0.7))
        return self.last(torch.cat([torch.rsub(h, 1.0, alpha=2), h.clamp(0.3, -0.1)], 1).flatten(1))


def test_options_of_layers_are_those_of_the_model():
    torch.manual_seed(0)
    model, x = Padded().eval(), torch.rand(3, 1, 3, 3)
    network = trace(model, (1, 3, 3))
    with torch.no_grad():
        assert torch.allclose(network.forward(x.double())[-1].float(), model(x), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, x, y: certified_distance(m, x, y, "ibp, crown"), "certify: expected one certifier, .*got 2"),
        (lambda m, x, y: certified(torch.jit.trace(m, x), x, y, eps=0.1), "model: expected a torch.nn.Module, whose"),
        (lambda m, x, y: certified(m, x, y + 5, eps=0.1), "y: expected classes below 3"),
        (lambda m, x, y: certified(m, x * torch.nan, y, eps=0.1), "finite|NaN"),
        (lambda m, x, y: certified(m, x, y, eps=0.1, progress=3), "progress: expected a callable"),
        (lambda m, x, y: certified_distance(m, x, y, geometry=0.1), "geometry: expected a ball .* got .*float"),
        (lambda m, x, y: certified_distance(m, x, y, geometry=Ball("l2", 0.0)), "geometry: expected a radius above 0"),
        (lambda m, x, y: certified(Smoothed(m, 0.1), x, y, "crown", eps=0.1), r"of a smoothed model: the certifier"),
        (lambda m, x, y: certified(defend(m, "bits:bits=3"), x, y, eps=0.1), "behind a defence, attacked by"),
        (lambda m, x, y: certified(m, x, y, "crown:seconds=-1", eps=0.1), "crown:seconds: expected"),
        (lambda m, x, y: certified(m, x, y, "smoothing:alpha=1", eps=0.1), "smoothing:alpha: expected"),
        (lambda m, x, y: certified(m, x, y, eps=0.1, scale=[1.0]), "scale: expected a tensor of floats, .* got list"),
        (lambda m, x, y: certified(m, x, y, eps=0.1, scale=y), "scale: expected a tensor of floats, .* torch.int64"),
        (lambda m, x, y: certified(m, x, y, eps=0.1, scale=torch.ones(1)), r"scale: expected \d+ factors"),
        (lambda m, x, y: certified(m, x, y, eps=0.1, scale=-torch.ones(len(y))), "scale: expected finite .* got -1"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_wrong_calls(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        change(*small(0))


def test_out_of_time_is_said_and_what_is_certified_still_holds():
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3))
    model, x = nn.Sequential(*layers).eval(), torch.rand(6, 1, 4, 4)
    y = model(x).argmax(1)
    whole, short = (certified(model, x, y, spec, eps=0.01) for spec in ("crown", "crown:seconds=1e-9"))
    assert whole.events == ()
    assert short.events == ("out of time: some values were bounded by intervals alone",)
    assert torch.equal(short.margin, certified(model, x, y, "crown-ibp", eps=0.01).margin)
    assert bool((whole.margin >= short.margin).all())


def test_a_scale_is_a_budget_of_its_own_for_each_sample():
    torch.manual_seed(1)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), torch.rand(5, 1, 4, 4)
    y, scale = model(x).argmax(1), torch.tensor([0.5, 1.0, 2.0, 3.0, 0.0])
    margin = certified(model, x, y, "crown", eps=0.02, scale=scale).margin
    for row, factor in enumerate(scale.tolist()):
        alone = certified(model, x[row : row + 1], y[row : row + 1], "crown", eps=0.02 * factor).margin
        assert float(margin[row]) == pytest.approx(float(alone), abs=1e-9)


def test_a_distance_is_searched_to_the_last_number():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval(), torch.rand(2, 1, 4, 4)
    y = model(x).argmax(1)
    fine, coarse = (certified_distance(model, x, y, precision=p) for p in (1e-20, 1e-6))
    assert torch.allclose(fine, coarse, atol=1e-6)


def test_a_certifier_that_does_not_know_the_model_loses_nothing_of_the_others():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval(), torch.rand(6, 1, 4, 4)
    smooth = Smoothed(model, 0.1)
    y = smooth(x).argmax(1)
    options = {"eps": 0.05, "norm": "l2"}
    alone = certified(smooth, x, y, "smoothing:n=200", **options)
    both = certified(smooth, x, y, "crown, smoothing:n=200, ibp", **options)
    assert torch.equal(alone.decision, both.decision)
    assert any("CROWN did not run: model: expected a network whose layers can be read" in text for text in both.events)


def test_seconds_are_limited_where_there_are_some():
    assert limit_seconds("ibp, crown:seconds=5, branch-and-bound:domains=3,seconds=0.5", 1.0) == (
        "ibp, crown:seconds=1.0, branch-and-bound:domains=3,seconds=0.5"
    )
