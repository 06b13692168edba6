"""Carlini & Wagner's l0 attack."""

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
from assay.core.types import Count, Flag, Images, PerRow
from assay.parts.losses import Margin
from assay.parts.min_distance import budget, check_budget, claim, within
from assay.parts.perturbation import Tanh
from assay.parts.sparse_sets import keep_largest
from assay.parts.step_rules import Adam, AdamState, Move, unprojected
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, whole

_UNCHANGED = 1e-4
"""A value that differs by less counts as unchanged (official code)."""


class FreezingState(NamedTuple):
    """Where each row is: the variable, its optimiser, the values still free, the constant, the clock."""

    variable: torch.Tensor
    adam: AdamState
    free: torch.Tensor
    constant: PerRow
    step: Count
    searches: Count


@with_hints
@dataclass(frozen=True)
class CarliniWagnerL0:
    """The l2 attack again and again, each time with the values frozen that mattered least to the last success.

    Args:
        steps: the most Adam steps of one search.
        constant: first c; it doubles while a search fails.
        largest: largest c; when it fails, the row is done.
        rate: learning rate of Adam.
        share: of the values that can still go, at least ``share·√count`` are frozen after a success.
        searches: the most searches.
        eps: images with more values changed do not count; None for no limit.
        variable: how the image is written; how far pixels are squeezed towards 1/2 before the tanh.

    Example:
        >>> CarliniWagnerL0(steps=100).describe()
        'C&W-100 l0'

    Source: Carlini & Wagner, "Towards evaluating the robustness of neural networks", S&P 2017, section VI-B; official
    code github.com/carlini/nn_robust_attacks for the constants. A search ends with its first adversarial image, whose
    frozen values are then put back to the clean ones. Deviation: each row has its own c and its own set of values.
    """

    steps: int = 1000
    constant: float = 1e-3
    largest: float = 2e6
    rate: float = 0.01
    share: float = 0.3
    searches: int = 1000
    eps: float | None = None
    variable: Tanh = field(default_factory=lambda: Tanh(0.2))

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        number("constant", self.constant, least=0, above=True)
        number("largest", self.largest, least=self.constant)
        number("rate", self.rate, least=0, above=True)
        number("share", self.share, least=0, above=True)
        whole("searches", self.searches, least=1)
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
    def adam(self) -> Adam:
        """The step rule."""
        return Adam(self.rate, eps=1e-12)

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        return Traits("gradient", self.steps * self.searches, minimises="l0", objective=Margin())

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "CarliniWagnerL0 | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(self, effort, step_size, geometry, objective, rates=("rate",), norm="l0")

    def init(self, rows: Rows, rng: Rng) -> FreezingState:
        """At the clean image with every value free."""
        variable = self.variable.start(rows, torch.zeros_like(rows.x))
        count = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        constant = torch.full_like(count, self.constant, dtype=rows.x.dtype)
        free = torch.ones_like(rows.x, dtype=torch.bool)
        return FreezingState(variable, self.adam.init(variable), free, constant, count, count)

    def step(self, rows: Rows, state: FreezingState, oracle: Oracle, rng: Rng) -> Step[FreezingState]:
        """One Adam step; after a success values are frozen, after a failure c doubles."""
        image = torch.where(state.free, self.variable.image(rows, state.variable), rows.x)
        delta = image - rows.x
        image = torch.where(delta.abs() < _UNCHANGED, rows.x, image)
        seen = oracle.evaluate(Margin(), image, rows)
        at = claim(rows, image, seen.logits, "l0", self.geometry)
        weight = torch.where(seen.value < 0, state.constant, 0.0)
        slope = expand_rows(weight, delta) * seen.grad - 2 * delta
        grad = torch.where(state.free, self.variable.pullback(rows, state.variable, slope), 0.0)
        move = Move(rows, state.variable, grad, lambda: -at.length, state.step, unprojected)
        variable, adam = self.adam.update(move, state.adam)
        moved = state._replace(variable=variable, adam=adam, step=state.step + 1)
        state, done = self._next_search(rows, moved, state.variable, image, seen.grad, at.reached)
        return Step(state, image, at.hit, at.cost, done | (self.steps == 0))

    def describe(self) -> str:
        """Name, steps and norm."""
        return f"C&W-{self.steps} {within('l0', self.eps)}"

    def _next_search(
        self, rows: Rows, state: FreezingState, variable: torch.Tensor, image: Images, grad: Images, reached: Flag
    ) -> tuple[FreezingState, Flag]:
        failed = ~reached & (state.step >= self.steps)
        changed = image != rows.x
        worth = (grad * (image - rows.x)).abs()
        count = changed.flatten(1).sum(1)
        drop = (self.share * count.to(worth).sqrt()).floor().clamp_min(1)
        ranked = torch.where(changed, 1 / (worth + 1e-30), 0.0)
        frozen = keep_largest(ranked, drop) | ~changed
        free = state.free & ~frozen
        clock = torch.zeros_like(state.step)
        won = state._replace(
            variable=variable,
            adam=self.adam.init(variable),
            free=free,
            step=clock,
            searches=state.searches + 1,
        )
        again = state._replace(
            adam=self.adam.init(state.variable), constant=2 * state.constant, step=clock, searches=state.searches + 1
        )
        out = failed & (2 * state.constant > self.largest)
        done = out | ((state.searches + 1 >= self.searches) & (reached | failed)) | (reached & (count <= 1))
        return choose(reached, won, choose(failed, again, state)), done
