"""The step rule of Auto-PGD: momentum, and a step size that halves when a row stops making progress.

Source: Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks", ICML 2020, section 3 and algorithm 1; official code github.com/fra31/auto-attack (autopgd_base.py), whose
constants (first checkpoint at 22 % of the steps, shrinking by 3 %, at least 6 %) this follows. Deviations: the state is
row-wise, so each row has its own schedule; projections are the exact ones on ball and box, where the official code
projects on the ball and then clips.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from assay.core.geometry import Geometry
from assay.core.tree import expand_rows
from assay.core.types import Count, Flag, PerRow
from assay.parts.counts import scaled_count
from assay.parts.step_rules import Move
from assay.util.validate import number, whole


class AutoState(NamedTuple):
    """What a row remembers."""

    rate: PerRow
    """Step size in budgets."""
    before: Tensor
    """The previous parameters."""
    best: Tensor
    """Parameters with the largest objective so far."""
    best_grad: Tensor
    """Gradient there."""
    best_value: PerRow
    """Objective there."""
    last_value: PerRow
    """Objective at the previous step."""
    rises: Count
    """Increases since the last checkpoint."""
    checked_value: PerRow
    """Best objective at the last checkpoint."""
    halved: Flag
    """Whether the last checkpoint halved the step size."""


@dataclass(frozen=True)
class Auto:
    """Auto-PGD's update.

    Args:
        geometry: the set; the rate is in units of it.
        steps: updates a row will get, which fixes its checkpoints.
        momentum: weight of the new direction (α).
        threshold: share of increases below which a checkpoint halves the rate (ρ).
        rate: first step size in budgets.
    """

    geometry: Geometry
    steps: int
    momentum: float = 0.75
    threshold: float = 0.75
    rate: float = 2.0

    def __post_init__(self) -> None:
        whole("steps", self.steps, least=0)
        number("momentum", self.momentum, least=0, most=1)
        number("threshold", self.threshold, least=0, most=1)
        number("rate", self.rate, least=0, above=True)

    @property
    def scaled(self) -> bool:
        """Its direction alone matters."""
        return False

    def vary(self, *, effort: float = 1, step_size: float = 1, geometry: Geometry | None = None) -> "Auto | None":
        """The rule with another number of steps, step size or set."""
        if step_size != 1:
            return None
        return replace(self, steps=scaled_count(self.steps, effort), geometry=geometry or self.geometry)

    def init(self, parameters: Tensor) -> AutoState:
        """Nothing seen yet."""
        low = torch.full((len(parameters),), -torch.inf, dtype=parameters.dtype, device=parameters.device)
        return AutoState(
            rate=torch.full_like(low, self.rate),
            before=parameters,
            best=parameters,
            best_grad=torch.zeros_like(parameters),
            best_value=low,
            last_value=torch.full_like(low, torch.inf),
            rises=torch.zeros(len(parameters), dtype=torch.int64, device=parameters.device),
            checked_value=low,
            halved=torch.ones(len(parameters), dtype=torch.bool, device=parameters.device),
        )

    def update(self, move: Move, state: AutoState) -> tuple[Tensor, AutoState]:
        """One update with two projections (equations in section 3.1)."""
        at = move.step.cpu()
        state = self._seen(move, state, at == 0)
        here, grad = move.parameters, move.grad
        windows = torch.tensor(checkpoints(self.steps))[at.clamp_max(self.steps)]
        if bool((windows > 0).any()):
            reduce, state = self._checkpoint(windows.to(here.device), state)
            here = torch.where(expand_rows(reduce, here), state.best, here)
            grad = torch.where(expand_rows(reduce, here), state.best_grad, grad)
        towards = move.project(here + self.geometry.steepest(grad, here, move.rows, state.rate))
        if bool((at == 0).all()):  # a first step has no momentum
            return towards, state._replace(before=here)
        moved = torch.lerp(here, towards, self.momentum)
        moved = move.project(moved.add_(here - state.before, alpha=1 - self.momentum))
        if bool((at == 0).any()):
            moved = torch.where(expand_rows((at == 0).to(here.device), here), towards, moved)
        return moved, state._replace(before=here)

    def _seen(self, move: Move, state: AutoState, first: Flag) -> AutoState:
        value = move.values()
        better = value > state.best_value
        by_row = expand_rows(better, state.best)
        checked = state.checked_value
        if bool(first.any()):
            checked = torch.where(first.to(value.device), value, checked)
        return state._replace(
            best=torch.where(by_row, move.parameters, state.best),
            best_grad=torch.where(by_row, move.grad, state.best_grad),
            best_value=torch.maximum(value, state.best_value),
            checked_value=checked,
            rises=state.rises + (value > state.last_value),
            last_value=value,
        )

    def _checkpoint(self, windows: Count, state: AutoState) -> tuple[Flag, AutoState]:
        """Which rows halve their step size and go back to their best; ``windows`` is 0 for rows at no checkpoint."""
        now = windows > 0
        few = state.rises <= self.threshold * windows
        stuck = ~state.halved & (state.checked_value >= state.best_value)
        reduce = now & (few | stuck)
        return reduce, state._replace(
            rate=torch.where(reduce, state.rate / 2, state.rate),
            rises=torch.where(now, 0, state.rises),
            checked_value=torch.where(now, state.best_value, state.checked_value),
            halved=torch.where(now, reduce, state.halved),
        )


@cache
def checkpoints(steps: int) -> tuple[int, ...]:
    """For each update 0 … steps, the length of the window that ends there, or 0 where there is no checkpoint.

    Example:
        >>> [k for k, window in enumerate(checkpoints(100)) if window]
        [22, 41, 57, 70, 80, 87, 93, 99]
    """
    window, least, shrink = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1), max(int(0.03 * steps), 1)
    table = [0] * (steps + 1)
    at = window
    while at <= steps:
        table[at] = window
        window = max(window - shrink, least)
        at += window
    return tuple(table)
