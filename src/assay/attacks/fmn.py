"""Fast minimum-norm attack."""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from assay.core.attack import Step
from assay.core.evaluation import Evaluation
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.tree import expand_rows
from assay.core.types import Count, Flag, Images, PerRow
from assay.parts.losses import Margin
from assay.parts.min_distance import Claim, budget, check_budget, check_norm, claim, dual_of, hair, length_of, within
from assay.parts.projections import into_l2, project_l1
from assay.parts.sparse_sets import keep_largest
from assay.parts.step_rules import cosine
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, whole

_RATE, _LAST_RATE = 1.0, 0.01
_BEYOND = 1 + 1e-5
"""The first radius is this much of the estimated distance to the boundary: a step that ends on it decides nothing."""


class FMNState(NamedTuple):
    """Where each row is."""

    image: Images
    radius: PerRow
    least: PerRow
    """Smallest distance of an adversarial image so far; the largest possible one before that."""
    has_hit: torch.Tensor
    furthest: PerRow
    """Distance of the furthest corner of the box."""
    step: Count
    """Steps so far, on the CPU."""


@with_hints
@dataclass(frozen=True)
class FMN:
    """Gradient steps inside a ball whose radius is first estimated, then shrunk and grown around the boundary.

    Args:
        steps: gradient steps.
        norm: ``"l2"``, ``"linf"``, ``"l1"`` or ``"l0"``.
        gamma: share by which the radius changes at first; it falls to ``last_gamma`` along a cosine.
        last_gamma: the share at the end.
        eps: images further away than this do not count; None for no limit.

    Example:
        >>> FMN(norm="linf").describe()
        'FMN-100 linf'

    Source: Pintor, Roli, Brendel & Biggio, "Fast minimum-norm adversarial attacks through adaptive norm constraints",
    NeurIPS 2021, algorithm 1; official code github.com/pralab/Fast-Minimum-Norm-FMN-Attack for the constants.
    Deviations: projections are the nearest points of ball and box together, where the paper projects on the ball and
    then clips (for l1 that can stand still at the box). A radius estimated before there is a success is at least gamma
    beyond where the row is: a row within rounding of the boundary would stand still on the wrong side of it.
    """

    steps: int = 100
    norm: str = "l2"
    gamma: float = 0.05
    last_gamma: float = 0.001
    eps: float | None = None

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        check_norm(self.norm, ("l2", "linf", "l1", "l0"))
        number("gamma", self.gamma, least=0, most=1, above=True)
        number("last_gamma", self.last_gamma, least=0, most=1)
        check_budget(self, self.norm)

    @property
    def geometry(self) -> Geometry | None:
        """The limit on the distance, if there is one."""
        return budget(self.norm, self.eps)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond the image."""
        return ()

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        return Traits("gradient", self.steps, minimises=self.norm, objective=Margin())

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "FMN | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(self, effort, step_size, geometry, objective, norm=self.norm)

    def init(self, rows: Rows, rng: Rng) -> FMNState:
        """At the clean image, with no radius yet (one value for l0)."""
        furthest = length_of(torch.maximum(rows.x, 1 - rows.x), self.norm)
        radius = torch.ones_like(furthest) if self.norm == "l0" else torch.full_like(furthest, torch.inf)
        never = torch.zeros_like(furthest, dtype=torch.bool)
        return FMNState(rows.x, radius, furthest, never, furthest, torch.zeros(len(rows), dtype=torch.int64))

    def step(self, rows: Rows, state: FMNState, oracle: Oracle, rng: Rng) -> Step[FMNState]:
        """Evaluate, change the radius, take a step and go into the ball."""
        image = state.image
        seen = oracle.evaluate(Margin(), image, rows)
        at = claim(rows, image, seen.logits, self.norm, self.geometry)
        least = torch.where(at.reached, torch.minimum(state.least, at.length), state.least)
        has_hit = state.has_hit | at.reached
        falling = cosine(state.step, self.steps, at.length)
        slope = length_of(seen.grad, "l2")
        radius = self._radius(state, seen, at, has_hit, least, falling, slope)
        radius = torch.minimum(radius, state.furthest)
        rate = (_LAST_RATE + (_RATE - _LAST_RATE) * falling) / slope.clamp_min(1e-37)
        delta = torch.addcmul(image - rows.x, seen.grad, expand_rows(rate, seen.grad))
        moved = (rows.x + self._into_ball(rows, delta, radius)).clamp_(0, 1)
        after = FMNState(moved, radius, least, has_hit, state.furthest, state.step + 1)
        return Step(after, image, at.hit, at.cost, after.step >= self.steps)

    def describe(self) -> str:
        """Name, steps and norm."""
        return f"FMN-{self.steps} {within(self.norm, self.eps)}"

    def _radius(
        self,
        state: FMNState,
        seen: Evaluation,
        at: Claim,
        has_hit: Flag,
        least: PerRow,
        falling: float | PerRow,
        slope: PerRow,
    ) -> PerRow:
        """The next radius; ``slope`` is the l2 norm of the gradient."""
        gamma = self.last_gamma + (self.gamma - self.last_gamma) * falling
        radius, inside = state.radius, at.reached
        if self.norm == "l0":
            less = torch.minimum(torch.minimum(radius - 1, (radius * (1 - gamma)).floor()), least)
            more = torch.maximum(radius + 1, (radius * (1 + gamma)).floor())
            return torch.where(inside, less, more).clamp_min(0)
        slope = slope if self.norm == "l2" else length_of(seen.grad, dual_of(self.norm))
        boundary = seen.value.abs() / slope.clamp_min(1e-12)
        estimate = torch.maximum(_BEYOND * (at.length + boundary), (1 + gamma) * at.length + hair(seen.grad, self.norm))
        outside = torch.where(has_hit, radius * (1 + gamma), estimate)
        return torch.where(inside, torch.minimum(radius * (1 - gamma), least), outside)

    def _into_ball(self, rows: Rows, delta: Images, radius: PerRow) -> Images:
        """A point of each row's ball and the box: the nearest one, for l2 nearly."""
        if self.norm == "linf":
            limit = expand_rows(radius, delta)
            return torch.minimum(torch.maximum(delta, -limit), limit)
        if self.norm == "l0":
            inside = (rows.x + delta).clamp(0, 1) - rows.x
            return inside * keep_largest(inside.abs(), radius)
        if self.norm == "l2":
            return into_l2(delta, rows.x, radius)
        room = torch.where(delta > 0, 1 - rows.x, rows.x).flatten(1)
        return project_l1(delta.abs().flatten(1), room, radius[:, None]).view_as(delta).copysign(delta)
