"""Step rules: how a gradient moves the parameters. Row-wise, each with a state of its own.

A rule holds the geometry and its step size as a *rate*, in budgets: a rate of 1/4 on `Ball("linf", 8/255)` is a sign
step of 2/255. On a `Split` the rate may be a pair, one a region. A rate may fall to 0 along half a cosine over a number
of steps, for sets with a curved surface: there a constant step leaves the iterate to one side of the optimum.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from assay.core.geometry import Geometry
from assay.core.rows import Rows
from assay.core.types import Count, PerRow
from assay.parts.balls import Split
from assay.parts.counts import scaled_count
from assay.parts.sparse_sets import Support
from assay.util.validate import number, whole

R = TypeVar("R")
Rate = float | tuple[float, float]
V = TypeVar("V", "Ascent", "Momentum")


class Move(NamedTuple):
    """What a rule may look at.

    Attributes:
        rows: the rows.
        parameters: where the gradient was taken, rows first.
        grad: the gradient by the parameters; of any length where the rule is not ``scaled``.
        values: gives the objective there, ``(b,)``.
        step: how many updates each row has had, ``(b,)``, on any device.
        project: maps parameters to the nearest allowed ones.
    """

    rows: Rows
    parameters: Tensor
    grad: Tensor
    values: Callable[[], PerRow]
    step: Count
    project: Callable[[Tensor], Tensor]


@runtime_checkable
class StepRule(Protocol[R]):
    """A pair of pure functions, in the shape of a gradient transformation."""

    @property
    def scaled(self) -> bool:
        """Whether the length of the gradient matters, or its direction alone."""
        ...

    def vary(
        self, *, effort: float = 1, step_size: float = 1, geometry: Geometry | None = None
    ) -> "StepRule[Any] | None":
        """The rule with another number of steps, step size or set; None if it chooses its step size by itself."""
        ...

    def init(self, parameters: Tensor) -> R:
        """The state before the first update."""
        ...

    def update(self, move: Move, state: R) -> tuple[Tensor, R]:
        """New parameters and state."""
        ...


@dataclass(frozen=True)
class Ascent:
    """Steepest ascent: ``P(w + argmax_{d ∈ rate·set} ⟨g, d⟩)``.

    Args:
        geometry: the set.
        rate: step size in budgets, above 0; the first one, if it falls.
        steps: the number of steps over which the rate falls to 0; None for a constant rate.
    """

    geometry: Geometry
    rate: Rate
    steps: int | None = None

    def __post_init__(self) -> None:
        _check_rate(self.rate)
        if self.steps is not None:
            whole("steps", self.steps)

    @property
    def scaled(self) -> bool:
        """Its direction alone matters."""
        return False

    def vary(self, *, effort: float = 1, step_size: float = 1, geometry: Geometry | None = None) -> "Ascent | None":
        """The rule with another number of steps, step size or set."""
        return _varied(self, effort, step_size, geometry)

    def init(self, parameters: Tensor) -> tuple[()]:
        """No state."""
        return ()

    def update(self, move: Move, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        """One projected step."""
        rate = rate_at(self.rate, move.step, self.steps, move.grad)
        towards = self.geometry.steepest(move.grad, move.parameters, move.rows, rate)
        return move.project(move.parameters + towards), ()


@dataclass(frozen=True)
class Momentum:
    """Steepest ascent along the running sum of l1-normalised gradients.

    Args:
        geometry: the set.
        rate: step size in budgets, above 0; the first one, if it falls.
        decay: factor on the old sum, at least 0.
        steps: the number of steps over which the rate falls to 0; None for a constant rate.

    Source: Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018, equations 6–8. The gradient's norm
    is each row's own (in the l1 form the paper writes, summed rather than averaged).
    """

    geometry: Geometry
    rate: Rate
    decay: float = 1.0
    steps: int | None = None

    def __post_init__(self) -> None:
        _check_rate(self.rate)
        number("decay", self.decay, least=0)
        if self.steps is not None:
            whole("steps", self.steps)

    @property
    def scaled(self) -> bool:
        """Its direction alone matters."""
        return False

    def vary(self, *, effort: float = 1, step_size: float = 1, geometry: Geometry | None = None) -> "Momentum | None":
        """The rule with another number of steps, step size or set."""
        return _varied(self, effort, step_size, geometry)

    def init(self, parameters: Tensor) -> Tensor:
        """A zero sum."""
        return torch.zeros_like(parameters)

    def update(self, move: Move, state: Tensor) -> tuple[Tensor, Tensor]:
        """One projected step along the sum."""
        length = torch.linalg.vector_norm(move.grad, 1, tuple(range(1, move.grad.dim())), keepdim=True)
        total = torch.add(move.grad / length.clamp_min_(1e-37), state, alpha=self.decay)
        rate = rate_at(self.rate, move.step, self.steps, move.grad)
        towards = self.geometry.steepest(total, move.parameters, move.rows, rate)
        return move.project(move.parameters + towards), total


class AdamState(NamedTuple):
    """Running first and second moments, and each row's count."""

    mean: Tensor
    square: Tensor
    updates: Count


@dataclass(frozen=True)
class Adam:
    """Adam on the parameters, upwards, then projected.

    Args:
        rate: learning rate, above 0.
        decay: decay of the two moments.
        eps: added to the root of the second moment.

    Source: Kingma & Ba, ICLR 2015, algorithm 1.
    """

    rate: float
    decay: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        number("rate", self.rate, least=0, above=True)

    @property
    def scaled(self) -> bool:
        """The moments remember lengths."""
        return True

    def vary(self, *, effort: float = 1, step_size: float = 1, geometry: Geometry | None = None) -> "Adam | None":
        """The rule with another number of steps, step size or set."""
        return replace(self, rate=step_size * self.rate)

    def init(self, parameters: Tensor) -> AdamState:
        """Zero moments."""
        count = torch.zeros(len(parameters), dtype=torch.int64, device=parameters.device)
        return AdamState(torch.zeros_like(parameters), torch.zeros_like(parameters), count)

    def update(self, move: Move, state: AdamState) -> tuple[Tensor, AdamState]:
        """One step."""
        first, second = self.decay
        mean = first * state.mean + (1 - first) * move.grad
        square = second * state.square + (1 - second) * move.grad.square()
        count = state.updates + 1
        by_row = count.to(mean.dtype).reshape(-1, *(1,) * (mean.dim() - 1))
        unbiased = (square / (1 - second**by_row)).sqrt() + self.eps
        moved = move.parameters + self.rate * (mean / (1 - first**by_row)) / unbiased
        return move.project(moved), AdamState(mean, square, count)


def unprojected(parameters: Tensor) -> Tensor:
    """The projection of a `Move` where there is none."""
    return parameters


def rate_at(rate: Rate, step: Count, steps: int | None, like: Tensor) -> Any:
    """Each row's rate at its own step: ``rate·(1 + cos(π·step/steps))/2``.

    Args:
        rate: the first rate, or a pair of them.
        step: updates that each row has had, ``(b,)``.
        steps: the number of steps over which the rate falls to 0; None for a constant rate.
        like: a tensor of the type that the rates are to have.

    Returns:
        The rate as it is where it is constant, else one a row, ``(b,)``, or a pair of these.

    Example:
        >>> rate_at(0.5, torch.tensor([0, 2, 4]), 4, torch.zeros(1)).tolist()
        [0.5, 0.25, 0.0]
    """
    if steps is None:
        return rate
    share = (step.double() / max(steps, 1)).clamp_max(1.0)
    factor = (0.5 * (1 + (math.pi * share).cos())).to(like)
    return tuple(r * factor for r in rate) if isinstance(rate, tuple) else rate * factor


def cosine(step: Count, steps: int, like: Tensor) -> float | PerRow:
    """``(1 + cos(π·step/steps))/2``: falls from 1 to 0 along half a cosine.

    Args:
        step: updates that each row has had, ``(b,)`` on the CPU.
        steps: the number of steps over which it falls.
        like: a tensor of the type and on the device that the numbers are to have.

    Returns:
        One number where all rows are at the same step, else one a row, ``(b,)``.

    Example:
        >>> cosine(torch.tensor([2, 2]), 4, torch.zeros(1))
        0.5
    """
    falling = (0.5 * (1 + (math.pi * step.double() / max(steps, 1)).cos())).to(like.dtype)
    if len(step) and bool((step == step[0]).all()):
        return float(falling[0])
    return falling.to(like.device)


def scaled_rate(rate: Rate, factor: float) -> Rate:
    """A rate, or both of a pair, times a factor."""
    return (factor * rate[0], factor * rate[1]) if isinstance(rate, tuple) else factor * rate


def _varied(rule: V, effort: float, step_size: float, geometry: Geometry | None) -> V | None:
    """A rule with a geometry, a rate and perhaps a number of steps, changed.

    On a `Support` a constant step size has no effect: each step changes the best values to the end of the box.
    """
    if step_size != 1 and isinstance(rule.geometry, Support) and rule.steps is None:
        return None
    if isinstance(rule.rate, tuple) and geometry is not None and not isinstance(geometry, Split):
        return None  # a step size for each of two regions, and one region
    steps = None if rule.steps is None else scaled_count(rule.steps, effort)
    return replace(rule, steps=steps, rate=scaled_rate(rule.rate, step_size), geometry=geometry or rule.geometry)


def _check_rate(rate: Rate) -> None:
    for value in rate if isinstance(rate, tuple) else (rate,):
        number("step_size", value, least=0, above=True)
