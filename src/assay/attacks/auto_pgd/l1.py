"""Auto-PGD for l1: sparse steps whose sparsity adapts, from larger budgets down."""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from assay.core.attack import Step
from assay.core.evaluation import Evaluation
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.tree import choose, expand_rows
from assay.core.types import Count, Images, PerRow
from assay.parts.balls import Ball
from assay.parts.counts import scaled_count
from assay.parts.l1_ascent import sparse_direction
from assay.parts.variation import check_variation
from assay.util.validate import whole

_LARGER = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
_KEEP = 1.5
_SHRINK, _LEAST = 1.5, 0.1
_EXACT = 0.1
"""Share of the steps, at the end, that are the best transfers between coordinates: they end at the linear optimum."""


class SparseState(NamedTuple):
    """What a row remembers."""

    delta: Images
    image: Images
    rate: PerRow
    """Step size, as a share of the stage's budget."""
    share: PerRow
    """Share of the coordinates that a step changes."""
    support: PerRow
    """Coordinates that the best perturbation changed, at the last checkpoint."""
    best: Images
    best_grad: Images
    best_value: PerRow
    step: Count
    scale: Tensor
    """The row's copy of the budget of each step, as a multiple of eps."""
    check: Tensor
    """The row's copy of which steps are checkpoints."""


@dataclass(frozen=True)
class SparseAutoPGD:
    """l1-APGD: a step changes the coordinates of largest gradient, as many as two thirds of the best support so far.

    The first 30 % of the steps may spend three times the budget, the next 30 % twice; each stage starts from the best
    image of the one before, projected. Images outside the budget never count as adversarial.

    Args:
        name: for tables.
        geometry: an l1 ball.
        objective: what is maximised.
        steps: gradient steps in all.

    Source: Croce & Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers", ICML 2021,
    section 4 and algorithm 1; official code github.com/fra31/auto-attack (autopgd_base.py) for the constants.
    Deviations: below ten steps there is one stage; a stage begins by evaluating its start, within ``steps``; the number
    of coordinates is rounded down, so that it can fall to one; the last tenth of the steps are exact transfers
    (`Ball.steepest`), with which the optimum of a linear model is reached to rounding; the state is row-wise.
    """

    name: str
    geometry: Ball
    objective: Objective
    steps: int

    def __post_init__(self) -> None:
        whole("steps", self.steps)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the objective reads."""
        return self.objective.needs

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        return Traits("gradient", self.steps, randomised=True, objective=self.objective)

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "SparseAutoPGD | None":
        """With another effort, step size, budget or loss."""
        check_variation(geometry, objective)
        if step_size != 1 or not (geometry is None or (isinstance(geometry, Ball) and geometry.norm == "l1")):
            return None
        return replace(
            self,
            steps=scaled_count(self.steps, effort),
            geometry=geometry or self.geometry,
            objective=objective or self.objective,
        )

    def init(self, rows: Rows, rng: Rng) -> SparseState:
        """A Gaussian draw, projected on the first stage's ball."""
        count, device = len(rows), rows.x.device
        factors, checks = _timetable(self.steps)
        scale = torch.tensor(factors, dtype=rows.x.dtype, device=device).expand(count, -1)
        check = torch.tensor(checks, dtype=torch.bool, device=device).expand(count, -1)
        normal = rng.normal(rows.key, tuple(rows.x.shape[1:]), "start").to(rows.x)
        delta = self.geometry.project(normal, rows, scale[:, 0].to(rows.x))
        support = _support(delta)
        return SparseState(
            delta=delta,
            image=(rows.x + delta).clamp(0, 1),
            rate=torch.ones(count, dtype=rows.x.dtype, device=device),
            share=support / delta[0].numel() / _KEEP if count else support,
            support=support,
            best=delta,
            best_grad=torch.zeros_like(delta),
            best_value=torch.full((count,), -torch.inf, dtype=rows.x.dtype, device=device),
            step=torch.zeros(count, dtype=torch.int64, device=device),
            scale=scale,
            check=check,
        )

    def step(self, rows: Rows, state: SparseState, oracle: Oracle, rng: Rng) -> Step[SparseState]:
        """Evaluate the image at hand and move on, or begin the next stage."""
        if self.steps == 0:
            logits = oracle.logits(state.image, rows)
            value = self.objective(logits, state.image, rows)
            done = torch.ones_like(state.step, dtype=torch.bool)
            return Step(state, state.image, rows.goal.reached(logits, state.image), -value, done)
        seen = oracle.evaluate(self.objective, state.image, rows)
        at = state.step.clamp_max(state.scale.shape[1] - 2)[:, None]
        scale = state.scale.gather(1, at).squeeze(1).to(rows.x)
        after = state.scale.gather(1, at + 1).squeeze(1).to(rows.x)
        state = _remember(state, seen)
        reduce, state = _adapt(state, state.check.gather(1, at).squeeze(1))
        here = torch.where(expand_rows(reduce, state.best), state.best, state.delta)
        grad = torch.where(expand_rows(reduce, state.best), state.best_grad, seen.grad)
        moved = here + sparse_direction(grad, state.share) * expand_rows(state.rate * scale * self.geometry.eps, grad)
        late = state.step >= (1 - _EXACT) * self.steps
        exact = here + self.geometry.steepest(grad, here, rows, state.rate)
        moved = torch.where(expand_rows(late, moved), exact, moved)
        staged = after < scale
        delta = self.geometry.project(torch.where(expand_rows(staged, moved), state.best, moved), rows, after)
        moved_on = self._next(rows, state, delta, staged)
        inside = scale <= 1
        hit = rows.goal.reached(seen.logits, state.image) & inside
        cost = torch.where(inside, -seen.value, torch.inf)
        return Step(
            moved_on,
            torch.where(expand_rows(inside, rows.x), state.image, rows.x),
            hit,
            cost,
            moved_on.step >= self.steps,
            pending=moved_on.image,
        )

    def describe(self) -> str:
        """Name, steps and budget."""
        return f"{self.name}-{self.steps} {self.geometry.describe()}"

    def _next(self, rows: Rows, state: SparseState, delta: Images, staged: Tensor) -> SparseState:
        """The state after a move; where a stage begins, its memory is empty."""
        support = _support(delta)
        fresh: Any = (
            torch.ones_like(state.rate),
            support / delta[0].numel() / _KEEP if len(delta) else support,
            support,
            torch.full_like(state.best_value, -torch.inf),
        )
        rate, share, known, value = choose(staged, fresh, (state.rate, state.share, state.support, state.best_value))
        return state._replace(
            delta=delta,
            image=(rows.x + delta).clamp(0, 1),
            rate=rate,
            share=share,
            support=known,
            best_value=value,
            step=state.step + 1,
        )


def _remember(state: SparseState, seen: Evaluation) -> SparseState:
    better = seen.value > state.best_value
    return state._replace(
        best=torch.where(expand_rows(better, state.best), state.delta, state.best),
        best_grad=torch.where(expand_rows(better, state.best), seen.grad, state.best_grad),
        best_value=torch.where(better, seen.value, state.best_value),
    )


def _adapt(state: SparseState, now: Tensor) -> tuple[Tensor, SparseState]:
    """At a checkpoint: sparser steps at full length where the support shrank, shorter ones where it did not."""
    support = _support(state.best)
    shrank = support < 0.95 * state.support
    rate = torch.where(shrank, 1.0, (state.rate / _SHRINK).clamp_min(_LEAST))
    total = state.best[0].numel() if len(state.best) else 1
    return now & shrank, state._replace(
        share=torch.where(now, support / total / _KEEP, state.share),
        rate=torch.where(now, rate, state.rate),
        support=torch.where(now, support, state.support),
    )


def _support(delta: Images) -> PerRow:
    return (delta != 0).flatten(1).sum(1).to(delta.dtype)


@cache
def _timetable(steps: int) -> tuple[tuple[float, ...], tuple[bool, ...]]:
    """For each step (and one more) the budget as a multiple of eps, and whether it is a checkpoint."""
    lengths = [math.ceil(share * steps) for _, share in _LARGER[:-1]]
    stages = [*zip([s for s, _ in _LARGER[:-1]], lengths, strict=True), (1.0, steps - sum(lengths))]
    if steps < 10:
        stages = [(1.0, steps)]
    scale: list[float] = []
    check: list[bool] = []
    for factor, length in stages:
        every = max(int(0.04 * length), 1)
        scale += [factor] * length
        check += [k > 0 and k % every == 0 for k in range(length)]
    return (*scale, 1.0, 1.0), (*check, False, False)
