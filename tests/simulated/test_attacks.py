"""Every attack of the conformance table on a device that is not the CPU: the same verdicts, no mixed devices."""

from functools import cache

import pytest
import torch

import assay
from assay import Status
from conformance.table import CASES
from models_for_tests import images, masks, mlp, predicted
from simulated.device import counting

N = 12
SEVEN = {
    "PGD": (lambda steps: assay.PGD(1e-6, steps=steps), 22),
    "MIM": (lambda steps: assay.MIM(1e-6, steps=steps), 26),
    "APGD": (lambda steps: assay.APGD(1e-6, steps=steps), 42),
    "DDN": (lambda steps: assay.DDN(steps=steps), 52),
    "FMN l2": (lambda steps: assay.FMN(steps=steps, norm="l2"), 92),
    "FAB": (lambda steps: assay.FAB(1e-6, steps=steps, targets=1), 185),
    "Square": (lambda steps: assay.Square(1e-6, queries=steps), 45),
}
"""From a number of steps to an attack, and its operators a step beyond one pass forward and one backward, at most."""


@cache
def problem():
    model, x = mlp(), images(N)
    return x, predicted(model, x)


def in_turns(stops=("hit", "never")):
    """Every attack with one of both, by turns; with the other one where there is time."""
    for at, case in enumerate(CASES):
        for stop in stops:
            marks = () if stop == stops[at % 2] else pytest.mark.slow
            yield pytest.param(case, stop, id=f"{case}-{stop}", marks=marks)


@pytest.mark.parametrize(("case", "stop"), [*in_turns()])
def test_verdicts_are_those_of_the_cpu(case, stop):
    x, y = problem()
    here, there = (
        assay.attack(
            mlp().to(device), x.to(device), y.to(device), case.make(case.eps), mask=masks(N), stop=stop, preflight=False
        )
        for device in ("cpu", "sim")
    )
    edge = (here.margin.abs() < 1e-4) | (there.margin.abs() < 1e-4) if "edge" in case.holes else torch.zeros(N).bool()
    assert bool((here.status == there.status)[~edge].all())
    broken = (here.status == int(Status.BROKEN)) & ~edge
    apart = (here.images - there.images)[broken].abs()
    if "far" not in case.holes and len(apart):
        assert float(apart.flatten(1).amax(1).median()) < 0.02


@pytest.mark.parametrize("name", ["pgd-linf", "apgd-l1", "fmn-l2", "dual-linf"])
def test_perturb_gives_the_images_of_the_cpu(name):
    case = next(c for c in CASES if c.name == name)
    x, y = problem()
    here, there = (
        assay.perturb(mlp().to(device), x.to(device), y.to(device), case.make(case.eps), mask=masks(N), seed=1)
        for device in ("cpu", "sim")
    )
    assert there.device.type == "sim"
    assert torch.allclose(here, there.cpu(), atol=2e-3)


def a_step(call_of):
    """Operators and waits a step of what ``call_of(steps)`` runs."""
    totals = []
    for steps in (20, 40):
        call = call_of(steps)
        with counting() as counts:
            call()
        totals.append((sum(counts.launches.values()), sum(counts.waits.values())))
    return tuple((b - a) / 20 for a, b in zip(*totals, strict=True))


@pytest.mark.parametrize("name", SEVEN)
def test_operators_and_waits_a_step(name):
    """A GPU pays for each operator and for each wait; all rows go on to the end, as they do where they survive."""
    make, most = SEVEN[name]
    model = mlp().requires_grad_(requires_grad=False).to("sim")
    x = (0.2 + 0.6 * images(16)).to("sim")
    y = model(x).argmax(1)

    def bare(steps):
        def call():
            for _ in range(steps):
                leaf = x.clone().requires_grad_()
                torch.autograd.grad(model(leaf), leaf, torch.ones_like(y, dtype=x.dtype)[:, None].expand(-1, 4))

        return call

    def attack(steps):
        return lambda: assay.attack(model, x, y, make(steps), preflight=False, slots=16)

    operators, waits = a_step(attack)
    assert operators <= a_step(bare)[0] + most
    assert waits <= 1
