"""Refinement of a sparse perturbation with its zeros held."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from assay.attacks.structured.on_support import support_of
from assay.core.attack import Step
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.tree import choose, expand_rows
from assay.core.types import Count, Flag, Images, PerRow
from assay.parts.balls import Ball
from assay.parts.bisection import Bracket, begin, narrow
from assay.parts.losses import Margin
from assay.parts.min_distance import check_budget, claim, length_of
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, reject, whole


class RefineState(NamedTuple):
    """Where each row is: iterate and multiplier of ADMM, the values that may change, the constant, the clock."""

    z: Images
    u: Images
    support: Tensor
    bracket: Bracket
    reached: Flag
    least: PerRow
    stale: Count
    step: Count
    round: Count


@with_hints
@dataclass(frozen=True)
class Refine:
    """Least ``c·max(−margin, −κ) + γ‖δ‖²`` over the values that an adversarial image has changed: smaller, as sparse.

    Follows any attack that leaves few values changed: ``Then(SigmaZero(), Refine())``.

    Args:
        steps: the most ADMM iterations a round.
        rounds: rounds of the bisection of c, which each row has for itself.
        quantile: share of the changed values, the smallest, that are put back first (σ).
        constant: first c.
        gamma: weight of the distortion (γ).
        rho: penalty of ADMM (ρ).
        alpha: weight of the linearised part (η).
        confidence: margin in logits that the image must have (κ).
        patience: a round ends after so many iterations without a smaller adversarial image, once it has one.
        eps: limit on every single change.

    Example:
        >>> Refine(steps=50).describe()
        'refined 4×50'

    Source: Xu et al., "Structured adversarial attack", ICLR 2019, section 4.2, proposition 3. Deviations:
    the gradient is taken at δ, which has to be evaluated anyway, rather than at z; γ is 1/100 (authors' code).
    """

    steps: int = 100
    rounds: int = 4
    quantile: float = 0.03
    constant: float = 1.0
    gamma: float = 0.01
    rho: float = 1.0
    alpha: float = 5.0
    confidence: float = 0.0
    patience: int = 30
    eps: float | None = None

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        for name in ("rounds", "patience"):
            whole(name, getattr(self, name), least=1)
        number("quantile", self.quantile, least=0, most=1)
        for name in ("constant", "rho", "alpha"):
            number(name, getattr(self, name), least=0, above=True)
        for name in ("gamma", "confidence"):
            number(name, getattr(self, name), least=0)
        check_budget(self, "linf")

    @property
    def geometry(self) -> Geometry | None:
        """The limit on every single change, if there is one."""
        return None if self.eps is None else Ball("linf", self.eps)

    @property
    def needs(self) -> tuple[str, ...]:
        """The image to start from."""
        return ("start",)

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        return Traits("gradient", self.steps * self.rounds, minimises="groups", objective=Margin())

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "Refine | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(self, effort, step_size, geometry, objective, norm="linf")

    def init(self, rows: Rows, rng: Rng) -> RefineState:
        """At the image found so far, without its smallest changes."""
        if rows.start is None:
            reject("rows.start", "images to refine, such as another attack leaves: Then(attack, Refine())", None)
        delta = rows.start - rows.x
        support = support_of(delta, self.quantile)
        count = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        bracket = begin(rows.x, self.constant)
        infinite = torch.full_like(bracket.constant, torch.inf)
        z = delta * support
        return RefineState(z, torch.zeros_like(z), support, bracket, count > 0, infinite, count, count, count)

    def step(self, rows: Rows, state: RefineState, oracle: Oracle, rng: Rng) -> Step[RefineState]:
        """One ADMM iteration (equations 21 and 22)."""
        low, high = -rows.x, 1 - rows.x
        if self.eps is not None:
            low, high = low.clamp_min(-self.eps), high.clamp_max(self.eps)
        pulled = (state.z - state.u) * (self.rho / (self.rho + 2 * self.gamma))
        delta = torch.minimum(torch.maximum(pulled, low), high) * state.support
        image = (rows.x + delta).clamp(0, 1)
        seen = oracle.evaluate(Margin(self.confidence), image, rows)
        at = claim(rows, image, seen.logits, "l2", self.geometry)
        enough = rows.goal.margin(seen.logits) >= self.confidence
        reached = at.reached & enough
        slope = -expand_rows(state.bracket.constant, delta) * seen.grad
        z = (self.alpha * state.z + self.rho * (delta + state.u) - slope) / (self.alpha + self.rho) * state.support
        better = reached & (at.length < state.least)
        state = state._replace(
            z=z,
            u=state.u + delta - z,
            reached=state.reached | reached,
            least=torch.where(better, at.length, state.least),
            stale=torch.where(better | ~state.reached, 0, state.stale + 1),
            step=state.step + 1,
        )
        state = self._next_round(rows, state)
        hit = at.hit & enough & (at.length < _distance(rows))
        done = (state.round >= self.rounds) | (state.step >= self.steps)
        return Step(state, image, hit, torch.where(hit, at.length, torch.inf), done)

    def describe(self) -> str:
        """Rounds and steps."""
        limit = "" if self.geometry is None else f" {self.geometry.describe()}"
        return f"refined {self.rounds}×{self.steps}{limit}"

    def _next_round(self, rows: Rows, state: RefineState) -> RefineState:
        ended = (state.step >= self.steps) | (state.stale >= self.patience)
        fresh = self.init(rows, Rng())
        bracket = narrow(state.bracket, state.reached, growth=5.0)
        return choose(ended, fresh._replace(bracket=bracket, round=state.round + 1), state)


def _distance(rows: Rows) -> PerRow:
    """How far the start is, in l2."""
    return length_of((rows.x if rows.start is None else rows.start) - rows.x, "l2")
