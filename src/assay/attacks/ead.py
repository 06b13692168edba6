"""Elastic-net attack."""

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
from assay.core.tree import choose, expand_rows
from assay.core.types import Count, Flag, Images, PerRow
from assay.parts.bisection import Bracket, begin, narrow
from assay.parts.losses import Margin
from assay.parts.min_distance import budget, check_budget, claim, within
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, one_of, whole

_STALL = 0.9999


class EADState(NamedTuple):
    """Where each row is: the iterate, the point of FISTA ahead of it, the constant, and the clock."""

    delta: Images
    ahead: Images
    bracket: Bracket
    has_hit: Flag
    last: PerRow
    step: Count
    round: Count


@with_hints
@dataclass(frozen=True)
class EAD:
    """Least ``c·max(−margin, −κ) + ‖δ‖² + β‖δ‖₁`` by FISTA, with a row-wise bisection of c: sparse and small.

    Args:
        steps: FISTA steps a round.
        rounds: rounds of the bisection of c.
        beta: weight of the l1 norm, and the threshold below which a value goes back to the clean one.
        rule: which adversarial image is kept: ``"l1"`` (least l1) or ``"en"`` (least ``‖δ‖² + β‖δ‖₁``).
        constant: first c.
        rate: first step size; it falls as the square root of what is left of the round.
        confidence: margin in logits that the image must have (κ).
        abort: end a round where the loss no longer falls.
        eps: images with a larger l1 norm do not count; None for no limit.

    Example:
        >>> EAD(steps=100).describe()
        'EAD-6×100 l1'

    Source: Chen, Sharma, Zhang, Yi & Hsieh, "EAD: elastic-net attacks to deep neural networks via adversarial
    examples", AAAI 2018, algorithm 1, equations 4–7; official code github.com/ysharma1126/EAD_Attack for the constants.
    Deviations: c begins at 1, not at 1/1000, which saves the three rounds that never find anything; half its rate,
    which came nearer with as many steps.
    """

    steps: int = 1000
    rounds: int = 6
    beta: float = 1e-2
    rule: str = "l1"
    constant: float = 1.0
    rate: float = 0.005
    confidence: float = 0.0
    abort: bool = True
    eps: float | None = None

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        whole("rounds", self.rounds, least=1)
        number("beta", self.beta, least=0)
        one_of("rule", self.rule, ("l1", "en"))
        number("constant", self.constant, least=0, above=True)
        number("rate", self.rate, least=0, above=True)
        number("confidence", self.confidence, least=0)
        check_budget(self, "l1")

    @property
    def geometry(self) -> Geometry | None:
        """The limit on the distance, if there is one."""
        return budget("l1", self.eps)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond the image."""
        return ()

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        return Traits("gradient", self.steps * self.rounds, price=2, minimises="l1", objective=Margin())

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "EAD | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(self, effort, step_size, geometry, objective, rates=("rate",), norm="l1")

    def init(self, rows: Rows, rng: Rng) -> EADState:
        """At the clean image, with the first constant."""
        count = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        bracket = begin(rows.x, self.constant)
        zero, infinite = torch.zeros_like(rows.x), torch.full_like(bracket.constant, torch.inf)
        return EADState(zero, zero, bracket, count > 0, infinite, count, count)

    def step(self, rows: Rows, state: EADState, oracle: Oracle, rng: Rng) -> Step[EADState]:
        """One FISTA step from the point ahead, and a look at where it leads."""
        point = (rows.x + state.ahead).clamp(0, 1)  # momentum leads out of the box, where a model need not be defined
        seen = oracle.evaluate(Margin(self.confidence), point, rows)
        left = 1 - state.step.to(rows.x) / max(self.steps, 1)
        constant = state.bracket.constant
        slope = 2 * state.ahead - expand_rows(constant, state.ahead) * seen.grad
        delta = self._shrink(rows, state.ahead - expand_rows(self.rate * left.clamp_min(0).sqrt(), slope) * slope)
        if self.steps == 0:
            delta = state.delta
        image = (rows.x + delta).clamp(0, 1)
        logits = oracle.logits(image, rows)
        at = claim(rows, image, logits, "l1", self.geometry)
        margin = rows.goal.margin(logits)
        enough = margin >= self.confidence
        hit, reached = at.hit & enough, at.reached & enough
        elastic = delta.flatten(1).square().sum(1) + self.beta * at.length
        loss = elastic + constant * (self.confidence - margin).clamp_min(0)
        weight = state.step.to(delta) / (state.step + 3).to(delta)
        ahead = delta + expand_rows(weight, delta) * (delta - state.delta)
        state = state._replace(delta=delta, ahead=ahead, has_hit=state.has_hit | reached, step=state.step + 1)
        state = self._clock(rows, state, loss)
        cost = torch.where(hit, at.length if self.rule == "l1" else elastic, torch.inf)
        return Step(state, image, hit, cost, state.round >= self.rounds)

    def describe(self) -> str:
        """Name, rounds, steps and norm."""
        return f"EAD-{self.rounds}×{self.steps} {within('l1', self.eps)}"

    def _shrink(self, rows: Rows, delta: Images) -> Images:
        """Iterative shrinkage-thresholding within the box (equation 5)."""
        less = torch.where(delta.abs() > self.beta, delta - self.beta * delta.sign(), 0.0)
        return (rows.x + less).clamp(0, 1) - rows.x

    def _clock(self, rows: Rows, state: EADState, loss: PerRow) -> EADState:
        ended = state.step >= self.steps
        if self.abort:
            look = (state.step - 1) % max(self.steps // 10, 1) == 0
            ended = ended | (look & (loss > _STALL * state.last))
            state = state._replace(last=torch.where(look, loss, state.last))
        fresh = self.init(rows, Rng())
        bracket = narrow(state.bracket, state.has_hit)
        return choose(ended, fresh._replace(bracket=bracket, round=state.round + 1), state)
