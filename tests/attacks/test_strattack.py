"""StrAttack: every step against a generic solver, the parts inside groups against full copies, the masks."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import assay
import assay.core.rng
import assay.parts.groups
from assay.attacks.structured.strattack import GroupSearch, Splitting
from assay.core.rows import Rows, untargeted
from models_for_tests import images, mlp, predicted

N = 3


def rows(size=6, dtype=torch.float64):
    x = images(N, size=size, dtype=dtype)
    y = torch.zeros(N, dtype=torch.long)
    return Rows(x, untargeted(y), torch.arange(N))


def random_splitting(search, where, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(like):
        return 0.3 * torch.randn(like.shape, generator=generator, dtype=like.dtype)

    return Splitting(draw(where.x), draw(where.x), draw(where.x), draw(search.groups.cut(where.x)))


def slope_of(z):
    """A smooth made-up loss whose gradient depends on z."""
    return torch.sin(3 * z) + 0.2 * z


def naive(search, where, z, u, s, v, slope, weight):
    """Proposition 2 as it is written: a full copy of y and v for each group (multipliers not scaled)."""
    rho, x = search.rho, where.x
    size, stride = search.group, search.stride
    a, b = z - u / rho, z - s / rho
    delta = rho / (rho + 2 * search.gamma) * a
    w = torch.minimum(torch.maximum(b, -x), 1 - x)
    ys = []
    corners = [(p, q) for p in range(0, x.shape[2] - size + 1, stride) for q in range(0, x.shape[3] - size + 1, stride)]
    for i, (p, q) in enumerate(corners):
        c = z - v[i] / rho
        y = c.clone()
        inside = c[:, :, p : p + size, q : q + size]
        norm = inside.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        y[:, :, p : p + size, q : q + size] = (1 - search.tau / (rho * norm)).clamp_min(0) * inside
        ys.append(y)
    eta = weight.reshape(-1, 1, 1, 1)
    total = (
        eta * z
        + rho * (delta + u / rho)
        + rho * (w + s / rho)
        + rho * sum(y + m / rho for y, m in zip(ys, v, strict=True))
        - slope
    )
    after = total / (eta + (2 + len(corners)) * rho)
    u, s = u + rho * (delta - after), s + rho * (w - after)
    return after, u, s, [m + rho * (y - after) for y, m in zip(ys, v, strict=True)]


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (2, 2), (2, 1), (4, 3)])
@pytest.mark.parametrize("rho", [1.0, 0.5])
def test_parts_inside_the_groups_give_the_iterates_of_full_copies(size, stride, rho):
    """30 iterations, with other masks, strides and penalties: equal to rounding."""
    search = GroupSearch(size, stride, tau=0.1, rho=rho, consensus=False)
    where = rows()
    zero = torch.zeros_like(where.x)
    parts = Splitting(zero, zero, zero, search.groups.cut(zero))
    count = ((6 - size) // stride + 1) ** 2
    z, u, s, v = zero, zero, zero, [zero] * count
    for k in range(30):
        weight = torch.full((N,), 5.0 * (k + 1) ** 0.5, dtype=torch.float64)
        parts, _ = search.iterate(where, parts, slope_of(parts.z), weight)
        if stride >= size and count * size**2 < 36:
            return  # groups that leave pixels out: the paper has none
        if stride >= size:  # groups that do not overlap: equation 15, with a single copy
            continue
        z, u, s, v = naive(search, where, z, u, s, v, slope_of(z), weight)
        assert torch.allclose(parts.z, z, atol=1e-10)
        assert torch.allclose(parts.u * rho, u, atol=1e-10)


@pytest.mark.parametrize(("distortion", "share"), [("l2", 0.5), ("l1", 1.0), ("linf", 0.4), ("none", 0.0)])
def test_the_image_that_is_kept_has_the_least_of_the_problem_s_own_distortion(distortion, share):
    """One group of four changes: 0.4, 0.3, 0.3 and 0.4, so ‖·‖² = 0.5, ‖·‖₁ = 1.4, ‖·‖∞ = 0.4, group norm √0.5."""
    delta = torch.zeros(1, 1, 4, 4)
    delta[0, 0, :2, :2] = torch.tensor([[0.4, -0.3], [0.3, 0.4]])
    cost = GroupSearch(distortion=distortion, gamma=2.0, tau=3.0).cost(delta)
    own = 1.4 if distortion == "l1" else share
    assert float(cost) == pytest.approx(2.0 * own + 3.0 * 0.5**0.5, abs=1e-6)


@pytest.mark.parametrize("distortion", ["l1", "linf"])
def test_the_refinement_brings_nearer_in_the_chosen_distortion(distortion):
    model, x = mlp(), images(16)
    y = predicted(model, x)
    order = {"l1": 1, "linf": torch.inf}[distortion]
    lengths = {}
    for chosen in ("l2", distortion):
        attack = assay.StrAttack(steps=60, rounds=3, refine=80, distortion=chosen)
        outcome = assay.attack(model, x, y, attack, preflight=False)
        assert outcome.robust_accuracy == 0
        lengths[chosen] = float((outcome.images - x).flatten(1).norm(order, dim=1).mean())
    assert lengths[distortion] < lengths["l2"]
    with pytest.raises(ValueError, match="distortion: expected l2, as ADMM refines in l2"):
        assay.StrAttack(distortion=distortion, solver="admm")


@pytest.mark.parametrize("distortion", ["l2", "l1", "linf"])
def test_distortion_step_is_the_minimum(distortion):
    """Equation 25 (γ·D(δ) + ρ/2·‖δ − a‖²) against a generic solver."""
    search = GroupSearch(distortion=distortion, gamma=0.3, rho=0.7)
    a = torch.tensor([0.5, -0.8, 0.1, 0.3], dtype=torch.float64).reshape(1, 1, 2, 2)
    measure = {"l2": lambda d: (d**2).sum(), "l1": lambda d: np.abs(d).sum(), "linf": lambda d: np.abs(d).max()}
    target = a.flatten().numpy()

    def problem(d):
        return 0.3 * measure[distortion](d) + 0.35 * ((d - target) ** 2).sum()

    best = min(
        problem(
            minimize(
                problem,
                start,
                method="Nelder-Mead",
                options={"xatol": 1e-10, "fatol": 1e-14, "maxiter": 20000, "maxfev": 20000},
            ).x
        )
        for start in (target, 0.5 * target)
    )
    assert problem(search._distort(a).flatten().numpy()) <= best + 1e-9


def test_group_step_is_the_minimum():
    """Equation 12: τ‖y‖ + ρ/2·‖y − c‖² against a generic solver."""
    generator = np.random.default_rng(0)
    for scale in (0.05, 1.0):
        c = scale * generator.normal(size=4)

        def problem(y, c=c):
            return 0.4 * np.linalg.norm(y) + 0.35 * ((y - c) ** 2).sum()

        ours = assay.parts.groups.shrink(torch.from_numpy(c).reshape(1, 4, 1), 0.4 / 0.7).flatten().numpy()
        best = minimize(problem, c, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14}).fun
        assert problem(ours) <= min(best, problem(np.zeros(4))) + 1e-9


def test_linearised_step_is_the_minimum():
    """Equation 15 minimises (14): its gradient is zero there."""
    search = GroupSearch(2, 2, tau=0.1, rho=0.8)
    where = rows()
    parts = random_splitting(search, where)
    slope, weight = slope_of(parts.z), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    after, y = search.iterate(where, parts, slope, weight)
    delta, w = after.u - parts.u + after.z, after.s - parts.s + after.z
    z = after.z.clone().requires_grad_()
    groups = search.groups
    gap = (groups.cut(z) - groups.cut(y) - parts.v).square().sum()
    value = (slope * (z - parts.z)).sum() + 0.5 * (weight.reshape(-1, 1, 1, 1) * (z - parts.z) ** 2).sum()
    value = value + 0.4 * ((z - delta - parts.u).square().sum() + (z - w - parts.s).square().sum() + gap)
    (grad,) = torch.autograd.grad(value, z)
    assert grad.abs().max() < 1e-10


def test_at_a_fixed_point_the_problem_is_solved():
    """On a linear loss ADMM ends where the whole problem (2) is least, against a generic solver."""
    search = GroupSearch(2, 2, tau=0.05, gamma=1.0, rho=1.0)
    x = torch.full((1, 1, 4, 4), 0.5, dtype=torch.float64)
    where = Rows(x, untargeted(torch.zeros(1, dtype=torch.long)), torch.arange(1))
    slope = torch.linspace(-1.0, 1.0, 16, dtype=torch.float64).reshape(1, 1, 4, 4) ** 3
    zero = torch.zeros_like(x)
    parts = Splitting(zero, zero, zero, search.groups.cut(zero))
    for _ in range(3000):
        parts, sparse = search.iterate(where, parts, slope, torch.full((1,), 5.0, dtype=torch.float64))
    flat = slope.flatten().numpy()

    def problem(d):
        groups = d.reshape(2, 2, 2, 2).transpose(0, 2, 1, 3).reshape(4, 4)
        return flat @ d + (d**2).sum() + 0.05 * np.linalg.norm(groups, axis=1).sum()

    best = minimize(
        problem,
        sparse.flatten().numpy() + 1e-3,
        method="SLSQP",
        bounds=[(-0.5, 0.5)] * 16,
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    assert problem(sparse.flatten().numpy()) <= best.fun + 1e-5


def test_sparser_than_without_groups_and_refinement_only_helps():
    model, x = mlp(), images(24)
    y = predicted(model, x)
    plain = assay.attack(model, x, y, assay.StrAttack(tau=0.0, refine=0, steps=100), preflight=False)
    sparse = assay.attack(model, x, y, assay.StrAttack(tau=0.5, refine=0, steps=100), preflight=False)
    refined = assay.attack(model, x, y, assay.StrAttack(tau=0.5, steps=100), preflight=False)
    both = (plain.status == 1) & (sparse.status == 1)
    assert both.sum() >= 20
    assert sparse.norm("l0")[both].mean() < 0.7 * plain.norm("l0")[both].mean()
    broken = sparse.status == 1
    assert (refined.status[broken] == 1).all()
    assert (refined.norm("l2")[broken] <= sparse.norm("l2")[broken] + 1e-6).all()
    assert (refined.norm("l0")[broken] <= sparse.norm("l0")[broken]).all()
    assert refined.norm("l2")[broken].mean() < sparse.norm("l2")[broken].mean()


def test_change_limit_holds_and_heatmap_has_the_groups():
    model, x = mlp(), images(24)
    y = predicted(model, x)
    outcome = assay.attack(model, x, y, assay.StrAttack(tau=0.05, eps=0.2, steps=60), stop="never", preflight=False)
    assert (outcome.norm("linf") <= 0.2 * (1 + 1e-4)).all()
    heat = assay.Groups(3, 1).norms(outcome.images - outcome.clean)
    assert heat.shape == (24, 4, 4)
    one = (outcome.images - outcome.clean)[5, :, 1:4, 2:5].norm()
    assert heat[5, 1, 2].item() == pytest.approx(one.item(), abs=1e-6)


def test_memory_of_overlapping_groups_is_that_of_their_parts():
    """No tensor of the state has more than groups × values of one group."""
    search = GroupSearch(3, 1)
    where = rows(size=6)
    state = search.init(where, assay.core.rng.Rng())
    largest = max(t[0].numel() for t in state.parts)
    assert largest == 16 * 9 * 2


def test_targeted():
    model, x = mlp(), images(24)
    y = predicted(model, x)
    outcome = assay.attack(model, x, y, assay.StrAttack(tau=0.2, steps=100), target=(y + 1) % 4, preflight=False)
    assert outcome.success_rate == 1.0
    with torch.no_grad():
        assert (model(outcome.images).argmax(1) == (y + 1) % 4).all()


class Column(torch.nn.Module):
    """Two classes, by the mean of one column alone."""

    def __init__(self, column):
        super().__init__()
        self.column = column

    def forward(self, x):
        score = 10 * (x[:, :, :, self.column].flatten(1).mean(1) - 0.5)
        return torch.stack([score, -score], 1)


@pytest.mark.parametrize(
    ("side", "group", "stride"), [(5, 4, 4), (8, 3, 2), (7, 2, 2), (6, 5, 3), (9, 4, 1), (3, 2, 1)]
)
def test_every_pixel_can_change(side, group, stride):
    """Models that read one column, also one where the mask does not end at the border."""
    x = torch.rand(6, 1, side, side, generator=torch.Generator().manual_seed(0))
    for column in (0, side - 1):
        model = Column(column)
        y = predicted(model, x)
        attack = assay.StrAttack(group=group, stride=stride, tau=0.05, steps=30, rounds=3, refine=0)
        for problem in ((model, x, y), (lambda z, model=model: model(z.mT), x.mT.contiguous(), y)):
            assert assay.attack(*problem, attack, preflight=False).success_rate == 1.0


@pytest.mark.parametrize(
    ("side", "group", "stride"), [(32, 3, 2), (28, 3, 2), (28, 2, 2), (224, 13, 13), (5, 4, 4), (6, 3, 1)]
)
def test_groups_cover_the_image(side, group, stride):
    groups = assay.Groups(group, stride)
    image = torch.rand(1, 3, side, side + 1, dtype=torch.float64)
    cover = groups.cover(image)
    assert cover.min() >= 1
    assert torch.allclose(groups.paste(groups.cut(image), image), cover * image)
    down, across = (-(-(length - group) // stride) + 1 for length in image.shape[2:])
    norms = groups.norms(image)
    assert norms.shape == (1, down, across)
    last = image[0, :, (down - 1) * stride :, (across - 1) * stride :].norm()
    assert torch.allclose(norms[0, -1, -1], last)


def test_the_proximal_step_of_a_group_across_the_border_is_that_of_its_pixels():
    """Equation 12 on the pixels inside the image alone."""
    groups = assay.Groups(4, 4)
    image = 0.3 * torch.randn(1, 1, 5, 5, dtype=torch.float64)
    shrunk = groups.paste(assay.parts.groups.shrink(groups.cut(image), 0.2), image)
    corner = image[0, 0, 4, 4]
    assert torch.allclose(shrunk[0, 0, 4, 4], corner.sign() * (corner.abs() - 0.2).clamp_min(0))
    edge = image[0, 0, :4, 4]
    assert torch.allclose(shrunk[0, 0, :4, 4], edge * (1 - 0.2 / edge.norm()).clamp_min(0))


@pytest.mark.parametrize("make", [assay.Groups, lambda group, stride: assay.StrAttack(group=group, stride=stride)])
def test_groups_with_gaps_are_refused(make):
    with pytest.raises(ValueError, match="stride: expected at most the side of a group, 2, so that every pixel"):
        make(2, 3)


def test_the_gradient_is_taken_at_images():
    """A model that is only defined in [0, 1]."""
    net, x = mlp(), images(16)

    class Bounded(torch.nn.Module):
        def forward(self, z):
            outside = ((z < 0) | (z > 1)).flatten(1).any(1, keepdim=True)
            return torch.where(outside, torch.nan, net(z))

    outcome = assay.attack(Bounded(), x, predicted(net, x), assay.StrAttack(tau=0.05, steps=60), preflight=False)
    assert outcome.count(assay.Status.INVALID) == 0
    assert outcome.success_rate > 0.8
