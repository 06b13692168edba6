"""Carlini & Wagner's linf attack."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from assay.core.attack import Step
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.tree import choose, expand_rows
from assay.core.types import Count, Flag, PerRow
from assay.parts.losses import Margin
from assay.parts.min_distance import budget, check_budget, claim, within
from assay.parts.perturbation import Tanh
from assay.parts.step_rules import Adam, AdamState, Move, unprojected
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, whole

_FINEST = 0.01
"""The search ends where the largest limit that failed is within this share of the smallest that did not."""


class LimitState(NamedTuple):
    """Where each row is: the variable, its optimiser, the constant, the limit on each pixel, and the clock."""

    variable: torch.Tensor
    adam: AdamState
    constant: PerRow
    limit: PerRow
    failed: PerRow
    """The largest limit for which no constant was enough."""
    best: PerRow
    """The smallest distance of an adversarial image so far."""
    kept: torch.Tensor
    """The variable of the last search that succeeded: where the next one starts."""
    has_hit: Flag
    """Whether this search has found a nearer adversarial image."""
    step: Count
    searches: Count


@with_hints
@dataclass(frozen=True)
class CarliniWagnerLinf:
    """Least ``c·max(−margin, 0) + Σ max(|δ_i| − τ, 0)`` by Adam for ever smaller τ: the smallest largest change.

    A row lowers τ each time it succeeds, and raises c each time it does not; when the largest c fails, τ is taken half
    way back, until success and failure are within 1 %. Each search starts where the last one ended.

    Args:
        steps: the most Adam steps of one search.
        constant: first c.
        largest: largest c.
        decrease: factor on τ after a success.
        rate: learning rate of Adam.
        searches: the most searches.
        eps: images further away than this do not count; None for no limit.
        variable: how the image is written; how far pixels are squeezed towards 1/2 before the tanh.

    Example:
        >>> CarliniWagnerLinf(steps=100).describe()
        'C&W-100 linf'

    Source: Carlini & Wagner, "Towards evaluating the robustness of neural networks", S&P 2017, section VI-C; official
    code github.com/carlini/nn_robust_attacks for the constants. Deviations: each row has its own c and τ; the way back
    to a larger τ, which the paper does not have, and without which the result is up to a factor ``decrease`` too large;
    a search ends as soon as it has an adversarial image within τ; its learning rate falls to 1 % along a line.
    """

    steps: int = 1000
    constant: float = 1e-3
    largest: float = 20.0
    decrease: float = 0.9
    rate: float = 0.01
    searches: int = 100
    eps: float | None = None
    variable: Tanh = field(default_factory=lambda: Tanh(0.2))

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        number("constant", self.constant, least=0, above=True)
        number("largest", self.largest, least=self.constant)
        number("decrease", self.decrease, least=0, most=1, above=True)
        number("rate", self.rate, least=0, above=True)
        whole("searches", self.searches, least=1)
        check_budget(self, "linf")

    @property
    def geometry(self) -> Geometry | None:
        """The limit on the distance, if there is one."""
        return budget("linf", self.eps)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond the image."""
        return ()

    @property
    def adam(self) -> Adam:
        """The step rule."""
        return Adam(self.rate, eps=1e-12)

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        return Traits("gradient", self.steps * self.searches, minimises="linf", objective=Margin())

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "CarliniWagnerLinf | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(self, effort, step_size, geometry, objective, rates=("rate",), norm="linf")

    def init(self, rows: Rows, rng: Rng) -> LimitState:
        """At the clean image, with no limit."""
        variable = self.variable.start(rows, torch.zeros_like(rows.x))
        count = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        one = torch.ones_like(rows.x.flatten(1)[:, 0]) if rows.x[0:1].numel() else rows.x.flatten(1).sum(1)
        return LimitState(
            variable=variable,
            adam=self.adam.init(variable),
            constant=self.constant * one,
            limit=one,
            failed=0 * one,
            best=torch.inf * one,
            kept=variable,
            has_hit=count > 0,
            step=count,
            searches=count,
        )

    def step(self, rows: Rows, state: LimitState, oracle: Oracle, rng: Rng) -> Step[LimitState]:
        """One Adam step; where a search ends, the next one begins."""
        image = self.variable.image(rows, state.variable)
        seen = oracle.evaluate(Margin(0.0), image, rows)
        at = claim(rows, image, seen.logits, "linf", self.geometry)
        delta = image - rows.x
        nearer = at.reached & (at.length < state.best)
        beyond = delta.sign() * (delta.abs() > expand_rows(state.limit, delta))
        slope = expand_rows(state.constant, delta) * seen.grad - beyond
        grad = self.variable.pullback(rows, state.variable, slope)
        move = Move(rows, state.variable, grad, lambda: -at.length, state.step, unprojected)
        variable, adam = self.adam.update(move, state.adam)
        left = 1 - 0.99 * state.step.to(at.length) / max(self.steps, 1)  # ever shorter steps, which end nearer to τ
        variable = state.variable + expand_rows(left, variable) * (variable - state.variable)
        solved = at.reached & (at.length <= state.limit)
        state = state._replace(
            variable=torch.where(expand_rows(solved, variable), state.variable, variable),
            adam=adam,
            best=torch.where(nearer, at.length, state.best),
            kept=torch.where(expand_rows(nearer, variable), state.variable, state.kept),
            has_hit=state.has_hit | (at.reached & (at.length <= state.limit)),
            step=state.step + 1,
        )
        state, done = self._next_search(state, solved)
        return Step(state, image, at.hit, at.cost, done | (self.steps == 0))

    def describe(self) -> str:
        """Name, steps and norm."""
        return f"C&W-{self.steps} {within('linf', self.eps)}"

    def _next_search(self, state: LimitState, solved: Flag) -> tuple[LimitState, Flag]:
        """Where a search has ended: a lower limit after a success, a larger constant or a higher limit after none."""
        ended = solved | (state.step >= self.steps)
        stronger = ~state.has_hit & (2 * state.constant <= self.largest)
        hopeless = ~state.has_hit & ~stronger
        failed = torch.where(hopeless, torch.maximum(state.failed, state.limit), state.failed)
        lower = torch.maximum(self.decrease * state.best, 0.5 * (failed + state.best))
        constant = torch.where(stronger, 2 * state.constant, state.constant)
        limit = torch.where(stronger, state.limit, lower)
        start = torch.where(expand_rows(hopeless, state.kept), state.kept, state.variable)
        after = state._replace(
            variable=start,
            adam=self.adam.init(start),
            constant=constant,
            limit=limit,
            failed=failed,
            has_hit=torch.zeros_like(state.has_hit),
            step=torch.zeros_like(state.step),
            searches=state.searches + 1,
        )
        close = state.best - failed <= _FINEST * state.best
        never = hopeless & state.best.isinf()
        done = ended & (close | never | (after.searches >= self.searches) | (limit <= 1e-6))
        return choose(ended, after, state), done
