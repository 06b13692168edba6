"""HopSkipJump: along the boundary by labels alone."""

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
from assay.core.types import Count, Flag, Images, PerRow
from assay.parts.min_distance import budget, check_budget, check_norm, length_of, within
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, whole

_BLOCK = 32
"""Points around the boundary that one step asks about: what bounds memory."""
_START, _SEARCH, _ESTIMATE, _LEAP = range(4)


class HopState(NamedTuple):
    """What a row is doing, and all it needs for it."""

    phase: Count
    turn: Count
    """Which iteration, from 1."""
    far: Images
    """An adversarial image: the start, then the end of a leap."""
    point: Images
    """The adversarial image at the boundary."""
    low: PerRow
    high: PerRow
    """Bracket of the search for the boundary: shares of the way to `far` (l2), or radii (linf)."""
    limit: PerRow
    """How narrow the bracket has to become."""
    queried: Count
    """Points asked about for this estimate."""
    total: Images
    """Sum of the directions."""
    signed: Images
    """Sum of the directions that were adversarial, less those that were not."""
    balance: PerRow
    """How many more were adversarial than not."""
    direction: Images
    leap: PerRow
    tries: Count
    queries: Count


@with_hints
@dataclass(frozen=True)
class HopSkipJump:
    """Binary search to the boundary, an estimate of its normal from labels, a leap along it, and again.

    Args:
        steps: iterations.
        norm: ``"l2"`` or ``"linf"``.
        queries: the most queries.
        samples: points of the first estimate; the k-th iteration has √k times as many.
        most: most points of an estimate.
        gamma: how exactly the boundary is met (γ).
        starts: random images tried for one that is adversarial, after `Rows.start` where there is one.
        eps: images further away than this do not count, and the first inside ends the sample; None for no limit.

    Example:
        >>> HopSkipJump(steps=10).describe()
        'HopSkipJump-10 l2'

    Source: Chen, Jordan & Wainwright, "HopSkipJumpAttack: a query-efficient decision-based attack", S&P 2020,
    algorithms 1 and 2, equations 12–16; official code github.com/Jianbo-Lab/HSJA for the constants. Each row is in a
    phase of its own; one whose random starts all fail ends without a result and disturbs no other. It starts from
    `Rows.start` where there is one.
    """

    steps: int = 50
    norm: str = "l2"
    queries: int = 25000
    samples: int = 100
    most: int = 10000
    gamma: float = 1.0
    starts: int = 100
    eps: float | None = None

    def __post_init__(self) -> None:
        for name in ("queries", "samples", "most", "starts"):
            whole(name, getattr(self, name), least=1)
        whole("steps", self.steps)
        check_norm(self.norm, ("l2", "linf"))
        number("gamma", self.gamma, least=0, above=True)
        check_budget(self, self.norm)

    @property
    def geometry(self) -> Geometry | None:
        """The limit on the distance, if there is one."""
        return budget(self.norm, self.eps)

    @property
    def needs(self) -> tuple[str, ...]:
        """An image to start from, if there is one."""
        return ("start",)

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        return Traits("labels", minimises=self.norm, randomised=True, passes=self.queries)

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "HopSkipJump | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(self, effort, step_size, geometry, objective, counts=("steps", "queries"), norm=self.norm)

    def init(self, rows: Rows, rng: Rng) -> HopState:
        """Before the first random image."""
        count = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        zero, image = torch.zeros_like(count, dtype=rows.x.dtype), torch.zeros_like(rows.x)
        return HopState(
            phase=count + _START,
            turn=count + 1,
            far=rows.x,
            point=rows.x,
            low=zero,
            high=zero,
            limit=zero,
            queried=count,
            total=image,
            signed=image,
            balance=zero,
            direction=image,
            leap=zero,
            tries=count,
            queries=count,
        )

    def step(self, rows: Rows, state: HopState, oracle: Oracle, rng: Rng) -> Step[HopState]:
        """Ask what the row's phase asks: one image, or a block of points around the boundary."""
        count = self.price(state)
        points, directions = self._questions(rows, state, rng)
        logits = oracle.many(points, rows, count)
        reached = torch.stack([rows.goal.reached(logits[:, j], points[:, j]) for j in range(points.shape[1])], 1)
        image, one = points[:, 0], reached[:, 0]
        state = state._replace(queries=state.queries + count)
        length = length_of(image - rows.x, self.norm)
        single = state.phase != _ESTIMATE
        hit = one & single
        if self.eps is not None:
            hit = hit & (length <= self.eps * (1 + 2e-5))
        phase = state.phase
        failed = (phase == _START) & ~one & (state.tries + 1 >= self.starts + (rows.start is not None))
        state = self._started(rows, state, image, one & (phase == _START), phase == _START)
        state = self._searched(rows, state, image, one, phase == _SEARCH)
        state = self._estimated(rows, state, directions, reached, count, phase == _ESTIMATE)
        state = self._leapt(rows, state, image, one, phase == _LEAP)
        done = failed | (state.turn > self.steps) | (state.queries + self.price(state) > self.queries)
        cost = torch.where(hit, length, torch.inf)
        return Step(state, image, hit, cost, done, unstarted=(state.phase == _START) & (self.steps > 0))

    def price(self, state: HopState) -> Count:
        """Queries of the next step: one, or what is left of the block."""
        left = (self._wanted(state.turn) - state.queried).clamp(1, _BLOCK)
        return torch.where(state.phase == _ESTIMATE, left, 1)

    def describe(self) -> str:
        """Name, steps and norm."""
        return f"HopSkipJump-{self.steps} {within(self.norm, self.eps)}"

    def _wanted(self, turn: Count) -> Count:
        """Points of the estimate of each iteration."""
        return (self.samples * turn.double().sqrt()).long().clamp_max(self.most)

    def _exactness(self, rows: Rows) -> float:
        """θ: how narrow a bracket is narrow enough, in shares of the way (l2) or in input units (linf)."""
        size = max(rows.x[0:1].numel(), 1)
        return self.gamma / (size * math.sqrt(size)) if self.norm == "l2" else self.gamma / size**2

    def _questions(self, rows: Rows, state: HopState, rng: Rng) -> tuple[Tensor, Tensor]:
        """What to ask, ``(b, m, c, h, w)``, and the directions where it is an estimate."""
        shape = tuple(rows.x.shape[1:])
        phase = state.phase
        between = self._between(rows.x, state.far, 0.5 * (state.low + state.high))
        leap = (state.point + expand_rows(state.leap, rows.x) * state.direction).clamp(0, 1)
        one = torch.where(expand_rows(phase == _LEAP, leap), leap, between)
        if bool((phase == _START).any()):
            wild = rng.uniform(rows.key, shape, "start", state.tries).to(rows.x)
            if rows.start is not None:
                wild = torch.where(expand_rows(state.tries == 0, wild), rows.start, wild)
            one = torch.where(expand_rows(phase == _START, wild), wild, one)
        if not bool((phase == _ESTIMATE).any()):
            return one[:, None], one[:, None]
        address = state.turn * (self.most // _BLOCK + 2) + state.queried // _BLOCK
        around = (_BLOCK, *shape)
        if self.norm == "l2":
            drawn = rng.normal(rows.key, around, "around", address).to(rows.x)
        else:
            drawn = (2 * rng.uniform(rows.key, around, "around", address) - 1).to(rows.x)
        drawn = drawn / drawn.flatten(2).norm(dim=2).clamp_min(1e-12)[:, :, None, None, None]
        radius = expand_rows(self._radius(rows, state), drawn)
        points = (state.point[:, None] + radius * drawn).clamp(0, 1)
        directions = (points - state.point[:, None]) / radius
        points = torch.where(expand_rows(phase == _ESTIMATE, points), points, one[:, None])
        return points, directions

    def _radius(self, rows: Rows, state: HopState) -> PerRow:
        """How far from the boundary point the points of an estimate are (equation 15)."""
        size = max(rows.x[0:1].numel(), 1)
        length = length_of(state.point - rows.x, self.norm)
        factor = math.sqrt(size) * self._exactness(rows) if self.norm == "l2" else size * self._exactness(rows)
        return torch.where(state.turn == 1, 0.1, (factor * length).clamp_min(1e-6)).to(length)

    def _between(self, x: Images, far: Images, at: PerRow) -> Images:
        """A share of the way to an adversarial image (l2), or its nearest point in a ball of that radius (linf)."""
        by_row = expand_rows(at, x)
        if self.norm == "l2":
            return (1 - by_row) * x + by_row * far
        return torch.minimum(torch.maximum(far, x - by_row), x + by_row).clamp(0, 1)

    def _to_boundary(self, rows: Rows, state: HopState, far: Images, which: Flag) -> HopState:
        """Begin the search between the clean image and an adversarial one."""
        length = length_of(far - rows.x, self.norm)
        high = torch.ones_like(length) if self.norm == "l2" else length
        limit = torch.full_like(length, self._exactness(rows))
        if self.norm == "linf":
            limit = torch.minimum(limit, high * self._exactness(rows)).clamp_min(1e-6)
        limit = limit.clamp_min(1e-6)
        put = expand_rows(which, far)
        return state._replace(
            phase=torch.where(which, _SEARCH, state.phase),
            far=torch.where(put, far, state.far),
            point=torch.where(put, far, state.point),
            low=torch.where(which, 0.0, state.low),
            high=torch.where(which, high, state.high),
            limit=torch.where(which, limit, state.limit),
        )

    def _started(self, rows: Rows, state: HopState, image: Images, is_adversarial: Flag, here: Flag) -> HopState:
        state = state._replace(tries=state.tries + here)
        return self._to_boundary(rows, state, image, is_adversarial)

    def _searched(self, rows: Rows, state: HopState, image: Images, is_adversarial: Flag, here: Flag) -> HopState:
        middle = 0.5 * (state.low + state.high)
        won, lost = here & is_adversarial, here & ~is_adversarial
        high, low = torch.where(won, middle, state.high), torch.where(lost, middle, state.low)
        point = torch.where(expand_rows(won, image), image, state.point)
        ready = here & (high - low <= state.limit)
        nothing = torch.zeros_like(state.total)
        blank = expand_rows(ready, nothing)
        return state._replace(
            low=low,
            high=high,
            point=point,
            phase=torch.where(ready, _ESTIMATE, state.phase),
            queried=torch.where(ready, 0, state.queried),
            total=torch.where(blank, nothing, state.total),
            signed=torch.where(blank, nothing, state.signed),
            balance=torch.where(ready, 0.0, state.balance),
        )

    def _estimated(
        self, rows: Rows, state: HopState, directions: Tensor, reached: Tensor, count: Count, here: Flag
    ) -> HopState:
        if not bool(here.any()):
            return state
        real = (torch.arange(reached.shape[1], device=count.device)[None] < count[:, None]) & here[:, None]
        sign = torch.where(reached, 1.0, -1.0).to(directions) * real
        total = state.total + (directions * real[:, :, None, None, None]).sum(1)
        signed = state.signed + (directions * sign[:, :, None, None, None]).sum(1)
        balance = state.balance + sign.sum(1)
        queried = state.queried + torch.where(here, count, 0)
        ready = here & (queried >= self._wanted(state.turn))
        mean = balance / queried.clamp_min(1)
        even = expand_rows(mean.abs() >= 1, total)  # all alike: their mean is all that is known
        normal = torch.where(even, expand_rows(mean, total) * total, signed - expand_rows(mean, total) * total)
        unit = (
            normal.sign()
            if self.norm == "linf"
            else normal / expand_rows(length_of(normal, "l2").clamp_min(1e-12), total)
        )
        first = length_of(state.point - rows.x, self.norm) / state.turn.to(total).sqrt()
        return state._replace(
            total=total,
            signed=signed,
            balance=balance,
            queried=queried,
            phase=torch.where(ready, _LEAP, state.phase),
            direction=torch.where(expand_rows(ready, unit), unit, state.direction),
            leap=torch.where(ready, first, state.leap),
        )

    def _leapt(self, rows: Rows, state: HopState, image: Images, is_adversarial: Flag, here: Flag) -> HopState:
        landed, short = here & is_adversarial, here & ~is_adversarial
        leap = torch.where(short, 0.5 * state.leap, state.leap)
        stuck = short & (leap < 1e-6)  # nowhere to go: estimate again from here
        turn = state.turn + (landed | stuck)
        state = state._replace(leap=leap, turn=turn, phase=torch.where(stuck, _SEARCH, state.phase))
        return self._to_boundary(rows, state, image, landed)
