"""Decoupled direction and norm."""

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
from assay.parts.losses import objective
from assay.parts.min_distance import budget, check_budget, claim, length_of, within
from assay.parts.step_rules import cosine
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, whole


class DDNState(NamedTuple):
    """Where each row is, the norm that it tries, and its steps so far (on the CPU)."""

    image: Images
    radius: PerRow
    step: Count


@with_hints
@dataclass(frozen=True)
class DDN:
    """l2: gradient steps on a sphere that shrinks while the image is adversarial and grows while it is not.

    Args:
        steps: gradient steps.
        radius: first norm tried, in input units.
        gamma: share by which the norm changes each step.
        levels: number of grey levels that images are rounded to (256 in the paper); None for none.
        loss: objective or its name.
        eps: images further away than this do not count; None for no limit.

    Example:
        >>> DDN(steps=50).describe()
        'DDN-50 l2'

    Source: Rony, Hafemann, Oliveira, Ben Ayed, Sabourin & Granger, "Decoupling direction and norm for efficient
    gradient-based L2 adversarial attacks and defenses", CVPR 2019, algorithm 1. Deviation: images are not rounded to
    256 levels unless asked for.
    """

    steps: int = 100
    radius: float = 1.0
    gamma: float = 0.05
    levels: int | None = None
    loss: str | Objective = "ce"
    eps: float | None = None

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        number("radius", self.radius, least=0, above=True)
        number("gamma", self.gamma, least=0, most=1, above=True)
        if self.levels is not None:
            whole("levels", self.levels, least=2)
        object.__setattr__(self, "loss", objective(self.loss))
        check_budget(self, "l2")

    @property
    def geometry(self) -> Geometry | None:
        """The limit on the distance, if there is one."""
        return budget("l2", self.eps)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the objective reads."""
        return objective(self.loss).needs

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        return Traits("gradient", self.steps, minimises="l2", objective=objective(self.loss))

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "DDN | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(self, effort, step_size, geometry, objective, norm="l2", loss="loss")

    def init(self, rows: Rows, rng: Rng) -> DDNState:
        """At the clean image."""
        radius = torch.full((len(rows),), self.radius, dtype=rows.x.dtype, device=rows.x.device)
        return DDNState(rows.x, radius, torch.zeros(len(rows), dtype=torch.int64))

    def step(self, rows: Rows, state: DDNState, oracle: Oracle, rng: Rng) -> Step[DDNState]:
        """Evaluate, change the norm, take a step and go to the sphere."""
        image = state.image
        seen = oracle.evaluate(objective(self.loss), image, rows, scaled=False)
        claimed = claim(rows, image, seen.logits, "l2", self.geometry)
        length = length_of(seen.grad, "l2").clamp_min_(1e-37)
        rate = 0.01 + 0.99 * cosine(state.step, self.steps, length)
        delta = torch.addcmul(image - rows.x, seen.grad, expand_rows(rate / length, seen.grad))
        radius = state.radius * torch.where(claimed.reached, 1 - self.gamma, 1 + self.gamma)
        scale = radius / length_of(delta, "l2").clamp_min_(1e-37)
        moved = torch.addcmul(rows.x, delta, expand_rows(scale, delta)).clamp_(0, 1)
        if self.levels is not None:
            moved = (moved * (self.levels - 1)).round() / (self.levels - 1)
        after = DDNState(moved, radius, state.step + 1)
        return Step(after, image, claimed.hit, claimed.cost, after.step >= self.steps)

    def describe(self) -> str:
        """Name, steps and norm."""
        return f"DDN-{self.steps} {within('l2', self.eps)}"
