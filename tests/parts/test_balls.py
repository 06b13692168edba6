"""Laws that every set of perturbations must obey."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay import Ball, Split
from assay.core.rng import Rng
from assay.core.rows import Rows, untargeted

N, SHAPE = 16, (2, 5, 5)
SETS = {
    "linf": Ball("linf", 0.1),
    "l2": Ball("l2", 0.8),
    "l1": Ball("l1", 2.0),
    "split-linf": Split(Ball("linf", 0.05), Ball("linf", 0.2)),
    "split-l2": Split(Ball("l2", 0.3), Ball("l2", 0.9)),
    "split-mixed": Split(Ball("l1", 1.0), Ball("l2", 0.9)),
    "patch": Split(Ball("linf", 1.0), Ball("linf", 0.0)),
}
each = pytest.mark.parametrize("name", SETS)


def rows(seed=0, *, boxed=True, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(N, *SHAPE, generator=generator, dtype=dtype)
    x = (1.3 * x - 0.15).clamp(0, 1) if boxed else 0.45 + 0.1 * x
    mask = (torch.rand(N, 1, *SHAPE[1:], generator=generator, dtype=dtype) > 0.5).to(dtype)
    y = torch.zeros(N, dtype=torch.long)
    return Rows(x, untargeted(y), torch.arange(N), mask=mask)


def noise(scale, seed=1, dtype=torch.float64):
    return scale * torch.randn(N, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def dot(a, b):
    return (a * b).flatten(1).sum(1)


def support(geometry, direction, where):
    """The member of set and box furthest along a direction, by an independent bisection, ball by ball."""
    if isinstance(geometry, Split):
        front, back = where.mask, 1 - where.mask
        parts = [
            support(ball, direction * region, where) * region
            for ball, region in ((geometry.foreground, front), (geometry.background, back))
        ]
        return parts[0] + parts[1]
    size = direction.abs().flatten(1)
    room = torch.where(direction > 0, 1 - where.x, where.x).flatten(1)
    eps = geometry.eps
    if geometry.norm == "linf":
        best = torch.where(size > 0, room.clamp_max(eps), 0.0)
    elif geometry.norm == "l2":
        low, high = torch.zeros(len(size), 1).to(size), torch.full((len(size), 1), 1e9).to(size)
        for _ in range(200):
            middle = (low + high) / 2
            over = torch.minimum(middle * size, room).norm(dim=1, keepdim=True) > eps
            low, high = torch.where(over, low, middle), torch.where(over, middle, high)
        best = torch.minimum(low * size, room)
    else:
        order = size.argsort(dim=1, descending=True)
        capacity = torch.where(size > 0, room, 0.0).gather(1, order)
        spent = torch.minimum(capacity, (eps - (capacity.cumsum(1) - capacity)).clamp_min(0))
        best = torch.zeros_like(size).scatter(1, order, spent)
    return best.view_as(direction) * direction.sign()


@each
@pytest.mark.parametrize("scale", [0.01, 0.2, 3.0])
def test_projection_is_a_member_in_the_box(name, scale):
    where, geometry = rows(), SETS[name]
    projected = geometry.project(noise(scale), where)
    assert (geometry.size(projected, where) <= 1 + 1e-6).all()
    assert (where.x + projected).min() >= -1e-9
    assert (where.x + projected).max() <= 1 + 1e-9


@each
def test_projection_leaves_members_alone(name):
    where, geometry = rows(boxed=False), SETS[name]
    inside = 0.4 * geometry.sample(where, Rng(0), "a")
    assert torch.allclose(geometry.project(inside, where), inside, atol=1e-9)


@each
def test_projection_is_idempotent(name):
    where, geometry = rows(), SETS[name]
    once = geometry.project(noise(1.0), where)
    assert torch.allclose(geometry.project(once, where), once, atol=1e-6)


@each
@pytest.mark.parametrize("scale", [0.05, 0.5, 5.0])
def test_projection_is_the_nearest_point(name, scale):
    """P is nearest iff no member lies further along the residual than P does: ⟨r, q⟩ ≤ ⟨r, P⟩ for the worst q."""
    where, geometry = rows(), SETS[name]
    delta = noise(scale)
    projected = geometry.project(delta, where)
    residual = delta - projected
    worst = support(geometry, residual, where)
    slack = dot(residual, worst) - dot(residual, projected)
    assert (slack <= 1e-5 * (1 + residual.flatten(1).norm(dim=1))).all()


@each
def test_steepest_is_the_best_of_many(name):
    """Without a box in the way no random member of the set gains more."""
    where, geometry = rows(boxed=False), SETS[name]
    if name == "patch":  # one of budget 1 always meets the box
        geometry = Split(Ball("linf", 0.1), Ball("linf", 0.0))
    grad = noise(1.0, seed=5)
    step = geometry.steepest(grad, torch.zeros_like(grad), where)
    assert (geometry.size(step, where) <= 1 + 1e-6).all()
    assert (dot(grad, step) >= dot(grad, support(geometry, grad, where)) - 1e-6).all()
    for seed in range(20):
        other = geometry.sample(where, Rng(seed), "q", edge=True)
        assert (dot(grad, step) >= dot(grad, other)).all()


def test_steepest_l1_from_anywhere_reaches_the_best_point_and_stays():
    where, ball = rows(), Ball("l1", 2.0)
    grad = noise(1.0, seed=6)
    delta = ball.sample(where, Rng(0), "start")
    best = dot(grad, support(ball, grad, where))
    for _ in range(40):
        delta = ball.project(delta + ball.steepest(grad, delta, where, 0.1), where)
    assert torch.allclose(dot(grad, delta), best, rtol=1e-6)
    assert torch.allclose(ball.steepest(grad, delta, where, 0.1), torch.zeros_like(delta), atol=1e-9)


@each
@pytest.mark.parametrize("edge", [False, True])
def test_samples_are_members_and_spread(name, edge):
    where, geometry = rows(boxed=False), SETS[name]
    draws = [geometry.sample(where, Rng(seed), "a", edge=edge) for seed in range(5)]
    for draw in draws:
        assert (geometry.size(draw, where) <= 1 + 1e-6).all()
        if edge and name != "patch":
            assert (geometry.size(draw, where) >= 0.99).all()
    assert not torch.equal(draws[0], draws[1])


def test_l2_samples_fill_the_ball_evenly():
    """Half of the volume is within 2^(-1/d) of the centre."""
    where = rows(boxed=False)
    sizes = torch.cat([Ball("l2", 0.4).size(Ball("l2", 0.4).sample(where, Rng(s), "a"), where) for s in range(40)])
    half = (sizes < 0.5 ** (1 / 50)).double().mean()
    assert 0.4 < half < 0.6


@given(
    norm=st.sampled_from(["linf", "l2", "l1"]),
    eps=st.floats(0, 3),
    scale=st.floats(0, 10),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_projection_laws_by_example(norm, eps, scale, seed):
    where, ball = rows(seed, dtype=torch.float32), Ball(norm, eps)
    delta = noise(scale, seed, torch.float32)
    projected = ball.project(delta, where)
    length = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
    sizes = torch.linalg.vector_norm(projected.double().flatten(1), ord=length, dim=1)
    assert (sizes <= eps * (1 + 1e-5) + 1e-6).all()
    assert ((projected * delta) >= -1e-9).all()


def test_row_wise_scale():
    where, ball = rows(boxed=False), Ball("l2", 0.2)
    scale = torch.linspace(0.1, 1, N, dtype=torch.float64)
    assert torch.allclose(ball.size(ball.project(noise(3.0), where, scale), where), scale, atol=1e-6)


def test_split_without_a_mask_says_so():
    where = rows()
    without = Rows(where.x, where.goal, where.key)
    with pytest.raises(ValueError, match="mask: expected a foreground mask"):
        SETS["split-l2"].project(noise(1.0), without)
