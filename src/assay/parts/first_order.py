"""Every first-order attack: a geometry, an objective, a step rule, a start and a perturbation.

Each row of a batch goes through this by itself::

    δ = 0, or a random member of the set             # start, geometry.sample
    repeat for each step:
        z = model(x + δ)                             # oracle.evaluate: one pass forward, one backward
        g = gradient of objective(z) by δ
        hit where z reaches the goal                 # a claim, which the referee measures again
        δ = project(δ + direction(g))                # rule.update: sign, momentum, APGD's step size, …
    the referee keeps the best hit, else the image of the largest objective

``δ`` are parameters: an additive perturbation, or a flow or a colour map, which `Perturbation` makes an image of.
"""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from assay.core.attack import Step
from assay.core.evaluation import Evaluation
from assay.core.geometry import Bounded, Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.types import Count, Images
from assay.parts.counts import scaled_count
from assay.parts.perturbation import Additive, Perturbation
from assay.parts.step_rules import Move, StepRule
from assay.parts.variation import check_variation
from assay.util.validate import one_of, whole

STARTS = ("clean", "inside", "edge")


class FirstOrderState(NamedTuple):
    """Where each row is.

    Attributes:
        parameters: what is moved: a perturbation, or where the set is a box the image itself.
        image: the image; None where it is the parameters.
        bounds: the least and the greatest image, where the set is a box.
        rule: the step rule's state.
        step: updates so far, on the CPU.
    """

    parameters: Tensor
    image: Images | None
    bounds: tuple[Images, Images] | None
    rule: Any
    step: Count


@dataclass(frozen=True)
class FirstOrder:
    """Projected ascent on an objective: the composition behind FGSM, PGD, MIM, APGD, dual-perturbation and others.

    With ``steps`` updates a row costs ``steps`` passes forward and backward; the image after the last update is left
    to the referee, who measures every row once more in any case.

    Args:
        name: for tables.
        geometry: the set of perturbations.
        objective: what is maximised.
        rule: how a gradient moves the image.
        steps: number of updates, at least 0 (0 evaluates the start alone).
        start: ``"clean"``, ``"inside"`` (a random member of the set) or ``"edge"`` (one on its surface).
        perturbation: how parameters become an image.
    """

    name: str
    geometry: Geometry
    objective: Objective
    rule: StepRule[Any]
    steps: int
    start: str = "clean"
    perturbation: Perturbation = field(default_factory=Additive)

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        one_of("start", self.start, STARTS)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the geometry and the objective read of the rows."""
        return tuple(sorted({*self.geometry.needs, *self.objective.needs}))

    @property
    def traits(self) -> Traits:
        """One pass forward and backward a step."""
        return Traits("gradient", max(self.steps, 1), randomised=self.start != "clean", objective=self.objective)

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "FirstOrder | None":
        """With another effort, step size, budget or loss."""
        check_variation(geometry, objective)
        rule = self.rule.vary(effort=effort, step_size=step_size, geometry=geometry)
        if rule is None:
            return None
        return replace(
            self,
            geometry=geometry or self.geometry,
            objective=objective or self.objective,
            rule=rule,
            steps=scaled_count(self.steps, effort),
        )

    def init(self, rows: Rows, rng: Rng) -> FirstOrderState:
        """At the start point."""
        delta = torch.zeros_like(rows.x)
        if self.start != "clean":
            delta = self.geometry.sample(rows, rng, "start", edge=self.start == "edge")
        step, bounds = torch.zeros(len(rows), dtype=torch.int64), self._bounds(rows)
        if bounds is not None:
            image = (rows.x + delta).clamp(0, 1)
            return FirstOrderState(image, None, bounds, self.rule.init(image), step)
        parameters = self.perturbation.start(rows, delta)
        image = self.perturbation.image(rows, parameters)
        return FirstOrderState(parameters, image, None, self.rule.init(parameters), step)

    def step(self, rows: Rows, state: FirstOrderState, oracle: Oracle, rng: Rng) -> Step[FirstOrderState]:
        """Evaluate the image at hand and move on."""
        image = state.parameters if state.image is None else state.image
        if self.steps == 0:
            logits = oracle.logits(image, rows)
            value = self.objective(logits, image, rows)
            done = torch.ones_like(state.step, dtype=torch.bool)
            return Step(state, image, rows.goal.reached(logits, image), -value, done)
        seen = oracle.evaluate(self.objective, image, rows, scaled=self.rule.scaled)
        after = self._moved(rows, state, seen)
        pending = after.parameters if after.image is None else after.image
        hit = rows.goal.reached(seen.logits, image)
        return Step(after, image, hit, lambda: -seen.value, after.step >= self.steps, pending=pending)

    def _moved(self, rows: Rows, state: FirstOrderState, seen: Evaluation) -> FirstOrderState:
        """After one update."""
        grad, bounds = seen.grad, state.bounds
        if bounds is None:
            grad = self.perturbation.pullback(rows, state.parameters, grad)

        def project(parameters: Tensor) -> Tensor:
            if bounds is None:
                return self.perturbation.project(rows, parameters, self.geometry)
            return parameters.clamp(*bounds)

        move = Move(rows, state.parameters, grad, lambda: seen.value, state.step, project)
        parameters, rule = self.rule.update(move, state.rule)
        image = self.perturbation.image(rows, parameters) if bounds is None else None
        return FirstOrderState(parameters, image, bounds, rule, state.step + 1)

    def _bounds(self, rows: Rows) -> tuple[Images, Images] | None:
        """Where the set is a box and what is moved is the image: then a projection is one clamp."""
        like = getattr(self.rule, "geometry", self.geometry) == self.geometry
        if like and isinstance(self.perturbation, Additive) and isinstance(self.geometry, Bounded):
            return self.geometry.bounds(rows)
        return None

    def describe(self) -> str:
        """Name, steps and budget."""
        count = f"-{self.steps}" if self.steps != 1 else ""
        return f"{self.name}{count} {self.geometry.describe()}"
