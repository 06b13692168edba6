"""ZOO: Carlini & Wagner's objective by coordinate-wise finite differences of scores."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.core.attack import Step
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.tree import choose, expand_rows
from assay.core.types import Count, Flag, Images, Logits, PerRow
from assay.parts.bisection import Bracket, begin, narrow
from assay.parts.min_distance import budget, check_budget, claim, within
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, one_of, whole


class ZOOState(NamedTuple):
    """Where each row is: the perturbation in the attack space, Adam's moments of each coordinate, and the clock."""

    space: Images
    mean: Images
    square: Images
    updates: Images
    bracket: Bracket
    has_hit: Flag
    last: PerRow
    step: Count
    round: Count


@with_hints
@dataclass(frozen=True)
class ZOO:
    """Least ``‖δ‖² + c·max(−margin of log-probabilities, −κ)``, a few coordinates a step, two queries each.

    Args:
        steps: steps a round.
        rounds: rounds of the bisection of c.
        coordinates: coordinates a step.
        method: ``"adam"`` or ``"newton"`` for the update of a coordinate.
        rate: step size.
        width: how far the two points of a difference are from the middle (h).
        constant: first c.
        confidence: margin that the image must have (κ).
        importance: draw coordinates where the perturbation is large already, rather than evenly.
        space: side of the attack space, which is enlarged to the image; None for the image itself.
        eps: images further away in l2 do not count, and the first inside ends the sample; None for no limit.

    Example:
        >>> ZOO(steps=100).describe()
        'ZOO-1×100 l2'

    Source: Chen, Zhang, Sharma, Yi & Hsieh, "ZOO: zeroth order optimization based black-box attacks to deep neural
    networks without training substitute models", AISec 2017, algorithms 1–3, sections 3.3 (attack-space dimension
    reduction), 3.4 (hierarchical attack), 3.5 (importance sampling); Balasubramanian, "Adversarial robustness".
    Perturbations are clipped to the box rather than written by tanh (as the authors do for MNIST-like data,
    ``use_tanh=False``). Deviations: where an attack space is given, it grows to twice its side after each third of the
    steps (hierarchical attack).
    """

    steps: int = 1000
    rounds: int = 1
    coordinates: int = 64
    method: str = "adam"
    rate: float = 0.01
    width: float = 1e-3
    constant: float = 1.0
    confidence: float = 0.0
    importance: bool = False
    space: int | None = None
    eps: float | None = None

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        for name in ("rounds", "coordinates"):
            whole(name, getattr(self, name), least=1)
        one_of("method", self.method, ("adam", "newton"))
        for name in ("rate", "width", "constant"):
            number(name, getattr(self, name), least=0, above=True)
        number("confidence", self.confidence, least=0)
        if self.space is not None:
            whole("space", self.space, least=1)
        check_budget(self, "l2")

    @property
    def geometry(self) -> Geometry | None:
        """The limit on the distance, if there is one."""
        return budget("l2", self.eps)

    @property
    def needs(self) -> tuple[str, ...]:
        """Scores, not labels alone."""
        return ()

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        return Traits(
            "scores", self.steps * self.rounds, price=1 + 2 * self.coordinates, minimises="l2", randomised=True
        )

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "ZOO | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(self, effort, step_size, geometry, objective, rates=("rate",), norm="l2")

    def init(self, rows: Rows, rng: Rng) -> ZOOState:
        """Nothing changed."""
        count = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        zero = torch.zeros_like(rows.x)
        bracket = begin(rows.x, self.constant)
        infinite = torch.full_like(bracket.constant, torch.inf)
        return ZOOState(zero, zero, zero, zero, bracket, count > 0, infinite, count, count)

    def step(self, rows: Rows, state: ZOOState, oracle: Oracle, rng: Rng) -> Step[ZOOState]:
        """One look at the image, two at each of the drawn coordinates, and their updates."""
        wide = min(self.coordinates, rows.x[0:1].numel() or 1)
        at = self._draw(rows, state, rng, wide)
        bumps = self._bumps(rows, state, at)
        here = self._image(rows, state.space)
        ahead = (here[:, None] + self.width * bumps).clamp(0, 1)
        behind = (here[:, None] - self.width * bumps).clamp(0, 1)
        points = torch.cat([here[:, None], ahead, behind], 1)
        logits = oracle.many(points, rows, self.price(state))
        loss = self._loss(rows, state, points, logits)
        slope = (loss[:, 1 : 1 + wide] - loss[:, 1 + wide :]) / (2 * self.width)
        bend = (loss[:, 1 : 1 + wide] + loss[:, 1 + wide :] - 2 * loss[:, :1]) / self.width**2
        claimed = claim(rows, here, logits[:, 0], "l2", self.geometry)
        enough = rows.goal.margin(logits[:, 0]) >= self.confidence
        hit, reached = claimed.hit & enough, claimed.reached & enough
        moved = self._update(state, at, slope, bend)
        state = moved._replace(has_hit=state.has_hit | reached, step=state.step + 1)
        ended = state.step >= self.steps
        fresh = self.init(rows, rng)._replace(bracket=narrow(state.bracket, state.has_hit), round=state.round + 1)
        state = choose(ended, fresh, state)
        done = (state.round >= self.rounds) | (self.steps == 0)
        return Step(state, here, hit, torch.where(hit, claimed.length, torch.inf), done)

    def price(self, state: ZOOState) -> Count:
        """Queries of the next step."""
        wide = min(self.coordinates, state.space[0:1].numel() or 1)
        return torch.full_like(state.step, 1 + 2 * wide)

    def describe(self) -> str:
        """Name, rounds, steps and norm."""
        return f"ZOO-{self.rounds}×{self.steps} {within('l2', self.eps)}"

    def _loss(self, rows: Rows, state: ZOOState, images: Tensor, logits: Logits) -> Tensor:
        """The objective of each candidate, ``(b, m)``, to be made small."""
        chance = logits.log_softmax(2)
        margin = torch.stack([_margin(rows, chance[:, j]) for j in range(chance.shape[1])], 1)
        distance = (images - rows.x[:, None]).flatten(2).square().sum(2)
        return distance + state.bracket.constant[:, None] * (self.confidence - margin).clamp_min(0)

    def _cell(self, state: ZOOState, side: int) -> Tensor:
        """Side of a cell of the attack space in pixels, for each row."""
        if self.space is None or self.space >= side:
            return torch.ones_like(state.step)
        first = max(side // self.space, 1)
        third = (3 * state.step // max(self.steps, 1)).clamp(0, 2)
        return (first // 2**third).clamp_min(1)

    def _draw(self, rows: Rows, state: ZOOState, rng: Rng, wide: int) -> Tensor:
        """Coordinates without repetition, ``(b, wide)``."""
        draw = rng.uniform(rows.key, (rows.x[0].numel(),), "coordinates", state.step + state.round * self.steps)
        draw = draw.to(rows.x).clamp_min(1e-7)
        if self.importance:  # the greatest of u^(1/weight) is a draw in proportion to the weights
            size = F.max_pool2d(state.space.abs(), 3, 1, 1).flatten(1)
            weight = size / size.amax(1, keepdim=True).clamp_min(1e-12) + 0.05
            draw = draw.log() / weight
        return draw.topk(wide, dim=1).indices

    def _bumps(self, rows: Rows, state: ZOOState, at: Tensor) -> Tensor:
        """What a coordinate of the attack space is in the image: one value, or a cell of them, ``(b, m, c, h, w)``."""
        c, h, w = rows.x.shape[1:]
        cell = self._cell(state, min(h, w))[:, None]
        channel, down, across = at // (h * w), at // w % h, at % w
        rows_of = torch.arange(h, device=at.device)[None, None] // cell[:, :, None] == (down // cell)[:, :, None]
        columns = torch.arange(w, device=at.device)[None, None] // cell[:, :, None] == (across // cell)[:, :, None]
        channels = torch.arange(c, device=at.device)[None, None] == channel[:, :, None]
        inside = channels[:, :, :, None, None] & rows_of[:, :, None, :, None] & columns[:, :, None, None, :]
        return inside.to(rows.x)

    def _image(self, rows: Rows, space: Images) -> Images:
        return (rows.x + space).clamp(0, 1)

    def _update(self, state: ZOOState, at: Tensor, slope: Tensor, bend: Tensor) -> ZOOState:
        """Each coordinate by its own Adam, or by its own Newton step (algorithms 2 and 3)."""
        mean, square, updates = (t.flatten(1) for t in (state.mean, state.square, state.updates))
        count = updates.gather(1, at) + 1
        first = 0.9 * mean.gather(1, at) + 0.1 * slope
        second = 0.999 * square.gather(1, at) + 0.001 * slope.square()
        if self.method == "adam":
            change = (first / (1 - 0.9**count)) / ((second / (1 - 0.999**count)).sqrt() + 1e-8)
        else:
            change = slope / torch.where(bend > 0, bend, 1.0)
        size = state.space.shape
        whole_change = torch.zeros_like(mean).scatter(1, at, -self.rate * change).view(size)
        return state._replace(
            space=state.space + self._spread_out(state, whole_change),
            mean=mean.scatter(1, at, first).view(size),
            square=square.scatter(1, at, second).view(size),
            updates=updates.scatter(1, at, count).view(size),
        )

    def _spread_out(self, state: ZOOState, change: Images) -> Images:
        """A change of a coordinate for all the pixels of its cell."""
        cells = self._cell(state, min(change.shape[2:]))
        spread = change
        for cell in sorted({*cells.tolist()} - {1}):
            pooled = F.avg_pool2d(change, cell, cell, ceil_mode=True, divisor_override=1)
            wide = F.interpolate(pooled, scale_factor=float(cell), mode="nearest")[
                :, :, : change.shape[2], : change.shape[3]
            ]
            spread = torch.where(expand_rows(cells == cell, spread), wide, spread)
        return spread


def _margin(rows: Rows, chance: Logits) -> PerRow:
    return rows.goal.margin(chance)
