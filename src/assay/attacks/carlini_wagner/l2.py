"""Carlini & Wagner's l2 attack."""

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
from assay.parts.bisection import Bracket, begin, narrow
from assay.parts.losses import Margin
from assay.parts.min_distance import budget, check_budget, claim, within
from assay.parts.perturbation import Tanh
from assay.parts.step_rules import Adam, AdamState, Move, unprojected
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, whole

_STALL = 0.9999
"""A round ends early where the loss has not fallen below this share of what it was a tenth of the steps ago."""


class CarliniWagnerState(NamedTuple):
    """Where each row is: the variable, its optimiser, the trade-off constant, and the clock."""

    variable: torch.Tensor
    adam: AdamState
    bracket: Bracket
    has_hit: Flag
    """Whether this round has found an adversarial image."""
    last: PerRow
    """Loss at the last look."""
    step: Count
    round: Count


@with_hints
@dataclass(frozen=True)
class CarliniWagnerL2:
    """Least ``‖δ‖² + c·max(−margin, −κ)`` by Adam on a tanh variable, with a row-wise bisection of c.

    Every row has its own constant, its own rounds and its own early stop.

    Args:
        steps: Adam steps a round.
        rounds: rounds of the bisection of c.
        constant: first c.
        rate: learning rate of Adam.
        confidence: margin in logits that the image must have (κ).
        abort: end a round where the loss no longer falls.
        eps: images further away than this do not count; None for no limit.
        variable: how the image is written; how far pixels are squeezed towards 1/2 before the tanh.

    Example:
        >>> CarliniWagnerL2(steps=200).describe()
        'C&W-9×200 l2'

    Source: Carlini & Wagner, "Towards evaluating the robustness of neural networks", S&P 2017, sections V and VI-A;
    official code github.com/carlini/nn_robust_attacks for the constants. Deviations: pixels at exactly 0 and 1 map to
    a finite variable with a usable gradient (`Tanh`, squeezed by 0.2 and not by a rounding error: pixels at 0 and 1
    move from the first step on); Adam's ε is 1e-12 so that small gradients still move it.
    """

    steps: int = 1000
    rounds: int = 9
    constant: float = 1e-3
    rate: float = 0.01
    confidence: float = 0.0
    abort: bool = True
    eps: float | None = None
    variable: Tanh = field(default_factory=lambda: Tanh(0.2))

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        whole("rounds", self.rounds, least=1)
        number("constant", self.constant, least=0, above=True)
        number("rate", self.rate, least=0, above=True)
        number("confidence", self.confidence, least=0)
        check_budget(self, "l2")

    @property
    def geometry(self) -> Geometry | None:
        """The limit on the distance, if there is one."""
        return budget("l2", self.eps)

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
        return Traits("gradient", self.steps * self.rounds, minimises="l2", objective=Margin())

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "CarliniWagnerL2 | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(self, effort, step_size, geometry, objective, rates=("rate",), norm="l2")

    def init(self, rows: Rows, rng: Rng) -> CarliniWagnerState:
        """At the clean image, with the first constant."""
        variable = self.variable.start(rows, torch.zeros_like(rows.x))
        count = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        bracket = begin(rows.x, self.constant)
        infinite = torch.full_like(bracket.constant, torch.inf)
        return CarliniWagnerState(variable, self.adam.init(variable), bracket, count > 0, infinite, count, count)

    def step(self, rows: Rows, state: CarliniWagnerState, oracle: Oracle, rng: Rng) -> Step[CarliniWagnerState]:
        """One Adam step; where a round ends, the next one begins."""
        image = self.variable.image(rows, state.variable)
        seen = oracle.evaluate(Margin(self.confidence), image, rows)
        at = claim(rows, image, seen.logits, "l2", self.geometry)
        enough = rows.goal.margin(seen.logits) >= self.confidence
        hit, reached = at.hit & enough, at.reached & enough
        delta = image - rows.x
        constant = state.bracket.constant
        loss = at.length.square() + constant * (self.confidence - seen.value)
        grad = self.variable.pullback(rows, state.variable, expand_rows(constant, delta) * seen.grad - 2 * delta)
        variable, adam = self.adam.update(
            Move(rows, state.variable, grad, lambda: -loss, state.step, unprojected), state.adam
        )
        state = state._replace(variable=variable, adam=adam, has_hit=state.has_hit | reached, step=state.step + 1)
        state, ended = self._look(state, loss)
        state = self._next_round(rows, state, ended)
        cost = torch.where(hit, at.cost, torch.inf)
        return Step(state, image, hit, cost, state.round >= self.rounds)

    def describe(self) -> str:
        """Name, rounds, steps and norm."""
        return f"C&W-{self.rounds}×{self.steps} {within('l2', self.eps)}"

    def _look(self, state: CarliniWagnerState, loss: PerRow) -> tuple[CarliniWagnerState, Flag]:
        """Which rounds have ended: all steps done, or stalled."""
        ended = state.step >= self.steps
        if not self.abort:
            return state, ended
        look = (state.step - 1) % max(self.steps // 10, 1) == 0
        stalled = look & (loss > _STALL * state.last)
        return state._replace(last=torch.where(look, loss, state.last)), ended | stalled

    def _next_round(self, rows: Rows, state: CarliniWagnerState, ended: Flag) -> CarliniWagnerState:
        fresh = self.init(rows, Rng())
        bracket = narrow(state.bracket, state.has_hit)
        last_try = (state.round + 2 >= self.rounds) & (self.rounds >= 10) & bracket.high.isfinite()
        bracket = bracket._replace(constant=torch.where(last_try, bracket.high, bracket.constant))
        started = fresh._replace(bracket=bracket, round=state.round + 1)
        return choose(ended, started, state)
