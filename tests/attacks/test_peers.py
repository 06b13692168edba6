"""Other libraries' attacks under our referee."""

import pytest
import torch

import assay
from assay import Peer, Status, over_targets, peer
from assay.attacks.registry import make
from models_for_tests import images, mlp, predicted


def problem(n=16):
    model, x = mlp(), images(n)
    return model, x, predicted(model, x)


def sign_step(size):
    """A library's attack: one step, with the model it is given."""

    def run(model, x, y, target):
        x.requires_grad_()
        sign = 1 if target is None else -1
        loss = torch.nn.functional.cross_entropy(model(x), y if target is None else target)
        (grad,) = torch.autograd.grad(loss, x)
        return x.detach() + sign * size * grad.sign()

    return run


def test_it_is_measured_like_any_attack():
    model, x, y = problem()
    outcome = assay.attack(model, x, y, Peer("mine", sign_step(0.1), eps=0.1), preflight=False)
    ours = assay.attack(model, x, y, assay.FGSM(0.1), preflight=False)
    assert (outcome.status == ours.status).all()
    assert (outcome.forwards == 2).all()  # one of the library's, one to look
    assert (outcome.backwards == 1).all()
    aimed = assay.attack(model, x, y, Peer("mine", sign_step(0.3), eps=0.3), target=(y + 1) % 4, preflight=False)
    with torch.no_grad():
        reached = model(aimed.images).argmax(1) == (y + 1) % 4
    assert (reached == (aimed.status == int(Status.BROKEN))).all()


def test_what_leaves_the_budget_does_not_count():
    model, x, y = problem()
    outcome = assay.attack(model, x, y, Peer("cheat", sign_step(0.5), eps=0.05), preflight=False)
    assert outcome.count(Status.BROKEN) == 0
    assert any("outside the threat model" in event for event in outcome.events)
    assert torch.equal(outcome.images, outcome.clean)


def test_what_is_not_images_is_named():
    model, x, y = problem()
    with pytest.raises(ValueError, match=r"odd: expected images of shape \(16, 2, 6, 6\)"):
        assay.attack(model, x, y, Peer("odd", lambda m, a, b, t: a[:3]), preflight=False)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("spec", "library"),
    [
        ("foolbox:LinfPGD,steps=10", "foolbox"),
        ("foolbox:L2DeepFoolAttack,eps=none", "foolbox"),
        ("torchattacks:PGD,steps=10", "torchattacks"),
        ("art:FastGradientMethod", "art"),
    ],
)
def test_real_libraries(spec, library):
    pytest.importorskip(library, reason=f"{library} is not installed")
    model, x, y = problem()
    outcome = assay.attack(model, x, y, make(spec, eps=0.1), preflight=False)
    assert outcome.success_rate > 0.5
    assert not outcome.events


@pytest.mark.parametrize(
    ("spec", "message"),
    [("cleverhans:PGD", "spec: expected one of"), ("foolbox:LinfPGD,steps", "attack: expected key=value")],
)
def test_bad_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        peer(spec) if spec.startswith("clever") else make(spec, eps=0.1)


def test_over_targets_orders_the_cases():
    model, x, y = problem(24)
    table = over_targets(model, x, y, assay.FMN(40), preflight=False)
    best, average, worst = table.frame()
    assert best["n"] == average["n"] == worst["n"] == 24
    assert best["l2"] < average["l2"] < worst["l2"]
    for name in ("best", "average", "worst"):
        part = table.case(name)
        hit = part.status == int(Status.BROKEN)
        with torch.no_grad():
            assert (model(part.images[hit]).argmax(1) == part.target[hit]).all()
        assert (part.target != part.y).all()
    every = table.outcome.norm("l2").view(24, 3)
    assert torch.equal(table.case("best").norm("l2"), every.amin(1))
    assert torch.equal(table.case("worst").norm("l2"), every.amax(1))
    assert "worst" in str(table)


def test_a_target_that_is_not_reached_is_the_worst():
    """Under a small budget the hardest label is one that was not reached, so that its success rate is lower."""
    model, x, y = problem(24)
    best, _, worst = over_targets(model, x, y, assay.PGD(0.05, steps=10), norm="linf", preflight=False).frame()
    assert worst["success"] < best["success"]
