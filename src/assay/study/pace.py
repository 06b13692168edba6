"""How fast a network is here, and what its passes are counted as."""

import time
from dataclasses import dataclass

import torch
from torch import nn

from assay.core.combinators import AnyAttack
from assay.core.passes import Passes, most_forwards
from assay.diagnostics.trail import run_attack_to_end
from assay.training.meters import Recorder
from assay.training.objectives.batch import Batch, Bounded, updates
from assay.training.recipe import Recipe

_SECONDS = 0.3
"""For so long a network is timed, at least."""
_TRIAL = 4
"""Images on which passes are counted."""
_MOST = 40
"""Passes of an image by which the backward ones to a forward one are counted."""
_BOUNDS = Passes(2.0, 2.0)
"""What interval bounds of an image cost in training: their middle and their radius go through every layer."""


@dataclass(frozen=True)
class Pace:
    """Seconds that a network takes for an image.

    Attributes:
        forward: a forward pass.
        backward: a backward pass.
    """

    forward: float
    backward: float

    def seconds(self, passes: Passes) -> float:
        """The time of so many passes."""
        return passes.forwards * self.forward + passes.backwards * self.backward


def measure_pace(model: nn.Module, shape: tuple[int, int, int], device: str) -> Pace:
    """Time a network on black images.

    Args:
        model: any network; it is moved to the device.
        shape: of an image.
        device: where.
    """
    model = model.to(device).eval()
    count = max(1, min(64, 200_000 // (shape[1] * shape[2])))
    x = torch.zeros(count, *shape, device=device)

    def timed(backward: bool) -> float:
        began, rounds = time.perf_counter(), -1
        while rounds < 1 or time.perf_counter() - began < _SECONDS:
            leaf = x.clone().requires_grad_(backward)
            with torch.set_grad_enabled(backward):
                out = model(leaf).sum()
            if backward:
                torch.autograd.grad(out, leaf)
            float(out.detach())  # waits for an accelerator
            rounds += 1
            if not rounds:
                began = time.perf_counter()  # the first one prepares things
        return (time.perf_counter() - began) / (rounds * count)

    forward = timed(False)
    return Pace(forward, max(timed(True) - forward, 0.0))


def linear(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A network whose passes cost next to nothing, to count them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))


def price_of(attack: AnyAttack, shape: tuple[int, int, int], classes: int, most: int | None = None) -> Passes | None:
    """What all steps of an attack on one image cost; None where no number limits them.

    The forward passes are those that the attack declares; how many backward ones go with them is counted on a linear
    network.

    Args:
        attack: any attack.
        shape: of an image.
        classes: number of classes.
        most: limit on forward passes.
    """
    forwards = most_forwards(attack)
    if forwards is None and most is None:
        return None
    forwards = min(forwards or float("inf"), most or float("inf"))
    model = linear(shape, classes)
    x = torch.rand(_TRIAL, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = model(x).argmax(1)
    mask = torch.zeros(_TRIAL, 1, *shape[1:])
    mask[..., : shape[1] // 2, :] = 1
    outcome = run_attack_to_end(model, x, y, attack, mask=mask, max_forwards=min(_MOST, int(forwards) + 1))
    spent = float(outcome.forwards.sum())
    return Passes(forwards, forwards * float(outcome.backwards.sum()) / spent if spent else 0.0)


def price_of_training(recipe: Recipe, shape: tuple[int, int, int], classes: int) -> Passes:
    """What an image of an epoch costs, counted on a linear network; interval bounds as passes of their own.

    Args:
        recipe: how to train.
        shape: of an image.
        classes: number of classes.
    """
    objective = recipe.make_objective(lambda _: linear(shape, classes))
    counted = Recorder(linear(shape, classes).train())
    x = torch.rand(_TRIAL, *shape, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(_TRIAL, 1, *shape[1:])
    batch = Batch(x, torch.arange(_TRIAL) % classes, torch.arange(_TRIAL), 0, mask)
    for update in updates(objective, counted, batch):
        update.loss.backward()
        if update.undo is not None:
            update.undo()
    spent = Passes(counted.passes / _TRIAL, counted.backwards / _TRIAL)
    return spent + _BOUNDS if isinstance(objective, Bounded) else spent
