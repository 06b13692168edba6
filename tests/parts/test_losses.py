"""Objectives against textbook formulas, targeted and not, and where the usual code underflows."""

import pytest
import torch
from torch.nn import functional as F

from assay import DLR, CrossEntropy, KullbackLeibler, Margin
from assay.core.rows import Goal, Rows, targeted, towards, untargeted
from assay.parts.losses import objective

N, K = 32, 6


@pytest.fixture
def logits():
    return 3 * torch.randn(N, K, dtype=torch.float64)


def rows(goal, reference=None):
    n = len(goal.label)
    return Rows(torch.zeros(n, 1, 1, 1), goal, torch.zeros(n, dtype=torch.long), reference=reference)


def labels():
    y = torch.arange(N) % K
    return y, (y + 1 + torch.arange(N) // K) % K


def goals():
    y, t = labels()
    t = torch.where(t == y, (t + 1) % K, t)
    return y, t


def value(term, z, goal, reference=None):
    where = rows(goal, reference)
    return term(z, where.x, where)


def test_cross_entropy(logits):
    y, t = goals()
    assert torch.allclose(value(CrossEntropy(), logits, untargeted(y)), F.cross_entropy(logits, y, reduction="none"))
    aimed = -F.cross_entropy(logits, t, reduction="none")
    assert torch.allclose(value(CrossEntropy(), logits, targeted(y, t)), aimed)
    assert torch.allclose(value(CrossEntropy(), logits, towards(y, t)), aimed)


def test_cross_entropy_keeps_its_direction_when_confident():
    z = torch.zeros(1, K)
    z[0, 0] = 500.0
    z.requires_grad_()
    goal = untargeted(torch.zeros(1, dtype=torch.long))
    (plain,) = torch.autograd.grad(F.cross_entropy(z, goal.label), z)
    (ours,) = torch.autograd.grad(value(CrossEntropy(), z, goal).sum(), z)
    assert (plain == 0).all()
    assert ours[0, 0] < 0
    assert (ours[0, 1:] > 0).all()
    assert torch.allclose(ours[0, 0], -ours[0, 1:].sum())


def test_margin(logits):
    y, t = goals()
    for i in range(N):
        others = [logits[i, j] for j in range(K) if j != y[i]]
        assert value(Margin(), logits, untargeted(y))[i] == max(others) - logits[i, y[i]]
        others = [logits[i, j] for j in range(K) if j != t[i]]
        assert value(Margin(), logits, targeted(y, t))[i] == logits[i, t[i]] - max(others)
    assert value(Margin(0.5), logits, untargeted(y)).max() <= 0.5


def test_dlr(logits):
    y, t = goals()
    top = logits.sort(1, descending=True).values
    z_y, z_t = logits.gather(1, y[:, None])[:, 0], logits.gather(1, t[:, None])[:, 0]
    rival = torch.stack([logits[i, [j for j in range(K) if j != y[i]]].max() for i in range(N)])
    assert torch.allclose(value(DLR(), logits, untargeted(y)), (rival - z_y) / (top[:, 0] - top[:, 2]))
    aimed = (z_t - z_y) / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]))
    assert torch.allclose(value(DLR(), logits, towards(y, t)), aimed)
    assert torch.allclose(value(DLR(), 7 * logits + 3, towards(y, t)), aimed)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_dlr_with_few_classes(classes):
    z = torch.randn(N, classes, requires_grad=True)
    y = z.detach().argmax(1)
    for goal in (untargeted(y), towards(y, (y + 1) % classes)):
        made = value(DLR(), z, goal)
        (grad,) = torch.autograd.grad(made.sum(), z)
        assert made.isfinite().all()
        assert (grad.abs().sum(1) > 0).all()


def test_kullback_leibler(logits):
    y, _ = goals()
    reference = torch.randn(N, K, dtype=torch.float64)
    p, q = reference.softmax(1), logits.softmax(1)
    expected = (p * (p / q).log()).sum(1)
    assert torch.allclose(value(KullbackLeibler(), logits, untargeted(y), reference), expected)
    assert KullbackLeibler().needs == ("reference",)


def test_sums_and_scales(logits):
    y, _ = goals()
    both = CrossEntropy() + 0.5 * Margin()
    expected = value(CrossEntropy(), logits, untargeted(y)) + 0.5 * value(Margin(), logits, untargeted(y))
    assert torch.allclose(value(both, logits, untargeted(y)), expected)


def test_larger_is_closer_to_the_goal_for_every_objective(logits):
    """A step along the gradient must not lower the margin of the goal (DLR may: it is a ratio)."""
    y, t = goals()
    for name in ("ce", "margin"):
        for goal in (untargeted(y), targeted(y, t)):
            z = logits.clone().requires_grad_()
            (grad,) = torch.autograd.grad(value(objective(name), z, goal).sum(), z)
            before, after = goal.margin(z.detach()), goal.margin(z.detach() + 1e-4 * grad / grad.norm())
            assert (after >= before - 1e-12).all()


def test_mixed_rows(logits):
    """Targeted and untargeted rows in one batch do not touch each other."""
    y, t = goals()
    strict = torch.arange(N) % 2 == 0
    mixed = Goal(y, torch.where(strict, t, -1), strict)
    both = value(CrossEntropy(), logits, mixed)
    assert torch.equal(both[strict], value(CrossEntropy(), logits, targeted(y, t))[strict])
    assert torch.equal(both[~strict], value(CrossEntropy(), logits, untargeted(y))[~strict])


def test_goal_reached_and_margin_agree(logits):
    y, t = goals()
    for goal in (untargeted(y), targeted(y, t)):
        assert ((goal.margin(logits) > 0) == goal.reached(logits, torch.zeros(N, 1, 1, 1))).all()


@pytest.mark.parametrize("kind", ["away", "towards", "exact", "mixed"])
@pytest.mark.parametrize("name", ["ce", "margin", "dlr"])
@pytest.mark.parametrize("classes", [2, 3, 4, 7])
def test_slopes_are_the_gradients_of_autograd(name, kind, classes):
    generator = torch.Generator().manual_seed(classes)
    logits = (3 * torch.randn(N, classes, generator=generator, dtype=torch.float64)).requires_grad_()
    y = torch.randint(classes, (N,), generator=generator)
    t = (y + 1 + torch.randint(classes - 1, (N,), generator=generator)) % classes
    goal = {"away": untargeted(y), "towards": towards(y, t), "exact": targeted(y, t)}.get(kind)
    if goal is None:
        some = torch.arange(N) % 2 == 0
        goal = Goal(y, torch.where(some, t, -1), some)
    rows = Rows(torch.zeros(N, 1, 1, 1), goal, y)
    term = objective(name)
    slope = term.slope(logits.detach(), rows)
    if slope is None:
        assert (name, kind) == ("dlr", "mixed")
        return
    expected = torch.autograd.grad(term(logits, rows.x, rows).sum(), logits)[0]
    assert torch.allclose(slope, expected, atol=1e-9)
    direction = term.slope(logits.detach(), rows, scaled=False)
    length = direction.norm(dim=1, keepdim=True)
    assert torch.allclose(direction / length, expected / expected.norm(dim=1, keepdim=True), atol=1e-7)
    assert (term.slope(logits.detach(), rows) * direction >= -1e-12).all()


def test_only_terms_of_logits_have_slopes():
    rows = Rows(
        torch.zeros(2, 1, 1, 1), untargeted(torch.zeros(2, dtype=torch.int64)), torch.zeros(2, dtype=torch.int64)
    )
    logits = torch.tensor([[1.0, 2.0, 0.0], [0.0, 3.0, 1.0]])
    both = objective("ce") + 2 * objective("margin")
    parts = objective("ce").slope(logits, rows) + 2 * objective("margin").slope(logits, rows)
    assert torch.equal(both.slope(logits, rows, scaled=False), parts)
    assert (objective("ce") + objective("kl")).slope(logits, rows) is None
    assert Margin(1.0).slope(logits, rows) is None


def test_goal_with_a_further_condition(logits):
    y, _ = goals()
    quiet = untargeted(y).also(lambda z, x: z[:, 0] > 0)
    reached = quiet.reached(logits, torch.zeros(N, 1, 1, 1))
    assert (reached <= untargeted(y).reached(logits, torch.zeros(N, 1, 1, 1))).all()
    assert (reached <= (logits[:, 0] > 0)).all()


def test_target_that_is_the_label_is_refused():
    with pytest.raises(ValueError, match="target: expected a class other than the label"):
        targeted(torch.tensor([1, 2]), torch.tensor([0, 2]))
