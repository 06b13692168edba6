"""No attack finds an image nearer than the distance that is certified, whatever it minimises and in whatever norm."""

import inspect
from functools import cache

import pytest
import torch
from torch import nn

import assay.certify.relaxation
from assay import PGD, Status, attack, certified, certified_distance
from assay.attacks.plan import plan
from assay.attacks.registry import ATTACKS, make
from assay.parts.balls import Ball, Split
from assay.trust import CHECKS, AttackResult, CheckContext, Level

NORMS = ("linf", "l2", "l1")


@cache
def subject():
    """A network of two classes of 6×6 images that differ by 0.3, its images, masks and certified distances."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 12), nn.ReLU())
    model = nn.Sequential(*layers, nn.Linear(12, 3))
    y = torch.arange(48) % 3
    x = (0.2 + 0.3 * y.view(-1, 1, 1, 1) + 0.2 * (torch.rand(48, 1, 6, 6) - 0.5)).clamp(0, 1)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    model.eval()
    x, y = x[:9], y[:9]
    mask = torch.zeros_like(x)
    mask[..., :3] = 1
    return model, x, y, mask, {norm: certified_distance(model, x, y, "crown", norm=norm) for norm in NORMS}


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_is_nearer_than_what_is_certified(name):
    model, x, y, mask, distance = subject()
    known = inspect.signature(ATTACKS[name].make).parameters
    few = [f"{key}={value}" for key, value in (("queries", 60), ("steps", 15)) if key in known]
    few += {"patch": ["side=3"], "sparse": ["eps=6"]}.get(name, [])
    built = make(f"{name}:{','.join(few)}" if few else name, eps=0.25)
    masks = mask if "dual" in name or "mask" in getattr(getattr(built, "geometry", None), "needs", ()) else None
    outcome = attack(model, x, y, built, mask=masks, preflight=False)
    broken = outcome.status == int(Status.BROKEN)
    for norm in NORMS:
        size = outcome.norm(norm).double()[broken]
        assert bool((size >= distance[norm][broken] * (1 - 1e-5)).all()), norm


def test_distances_are_not_far_below_what_attacks_find():
    model, x, y, _, distance = subject()
    size = attack(model, x, y, make("fmn:steps=200,norm=linf", eps=0.5), preflight=False).norm("linf").double()
    assert float((distance["linf"] / size).median()) > 0.6


def plant(monkeypatch):
    """Lines above rectifiers that are 0."""
    real = assay.certify.relaxation.lines_of

    def planted(z, slope):
        lines = real(z, slope)
        return lines._replace(high=0.0 * lines.high, over=0.0 * lines.over)

    for module in ("backward", "window_layers"):
        monkeypatch.setattr(f"assay.certify.{module}.lines_of", planted)


@pytest.mark.parametrize("region", [Ball("linf", 0.06), Split(Ball("linf", 0.03), Ball("linf", 0.1))])
def test_a_bound_that_is_planted_wrong_contradicts_an_attack(region, monkeypatch):
    """What it certifies, attacks break."""
    model, x, y, mask, _ = subject()
    broken = attack(model, x, y, PGD(region, steps=100), mask=mask)
    wrong = broken.status == int(Status.BROKEN)
    assert not bool((certified(model, x, y, "crown", eps=region, mask=mask).certified & wrong).any())
    plant(monkeypatch)
    larger = Ball("linf", 0.3) if isinstance(region, Ball) else Split(Ball("linf", 0.2), Ball("linf", 0.3))
    beyond = attack(model, x, y, PGD(larger, steps=100), mask=mask).status == int(Status.BROKEN)
    assert bool((certified(model, x, y, "crown", eps=larger, mask=mask).certified & beyond).any())


def test_the_check_finds_a_bound_that_is_planted_wrong(monkeypatch):
    model, x, y, _, _ = subject()
    planned = plan("pgd:steps=100", eps=0.3)
    result = AttackResult(planned, attack(model, x, y, planned.attack), lambda i: None)
    context = CheckContext(model, x, y, (result,))
    assert CHECKS["E5"].ask(context, result).level is Level.PASSED
    plant(monkeypatch)
    answer = CHECKS["E5"].ask(context, result)
    assert answer.level is Level.ISSUE
    assert "broken within their certified radius" in answer.text
