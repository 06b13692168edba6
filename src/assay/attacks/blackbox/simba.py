"""SimBA: one coordinate at a time, by scores alone."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

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
from assay.parts.min_distance import budget, check_budget, claim, within
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, one_of, whole

_TIE = 1e-6
"""A gain below this share is rounding: a change that the box undoes has no effect, and is not kept."""


class SimBAState(NamedTuple):
    """The perturbation of each row, its value, and which direction comes next, with which sign."""

    delta: Images
    value: PerRow
    order: Tensor
    place: Count
    second: Tensor
    step: Count


@with_hints
@dataclass(frozen=True)
class SimBA:
    """Add ±step along random orthogonal directions, one query at a time, and keep what makes the scores worse.

    Args:
        step_size: length of a change, in input units.
        queries: the most queries.
        basis: ``"dct"`` (cosines, low frequencies first) or ``"pixels"``.
        frequencies: with ``"dct"``, side of the first block of frequencies, as a share of the image's; when a block is
            used up, it grows by one frequency each way.
        loss: objective or its name.
        eps: images further away in l2 do not count; None for no limit.

    Example:
        >>> SimBA(queries=500).describe()
        'SimBA-500 dct l2'

    Source: Guo, Gardner, You, Wilson & Weinberger, "Simple black-box adversarial attacks", ICML 2019, algorithm 1 and
    section 3.3; official code github.com/cg563/simple-blackbox-attack for the growing blocks. When every direction was
    tried, they are tried again in the same order.
    """

    step_size: float = 0.2
    queries: int = 5000
    basis: str = "dct"
    frequencies: float = 0.14
    loss: str | Objective = "ce"
    eps: float | None = None

    def __post_init__(self) -> None:
        number("step_size", self.step_size, least=0, above=True)
        whole("queries", self.queries, least=1)
        one_of("basis", self.basis, ("pixels", "dct"))
        number("frequencies", self.frequencies, least=0, most=1, above=True)
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
        return Traits("scores", self.queries, minimises="l2", randomised=True)

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "SimBA | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(
            self,
            effort,
            step_size,
            geometry,
            objective,
            counts=("queries",),
            rates=("step_size",),
            norm="l2",
            loss="loss",
        )

    def init(self, rows: Rows, rng: Rng) -> SimBAState:
        """Nothing changed, directions in a random order."""
        c, h, w = rows.x.shape[1:]
        drawn = rng.uniform(rows.key, (c * h * w,), "order")
        if self.basis == "dct":
            drawn = drawn + self._rings(h, w).to(drawn).repeat(c)
        order = drawn.argsort(dim=1, stable=True)
        count = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        low = torch.full_like(count, -torch.inf, dtype=rows.x.dtype)
        return SimBAState(torch.zeros_like(rows.x), low, order, count, count > 0, count)

    def step(self, rows: Rows, state: SimBAState, oracle: Oracle, rng: Rng) -> Step[SimBAState]:
        """One query: the clean image, then each time the next direction with the next sign."""
        first = state.step == 0
        at = state.order.gather(1, (state.place % state.order.shape[1])[:, None]).squeeze(1)
        sign = torch.where(state.second, -self.step_size, self.step_size)
        tried = state.delta + expand_rows(sign, rows.x) * self._direction(rows.x, at)
        tried = torch.where(expand_rows(first, tried), state.delta, tried)
        image = (rows.x + tried).clamp(0, 1)
        logits = oracle.logits(image, rows)
        value = objective(self.loss)(logits, image, rows)
        at_goal = claim(rows, image, logits, "l2", self.geometry)
        better = value - state.value > _TIE * value.abs()
        through = ~first & (better | state.second)
        after = SimBAState(
            delta=torch.where(expand_rows(better, tried), image - rows.x, state.delta),
            value=torch.where(better, value, state.value),
            order=state.order,
            place=state.place + through,
            second=~first & ~through,
            step=state.step + 1,
        )
        return Step(after, image, at_goal.hit, at_goal.cost, at_goal.reached | (after.step >= self.queries))

    def describe(self) -> str:
        """Name, queries and norm."""
        return f"SimBA-{self.queries} {self.basis} {within('l2', self.eps)}"

    def _direction(self, x: Images, at: Count) -> Images:
        """A direction of length 1 for each row."""
        h, w = x.shape[2:]
        if self.basis == "pixels":
            return torch.zeros_like(x).flatten(1).scatter(1, at[:, None], 1.0).view_as(x)
        channel, rest = at // (h * w), at % (h * w)
        wave = _cosines(h, rest // w, x)[:, :, None] * _cosines(w, rest % w, x)[:, None, :]
        return torch.zeros_like(x).scatter(1, channel[:, None, None, None].expand(-1, 1, h, w), wave[:, None])

    def _rings(self, h: int, w: int) -> Tensor:
        """In which growth of the block each frequency comes, ``(h·w,)``; 0 for the first block."""
        first = [max(math.ceil(self.frequencies * side), 1) for side in (h, w)]
        beyond = [(torch.arange(side) - start + 1).clamp_min(0) for side, start in zip((h, w), first, strict=True)]
        return torch.maximum(beyond[0][:, None], beyond[1][None]).flatten()


def _cosines(side: int, frequency: Count, like: Images) -> Tensor:
    """Orthonormal cosines of the discrete cosine transform (type 2), ``(b, side)``."""
    place = torch.arange(side, device=like.device, dtype=like.dtype)
    wave = torch.cos(math.pi * (place + 0.5) * frequency.to(like)[:, None] / side)
    return wave * torch.where(frequency == 0, math.sqrt(1 / side), math.sqrt(2 / side)).to(like)[:, None]
