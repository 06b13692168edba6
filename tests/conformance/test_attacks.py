"""Properties that every attack must have, on every attack of the table."""

import inspect
from contextlib import nullcontext
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import assay
from assay import Restarts, Status
from assay.core.combinators import unfold
from conformance.table import CASES
from models_for_tests import Constant, Counting, images, masks, mlp, predicted

N = 24
every = pytest.mark.parametrize("case", CASES, ids=str)
stepped = pytest.mark.parametrize("case", [c for c in CASES if c.steps], ids=str)


def problem(dtype=torch.float32, n=N):
    model = mlp(dtype=dtype)
    x = images(n, dtype=dtype)
    return model, x, predicted(model, x), masks(n)


def run(case, *, eps=None, dtype=torch.float32, n=N, make=None, **settings):
    """The model and the outcome; what several tests ask for is done once."""
    if make is None:
        return _known(case, eps, dtype, n, tuple(settings.items()))
    return _ran(case, eps, dtype, n, make, settings)


@cache
def _known(case, eps, dtype, n, settings):
    return _ran(case, eps, dtype, n, None, dict(settings))


def _ran(case, eps, dtype, n, make, settings):
    model, x, y, mask = problem(dtype, n)
    attack = (make or case.make)(case.eps if eps is None else eps)
    return model, assay.attack(model, x, y, attack, mask=mask, **settings)


def starts_from_an_image(case):
    """Whether an attack goes by labels alone, from an adversarial image that it has to have."""
    stages = unfold(case.make(case.eps))
    return any("start" in stage.attack.needs and not stage.refines for stage in stages)


def independent_size(case, outcome, eps):
    """Norms by NumPy, region by region where there are two budgets."""
    delta = (outcome.images.double() - outcome.clean.double()).numpy()
    flat = delta.reshape(len(delta), -1)
    order = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}
    if case.norm == "none":
        return np.zeros(len(delta))
    if case.norm == "patch":  # a square of 4 × 4, wherever it is
        changed = (delta != 0).any(1)
        spans = [(np.ptp(np.nonzero(c.any(a))[0]) + 1) if c.any() else 0 for c in changed for a in (0, 1)]
        assert max(spans) <= 4
        return np.abs(flat).max(1) / eps if eps else np.abs(flat).max(1)
    if case.norm == "pixels":
        return ((delta != 0).any(1).reshape(len(delta), -1).sum(1)) / eps
    if case.norm is not None:
        return np.linalg.norm(flat, order[case.norm], axis=1) / eps
    front = masks().numpy()
    norm = "l2" if "l2" in case.name else "linf"
    sizes = [
        np.linalg.norm((delta * region).reshape(len(delta), -1), order[norm], axis=1) / budget
        for region, budget in ((front, eps), (~front, 4 * eps))
    ]
    return np.maximum(*sizes)


@every
@pytest.mark.parametrize("stop", ["hit", "never"])
def test_shape_box_and_budget(case, stop):
    _, outcome = run(case, stop=stop)
    assert outcome.images.shape == outcome.clean.shape
    assert outcome.images.dtype == outcome.clean.dtype
    assert outcome.images.isfinite().all()
    assert outcome.images.min() >= 0
    assert outcome.images.max() <= 1
    assert (independent_size(case, outcome, case.eps) <= 1 + 5e-5).all()
    assert sum(outcome.counts.values()) == N
    assert not outcome.events


@every
@pytest.mark.parametrize("stop", ["hit", "never"])
def test_hits_are_real(case, stop):
    model, outcome = run(case, stop=stop)
    with torch.no_grad():
        logits = model(outcome.images)
    broken = outcome.status == int(Status.BROKEN)
    clear = (outcome.margin.abs() > 3e-6) | torch.tensor("edge" not in case.holes)
    assert ((logits.argmax(1) != outcome.y) == broken)[clear].all()
    assert (logits.argmax(1) == outcome.predicted)[clear].all()
    assert clear.float().mean() > 0.3
    assert (outcome.margin[broken] >= 0).all()  # 0 is a tie that the order of the classes decides
    assert not (outcome.margin[~broken] > 0).any()
    assert broken.any(), "a budget at which nothing breaks tests nothing"


@pytest.mark.parametrize("case", [c for c in CASES if c.gradient and "near" not in c.holes], ids=str)
def test_images_within_rounding_of_the_boundary_are_broken(case):
    """A step that is a share of the distance to the boundary moves no pixel there."""
    model, x, y, mask = problem(torch.float64, 64)
    other = x.roll(1, 0)
    x, other, y, mask = (part[predicted(model, other) != y] for part in (x, other, y, mask))
    far, near = torch.ones(len(x), 1, 1, 1, dtype=x.dtype), torch.zeros(len(x), 1, 1, 1, dtype=x.dtype)
    for _ in range(30):
        half = (near + far) / 2
        same = (predicted(model, x + half * (other - x)) == y)[:, None, None, None]
        near, far = torch.where(same, half, near), torch.where(same, far, half)
    model = mlp()
    for back in (1e-4, 1e-6, 1e-7):
        edge = (x + (near - back) * (other - x)).clamp(0, 1).float()
        right = predicted(model, edge) == y
        outcome = assay.attack(model, edge[right], y[right], case.make(case.eps), mask=mask[right])
        assert right.sum() >= 5
        assert outcome.count(Status.SURVIVED) == 0


@every
def test_one_by_one_and_shuffled_give_the_same(case):
    """In float64, where rounding of the model's own batched arithmetic does not reach a verdict."""
    model, x, y, mask = problem(torch.float64)
    attack = case.make(case.eps)
    whole = assay.attack(model, x, y, attack, mask=mask, slots=64)
    for slots, n in ((1, 6), (5, N)):
        part = assay.attack(model, x[:n], y[:n], attack, mask=mask[:n], slots=slots)
        assert (part.status == whole.status[:n]).all()
        assert torch.allclose(part.images, whole.images[:n], atol=1e-9)
        assert (part.forwards == whole.forwards[:n]).all()
    order = torch.randperm(N)
    shuffled = assay.attack(model, x[order], y[order], attack, mask=mask[order], slots=7)
    assert (shuffled.status == whole.status[order]).all()
    assert torch.allclose(shuffled.images, whole.images[order], atol=1e-9)
    alone = assay.attack(model, x[3:4], y[3:4], attack, mask=mask[3:4])
    assert torch.allclose(alone.images, whole.images[3:4], atol=1e-9)


@every
def test_same_seed_same_result_and_random_state_untouched(case):
    model, x, y, mask = problem()
    results = []
    for seed in (5, 6):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(assay.attack(model, x, y, case.make(case.eps), mask=mask).images)
        assert (torch.get_rng_state() == before).all()
    assert (results[0] == results[1]).all()


class _Fragile(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.norm = nn.BatchNorm1d(72)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.inner(self.drop(self.norm(x.flatten(1))))


def _snapshot(model):
    return (
        [m.training for m in model.modules()],
        [(p.requires_grad, p.grad, p.detach().clone()) for p in model.parameters()],
        [b.clone() for b in model.buffers()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
    )


def _same(first, second):
    assert first[0] == second[0]
    for (flag, grad, value), (flag2, grad2, value2) in zip(first[1], second[1], strict=True):
        assert flag == flag2
        assert (grad is None) == (grad2 is None)
        assert torch.equal(value, value2)
    assert all(torch.equal(a, b) for a, b in zip(first[2], second[2], strict=True))
    assert first[3] == second[3]


@every
@pytest.mark.parametrize("fail_at", [None, 1, 3])
def test_model_is_left_as_found(case, fail_at):
    model = _Fragile(Counting(mlp(), fail_at=fail_at)).train()
    model.norm.eval()
    model.inner.model[1].weight.requires_grad_(False)
    x, mask = images(), masks()
    y = predicted(mlp(), x)
    before = _snapshot(model)
    expected = nullcontext() if fail_at is None else pytest.raises(RuntimeError, match="planted")
    with expected:
        assay.attack(model, x, y, case.make(case.eps), mask=mask, preflight=False)
    _same(before, _snapshot(model))


@stepped
@pytest.mark.parametrize("steps", [0, 1])
def test_no_step_and_one_step(case, steps):
    _, outcome = run(case, make=lambda eps: case.make(eps, steps=steps))
    assert sum(outcome.counts.values()) == N
    assert outcome.count(Status.NOT_RUN) == 0


@every
def test_empty_and_ragged_and_twice(case):
    attack = case.make(case.eps)
    model, x, y, mask = problem()
    assert len(assay.attack(model, x[:0], y[:0], attack, mask=mask[:0])) == 0
    assert len(assay.perturb(model, x[:0], y[:0], attack, mask=mask[:0])) == 0
    first = assay.attack(model, x, y, attack, mask=mask, slots=7)
    ragged = assay.attack(model, x[:5], y[:5], attack, mask=mask[:5], slots=3)
    again = assay.attack(model, x, y, attack, mask=mask, slots=7)
    assert (first.images == again.images).all()
    assert len(ragged) == 5


@every
def test_monotone_in_the_budget(case):
    """What breaks at a budget is expected to break at a much larger one; a zero budget changes nothing."""
    factors = (0.34, 3) if "zero" in case.holes else (0, 0.3, 3)
    broken = [int((run(case, eps=factor * case.eps)[1].status == int(Status.BROKEN)).sum()) for factor in factors]
    assert broken[-2] < broken[-1]
    if "zero" in case.holes:
        return
    assert broken[0] == 0
    _, nothing = run(case, eps=0.0)
    assert torch.allclose(nothing.images, nothing.clean, atol=2e-3 if case.norm == "none" else 0.0)  # interpolation
    assert nothing.clean_accuracy == nothing.robust_accuracy == 1.0


@every
def test_more_restarts_only_add(case):
    _, once = run(case)
    _, thrice = run(case, make=lambda eps: Restarts(case.make(eps), 3))
    assert (thrice.robust <= once.robust).all()


@pytest.mark.parametrize("case", [c for c in CASES if c.gradient and c.norm in ("linf", "l2", "l1")], ids=str)
def test_beats_noise_of_the_same_size(case):
    _, outcome = run(case)
    noise = assay.UniformNoise(case.eps, norm=case.norm, draws=20, edge=True)
    _, random = run(case, make=lambda eps: noise)
    assert outcome.robust_accuracy < random.robust_accuracy


@every
def test_constant_model(case):
    x, mask = images(), masks()
    outcome = assay.attack(
        Constant(4), x, torch.zeros(N, dtype=torch.long), case.make(case.eps), mask=mask, preflight=False
    )
    ended = Status.NOT_RUN if starts_from_an_image(case) else Status.SURVIVED  # no image is adversarial
    assert outcome.count(ended) == N
    assert outcome.images.isfinite().all()


@every
def test_passes_are_as_declared_and_as_counted(case):
    """All rows survive a hair's breadth of budget, so every one costs the whole declared number."""
    model, x, y, mask = problem()
    counter = Counting(model)
    attack = case.make(case.eps if "zero" in case.holes else 1e-7)
    outcome = assay.attack(counter, x, y, attack, mask=mask, slots=5, preflight=False)
    assert outcome.count(Status.SURVIVED) == N or "zero" in case.holes
    if case.passes is not None:
        forwards, backwards = case.passes(inspect.signature(case.make).parameters["steps"].default if case.steps else 1)
        assert (outcome.forwards == forwards).all()
        assert (outcome.backwards == backwards).all()
    assert counter.forwards == int(outcome.forwards.sum() + outcome.checks.sum())
    assert counter.backwards == int(outcome.backwards.sum())


@every
@pytest.mark.parametrize("budget", [1, 2, 9, 50])
def test_a_budget_of_passes_is_never_exceeded(case, budget):
    """Not by a single pass, for any sample, over all restarts, targets and stages."""
    model, x, y, mask = problem()
    outcome = assay.attack(model, x, y, case.make(case.eps), mask=mask, max_forwards=budget, slots=7)
    assert (outcome.forwards <= budget).all()
    idle = outcome.status == int(Status.NOT_RUN)  # the budget pays for no first step, or ends before there is a start
    assert (outcome.forwards[idle] == 0).all() or starts_from_an_image(case)
    assert budget < 50 or not idle.any()


@every
def test_stopping_at_the_first_hit_loses_nothing(case):
    _, early = run(case, stop="hit")
    _, full = run(case, stop="never")
    assert (early.robust == full.robust).all()
    assert early.forwards.sum() <= full.forwards.sum()


@every
def test_float64_agrees_with_float32(case):
    _, single = run(case)
    _, double = run(case, dtype=torch.float64)
    assert double.images.dtype == torch.float64
    assert (single.status != double.status).sum() <= 1


@every
def test_targeted(case):
    model, x, y, mask = problem()
    target = (y + 1) % 4
    outcome = assay.attack(model, x, y, case.make(2 * case.eps), mask=mask, target=target, stop="hit")
    with torch.no_grad():
        reached = model(outcome.images).argmax(1) == target
    assert (reached == (outcome.status == int(Status.BROKEN))).all()
    if case.gradient and "kl" not in case.name:
        untargeted = assay.attack(model, x, y, case.make(2 * case.eps), mask=mask)
        assert 0 < reached.sum() <= (~untargeted.robust).sum()


@every
def test_inputs_are_not_written_to(case):
    model, x, y, mask = problem()
    copies = [t.clone() for t in (x, y, mask)]
    assay.attack(model, x, y, case.make(case.eps), mask=mask)
    assay.perturb(model, x, y, case.make(case.eps), mask=mask)
    assert all(torch.equal(a, b) for a, b in zip(copies, (x, y, mask), strict=True))


@every
def test_a_nan_is_never_a_verdict(case):
    """A model that is not finite on two samples: they are invalid, and no one else is touched."""
    model, x, y, mask = problem()

    class Nan(nn.Module):
        def forward(self, z):
            nearest = torch.cdist(z.flatten(1), x.flatten(1)).argmin(1)
            moved = (z - x[nearest]).flatten(1).abs().amax(1) > 0
            bad = (nearest == 2) | ((nearest == 5) & moved)  # one at once, one only under attack
            return torch.where(bad[:, None], torch.nan, model(z))

    attack = case.make(case.eps)
    outcome = assay.attack(Nan(), x, y, attack, mask=mask, preflight=False)
    invalid = [2] if "far" in case.holes else [2, 5]
    assert (outcome.status[invalid] == int(Status.INVALID)).all()
    assert not torch.isnan(torch.tensor(outcome.robust_accuracy))
    if "far" in case.holes:
        return
    clean = assay.attack(model, x, y, attack, mask=mask)
    others = [i for i in range(N) if i not in (2, 5)]
    assert (outcome.status[others] == clean.status[others]).all()


@every
def test_perturb_stays_in_the_budget_and_leaves_the_model(case):
    model, x, y, mask = problem()
    model.train()
    for keep in ("last", "best"):
        made = assay.perturb(model, x, y, case.make(case.eps), mask=mask, keep=keep)
        fake = replace(run(case)[1], images=made)
        assert (independent_size(case, fake, case.eps) <= 1 + 5e-5).all()
        assert not made.requires_grad
    assert model.training
