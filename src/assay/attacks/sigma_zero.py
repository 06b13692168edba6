"""σ-zero."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from assay.core.attack import Step
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.tree import expand_rows
from assay.core.types import Count, Images, PerRow
from assay.parts.losses import Margin
from assay.parts.min_distance import budget, check_budget, claim, length_of, within
from assay.parts.step_rules import Adam, AdamState, Move, unprojected
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, whole

_LAST_RATE = 0.1
"""The step size at the end of the cosine, as a share of the first."""


class SigmaZeroState(NamedTuple):
    """Where each row is, its optimiser, and the threshold below which values go back."""

    delta: Images
    adam: AdamState
    threshold: PerRow
    step: Count


@with_hints
@dataclass(frozen=True)
class SigmaZero:
    """Few values changed: gradient descent on a smooth stand-in for l0, with a threshold that adapts to each row.

    Args:
        steps: gradient steps.
        sigma: smoothness of the stand-in ``Σ δ²/(δ² + σ)``.
        threshold: first threshold, in input units.
        pace: how fast the threshold moves, as a share of the step size.
        rate: first step size; it falls along a cosine to a tenth.
        eps: images with more values changed do not count; None for no limit.

    Example:
        >>> SigmaZero(steps=100).describe()
        'sigma-zero-100 l0'

    Source: Cinà, Villani, Pintor, Schönherr, Biggio & Pelillo, "σ-zero: gradient-based optimization of ℓ0-norm
    adversarial examples", ICLR 2025, algorithm 1; official code github.com/sigma0-advx/sigma-zero for the constants.
    Deviation: where the rows have a target, the margin is that of the target.
    """

    steps: int = 1000
    sigma: float = 1e-3
    threshold: float = 0.3
    pace: float = 0.01
    rate: float = 1.0
    eps: float | None = None

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        number("sigma", self.sigma, least=0, above=True)
        number("threshold", self.threshold, least=0, most=1)
        number("pace", self.pace, least=0)
        number("rate", self.rate, least=0, above=True)
        check_budget(self, "l0")

    @property
    def geometry(self) -> Geometry | None:
        """The limit on the number of values, if there is one."""
        return budget("l0", self.eps)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond the image."""
        return ()

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        return Traits("gradient", self.steps, minimises="l0", objective=Margin())

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "SigmaZero | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(self, effort, step_size, geometry, objective, rates=("rate",), norm="l0")

    def init(self, rows: Rows, rng: Rng) -> SigmaZeroState:
        """At the clean image."""
        count = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        threshold = torch.full_like(count, self.threshold, dtype=rows.x.dtype)
        zero = torch.zeros_like(rows.x)
        return SigmaZeroState(zero, Adam(self.rate).init(zero), threshold, count)

    def step(self, rows: Rows, state: SigmaZeroState, oracle: Oracle, rng: Rng) -> Step[SigmaZeroState]:
        """One Adam step with a normalised gradient, then the threshold."""
        image = (rows.x + state.delta).clamp(0, 1)
        seen = oracle.evaluate(Margin(0.0), image, rows)
        at = claim(rows, image, seen.logits, "l0", self.geometry)
        square = state.delta.square()
        smooth = 2 * state.delta * self.sigma / (square + self.sigma).square() / max(state.delta[0:1].numel(), 1)
        slope = seen.grad - smooth
        slope = slope / expand_rows(length_of(slope, "linf").clamp_min(1e-12), slope)
        falling = 0.5 * (1 + torch.cos(math.pi * (state.step - 1).clamp_min(0).to(at.length) / max(self.steps, 1)))
        rate = self.rate * (_LAST_RATE + (1 - _LAST_RATE) * falling)
        move = Move(rows, torch.zeros_like(slope), slope, lambda: -at.length, state.step, unprojected)
        change, adam = Adam(1.0).update(move, state.adam)
        moved = (rows.x + state.delta + expand_rows(rate, change) * change).clamp(0, 1)
        falling = 0.5 * (1 + torch.cos(math.pi * state.step.to(at.length) / max(self.steps, 1)))
        after = self.rate * (_LAST_RATE + (1 - _LAST_RATE) * falling)
        threshold = (state.threshold + torch.where(at.reached, self.pace, -self.pace) * after).clamp(0, 1)
        delta = moved - rows.x
        delta = torch.where(delta.abs() < expand_rows(threshold, delta), 0.0, delta)
        state = SigmaZeroState(delta, adam, threshold, state.step + 1)
        return Step(state, image, at.hit, at.cost, state.step >= self.steps)

    def describe(self) -> str:
        """Name, steps and norm."""
        return f"sigma-zero-{self.steps} {within('l0', self.eps)}"
