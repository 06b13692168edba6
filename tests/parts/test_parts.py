"""Perturbations, step rules, memory, files, preflight: the small parts."""

import pytest
import torch
from torch import nn

import assay
from assay import Ball
from assay.attacks.auto_pgd.step_rule import checkpoints
from assay.attacks.hyperplane import _newton, by_sorting
from assay.core.rows import Rows, untargeted
from assay.core.tree import choose, join, take
from assay.parts.perturbation import Additive, Shared, Tanh
from assay.parts.projections import into_l2, project_l2
from assay.parts.step_rules import Adam, Ascent, Momentum, Move
from assay.util.files import RECORD, atomic_write, sweep
from assay.util.memory import attempt, is_out_of_memory
from assay.util.parse import parse_number
from models_for_tests import images, mlp, predicted


def rows(n=5):
    x = images(n, dtype=torch.float64)
    y = torch.zeros(n, dtype=torch.long)
    return Rows(x, untargeted(y), torch.arange(n))


@pytest.mark.parametrize("perturbation", [Additive(), Tanh(), Shared()], ids=lambda p: type(p).__name__)
def test_pullback_is_the_gradient(perturbation):
    where = rows()
    inner = Rows(where.x.clamp(0.2, 0.8), where.goal, where.key)
    parameters = perturbation.start(inner, 0.05 * torch.ones_like(where.x)).requires_grad_()
    grad = torch.randn_like(where.x)
    (expected,) = torch.autograd.grad((perturbation.image(inner, parameters) * grad).sum(), parameters)
    assert torch.allclose(perturbation.pullback(inner, parameters.detach(), grad), expected)


@pytest.mark.parametrize("perturbation", [Additive(), Tanh()], ids=lambda p: type(p).__name__)
def test_start_and_image_agree_and_stay_in_the_box(perturbation):
    where = rows()
    delta = Ball("linf", 0.1).project(0.1 * torch.randn_like(where.x), where)
    image = perturbation.image(where, perturbation.start(where, delta))
    assert torch.allclose(image, where.x + delta, atol=1e-5)
    assert image.min() >= 0
    assert image.max() <= 1


def test_tanh_moves_pixels_at_exactly_zero_and_one():
    where = rows()
    edge = Rows(where.x.round(), where.goal, where.key)
    parameters = Tanh().start(edge, torch.zeros_like(edge.x))
    assert parameters.isfinite().all()
    assert (Tanh().pullback(edge, parameters, torch.ones_like(edge.x)) > 0).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_projections_through_a_perturbation(norm):
    where, ball = rows(), Ball(norm, 0.2)
    for perturbation in (Additive(), Tanh()):
        parameters = perturbation.start(where, 0.4 * torch.randn_like(where.x))
        inside = perturbation.project(where, parameters, ball)
        size = ball.size(perturbation.image(where, inside) - where.x, where)
        assert (size <= 1 + 1e-3).all()
    shared = Shared().project(where, torch.randn(1, 2, 6, 6, dtype=torch.float64), ball)
    assert ball.size(shared, take(where, torch.zeros(1, dtype=torch.long))) <= 1 + 1e-6


@pytest.mark.parametrize(
    "rule",
    [Ascent(Ball("l2", 1.0), 0.1), Momentum(Ball("l2", 1.0), 0.05, decay=0.5), Adam(0.05)],
    ids=lambda r: type(r).__name__,
)
def test_rules_climb_and_are_row_wise(rule):
    """On −‖w − w*‖² every rule comes close, and a row does not depend on its batch."""
    where = rows(4)
    goal = 0.3 * torch.randn_like(where.x)

    def climb(index):
        part = take(where, index)
        w = torch.zeros_like(part.x)
        state = rule.init(w)
        for k in range(150):
            difference = goal[index] - w
            move = Move(
                part,
                w,
                2 * difference,
                lambda d=difference: -d.square().flatten(1).sum(1),
                torch.full((len(index),), k),
                lambda p: p,
            )
            w, state = rule.update(move, state)
        return w

    whole = climb(torch.arange(4))
    assert (whole - goal).flatten(1).norm(dim=1).max() < 0.35 * goal.flatten(1).norm(dim=1).max()
    assert torch.allclose(climb(torch.tensor([2])), whole[2:3])


def test_adam_agrees_with_torch():
    where, w = rows(2), torch.zeros(2, 2, 6, 6, dtype=torch.float64)
    target = torch.randn_like(w)
    theirs = w.clone().requires_grad_()
    optimiser = torch.optim.Adam([theirs], lr=0.05, maximize=True)
    rule, ours = Adam(0.05), w.clone()
    state = rule.init(ours)
    for k in range(20):
        optimiser.zero_grad()
        (-(theirs - target).square()).sum().backward()
        optimiser.step()
        move = Move(where, ours, 2 * (target - ours), lambda: torch.zeros(2), torch.full((2,), k), lambda p: p)
        ours, state = rule.update(move, state)
    assert torch.allclose(ours, theirs.detach(), atol=1e-9)


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 10, 100, 1000])
def test_checkpoints_shrink_and_end(steps):
    table = checkpoints(steps)
    assert len(table) == steps + 1
    at = [k for k, window in enumerate(table) if window]
    gaps = [b - a for a, b in zip([0, *at], at, strict=False)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps == [table[k] for k in at]


def test_apgd_beats_pgd_at_equal_cost_on_a_curved_problem():
    model, x = mlp(scale=4.0), images(60)
    y = predicted(model, x)
    adaptive = assay.attack(model, x, y, assay.APGD(0.03, steps=40, loss="dlr"))
    fixed = assay.attack(model, x, y, assay.PGD(0.03, steps=40, loss="dlr"))
    assert adaptive.robust.sum() <= fixed.robust.sum() + 1


def test_tree_moves_rows_of_nested_states():
    state = (torch.arange(4), None, (torch.arange(8).reshape(4, 2), "name"))
    part = take(state, torch.tensor([3, 1]))
    assert part[2][0].tolist() == [[6, 7], [2, 3]]
    assert part[2][1] == "name"
    assert join(part, part)[0].tolist() == [3, 1, 3, 1]
    mixed = choose(torch.tensor([True, False]), part, take(state, torch.tensor([0, 0])))
    assert mixed[0].tolist() == [3, 0]


def test_only_known_memory_errors_are_memory_errors():
    assert is_out_of_memory(torch.OutOfMemoryError("x"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    assert not is_out_of_memory(MemoryError("x"))
    assert attempt(lambda: 3, is_out_of_memory) == (3, None)
    with pytest.raises(ZeroDivisionError):
        attempt(lambda: 1 / 0, is_out_of_memory)


def test_atomic_write_is_whole_or_not_there(tmp_path, monkeypatch):
    path = atomic_write(tmp_path / "a" / "b.txt", "first")
    assert path.read_text() == "first"

    def fail(*_):
        raise OSError("disk full (planted)")

    monkeypatch.setattr("assay.util.files.os.fsync", fail)
    with pytest.raises(OSError, match="planted"):
        atomic_write(path, "second")
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]
    (path.parent / ".b.txt.x.part").write_text("of somebody else")
    assert sweep(path.parent) == 0
    (path.parent / RECORD).write_text('{"run": "0123456789abcdef"}')
    (path.parent / ".b.txt.0123456789abcdef-x.part").write_text("left by a kill of this run")
    assert sweep(path.parent) == 1
    assert (path.parent / ".b.txt.x.part").exists()


@pytest.mark.parametrize(("text", "value"), [("8/255", 8 / 255), (" 0.5 ", 0.5), ("1e-3", 1e-3), ("2", 2.0)])
def test_numbers(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["", "8/0", "eight", "1/2/3", "nan"])
def test_not_numbers(text):
    with pytest.raises(ValueError, match="expected a number or a fraction"):
        parse_number(text)


class Scaled(nn.Module):
    """A good model of ``scale(x)``, not of x."""

    def __init__(self, inner, scale):
        super().__init__()
        self.inner, self.scale = inner, scale

    def forward(self, x):
        return self.inner(self.scale(x))


def finding(model, x, y):
    return [f.code for f in assay.inspect(model, x, y)]


def test_an_honest_model_has_no_findings():
    model, x = mlp(), images(64)
    assert finding(model, x, predicted(model, x)) == []


def test_preflight_names_what_is_wrong():
    model, x = mlp(), images(64)
    y = predicted(model, x)
    assert finding(nn.Sequential(model, nn.Softmax(1)), x, y) == ["probabilities"]
    dropout = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(72, 4)).train()
    assert "train-mode" in finding(dropout, x, y)

    class Noisy(nn.Module):
        def forward(self, z):
            return model(z) + torch.randn(len(z), 4)

    assert finding(Noisy(), x, y) == ["random"]
    expects_bytes = Scaled(model, lambda z: z / 255)
    assert finding(expects_bytes, x, y) == ["input-range"]
    nan = Scaled(model, lambda z: torch.where(z[:, :1] > 0.9, torch.nan, z))
    assert "non-finite" in finding(nan, x, y)


def test_findings_are_warnings_before_an_attack():
    model, x = mlp(), images(64)
    y = predicted(model, x)
    with pytest.warns(assay.ModelWarning, match="probabilities: the model returns probabilities"):
        assay.attack(nn.Sequential(model, nn.Softmax(1)), x, y, assay.FGSM(0.01))


class Steps(nn.Module):
    """A network behind logits that are rounded."""

    def __init__(self):
        super().__init__()
        self.model = mlp()

    def forward(self, x):
        return (10 * self.model(x)).round() / 10


def test_a_gradient_that_is_zero_is_told_after_attacks_that_asked_for_one():
    x = images(8)
    y = predicted(Steps(), x)
    with pytest.warns(assay.ModelWarning, match="no-gradient: the gradient is exactly zero on 100 % of 8 images"):
        assay.attack(Steps(), x, y, assay.PGD(0.05, steps=2))
    assay.attack(Steps(), x, y, assay.Square(0.05, queries=5))  # which asks for none
    seen = mlp()
    assay.attack(Steps(), x, y, assay.PGD(0.05, steps=2), surrogate=seen)
    assay.attack(mlp(), x, predicted(mlp(), x), assay.PGD(0.05, steps=2))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("need", [0.0, 0.3, 2.0, 1e3])
def test_sorting_finds_what_newton_finds(norm, need):
    generator = torch.Generator().manual_seed(0)
    w, room = torch.rand(2, 5, 40, generator=generator, dtype=torch.float64)
    w[0, :7], room[1, :9] = 0, 0
    needs = torch.full((5, 1), need, dtype=torch.float64)
    if norm == "linf":
        newton, sorted_ = _newton(lambda s: s < room, w, w * room, needs), by_sorting(room, w, w * room, needs)
        ours, theirs = (torch.minimum(s.expand_as(room), room) * (w > 0) for s in (newton, sorted_))
    else:
        newton = _newton(lambda s: s * w < room, w * w, w * room, needs)
        sorted_ = by_sorting(room / w.clamp_min(1e-30), w * w, w * room, needs)
        ours, theirs = (torch.minimum(s * w, room) for s in (newton, sorted_))
    assert torch.allclose(ours, theirs, atol=1e-9)


def test_into_l2_stays_inside_and_is_nearly_the_nearest():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(6, 3, 5, 5, generator=generator)
    delta = torch.randn(6, 3, 5, 5, generator=generator)
    radius = torch.tensor([0.01, 0.5, 1.0, 2.0, 3.0, 50.0])
    moved = into_l2(delta, x, radius)
    assert bool((moved.flatten(1).norm(dim=1) <= radius * (1 + 1e-5)).all())
    assert bool(((x + moved) >= -1e-6).all())
    assert bool(((x + moved) <= 1 + 1e-6).all())
    room = torch.where(delta > 0, 1 - x, x).flatten(1)
    exact = project_l2(delta.abs().flatten(1), room, radius[:, None]).view_as(delta).copysign(delta)
    lost = (moved - delta).flatten(1).norm(dim=1) / (exact - delta).flatten(1).norm(dim=1).clamp_min(1e-6)
    assert bool((lost < 1.05).all())
