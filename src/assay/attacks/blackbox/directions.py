"""The machine of OPT and Sign-OPT: descend the distance to the boundary over directions, by labels alone."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from assay.attacks.blackbox.boundary_search import Ray, answer, ask, begin, finished
from assay.core.attack import Step
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.tree import choose, expand_rows
from assay.core.types import Count, Flag, Images, PerRow
from assay.parts.min_distance import budget, length_of, within
from assay.parts.variation import vary_fields
from assay.util.validate import number, whole

_BLOCK = 32
_START, _SLOPE, _LONGER, _SHORTER = range(4)
_TRIES = 15
"""Step sizes tried in each line search (official code)."""


class DirectionState(NamedTuple):
    """What a row is doing: its best direction, the search along a trial direction, and the slope so far."""

    phase: Count
    theta: Images
    length: PerRow
    """Distance to the boundary along `theta`; infinity before one is known."""
    ray: Ray
    trial: Images
    trial_length: PerRow
    slope: Images
    queried: Count
    """Start directions, or directions of the slope, that are done."""
    tried: Count
    """Step sizes tried in this line search."""
    alpha: PerRow
    beta: PerRow
    turn: Count
    queries: Count


@dataclass(frozen=True)
class DirectionDescent:
    """Estimate a slope over directions, step down it with a line search, and again.

    Args:
        steps: the most iterations.
        queries: the most queries.
        samples: random directions an estimate of the slope uses.
        starts: random directions to begin with (after that to `Rows.start`, if there is one); the one with the
            nearest boundary is taken.
        alpha: first step size.
        beta: how far the random directions are turned (β).
        signs: one query for each random direction (Sign-OPT), or a search for its distance (OPT).
        eps: images further away in l2 do not count, and the first inside ends the sample; None for no limit.
    """

    steps: int
    queries: int
    samples: int
    starts: int
    alpha: float
    beta: float
    signs: bool
    eps: float | None = None

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        for name in ("queries", "samples", "starts"):
            whole(name, getattr(self, name), least=1)
        for name in ("alpha", "beta"):
            number(name, getattr(self, name), least=0, above=True)
        budget("l2", self.eps)

    @property
    def geometry(self) -> Geometry | None:
        """The limit on the distance, if there is one."""
        return budget("l2", self.eps)

    @property
    def needs(self) -> tuple[str, ...]:
        """An image to start from, if there is one."""
        return ("start",)

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        return Traits("labels", minimises="l2", randomised=True)

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "DirectionDescent | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(self, effort, step_size, geometry, objective, counts=("steps", "queries"), norm="l2")

    def init(self, rows: Rows, rng: Rng) -> DirectionState:
        """Before the first random direction."""
        count = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        zero = torch.zeros_like(count, dtype=rows.x.dtype)
        image = torch.zeros_like(rows.x)
        infinite = torch.full_like(zero, torch.inf)
        state = DirectionState(
            phase=count + _START,
            theta=image,
            length=infinite,
            ray=begin(image, zero, zero, further=False),
            trial=image,
            trial_length=infinite,
            slope=image,
            queried=count,
            tried=count,
            alpha=zero + self.alpha,
            beta=zero + self.beta,
            turn=count,
            queries=count,
        )
        return state._replace(ray=self._start_ray(rows, state, rng))

    def step(self, rows: Rows, state: DirectionState, oracle: Oracle, rng: Rng) -> Step[DirectionState]:
        """Ask about one image along a direction, or about a block of turned directions."""
        count = self.price(state)
        along = self._image(rows, state.ray.direction, ask(state.ray))
        sloping = self.signs and bool((state.phase == _SLOPE).any())
        turned = self._turned(rows, state, rng) if sloping else None
        requested = along[:, None]
        if turned is not None:
            block = self._image(rows, turned.flatten(0, 1), state.length.repeat_interleave(_BLOCK), _BLOCK)
            requested = torch.where(expand_rows(state.phase == _SLOPE, block), block, along[:, None])
        logits = oracle.many(requested, rows, count)
        reached = torch.stack([rows.goal.reached(logits[:, j], requested[:, j]) for j in range(requested.shape[1])], 1)
        real = torch.arange(requested.shape[1], device=count.device)[None] < count[:, None]
        before = state
        state = state._replace(queries=state.queries + count)
        if turned is not None:
            state = self._signs_seen(rows, state, turned, reached & real, count)
        state = self._ray_seen(rows, state, reached[:, 0], before.phase, rng)
        lengths = length_of((requested - rows.x[:, None]).flatten(0, 1), "l2").view_as(reached)
        cost = torch.where(reached & real, lengths.to(rows.x), torch.inf)
        if self.eps is not None:
            cost = torch.where(cost <= self.eps * (1 + 2e-5), cost, torch.inf)
        cost, best = cost.min(1)
        image = requested[torch.arange(len(rows), device=best.device), best]
        nothing = (state.phase != _START) & state.length.isinf()
        over = (state.turn >= self.steps) & (state.phase != _START)
        done = nothing | over | (state.queries + self.price(state) > self.queries)
        unstarted = state.length.isinf() & (self.steps > 0)
        return Step(state, image, cost.isfinite(), cost, done, unstarted=unstarted)

    def price(self, state: DirectionState) -> Count:
        """Queries of the next step."""
        block = (self.samples - state.queried).clamp(1, _BLOCK)
        return torch.where((state.phase == _SLOPE) & self.signs, block, 1)

    def describe(self) -> str:
        """Name, steps and norm."""
        return f"{'Sign-OPT' if self.signs else 'OPT'}-{self.steps} {within('l2', self.eps)}"

    def _image(self, rows: Rows, direction: Images, length: PerRow, block: int = 1) -> Tensor:
        """The image at a length along a direction, in the box; with a block, ``(b, block, c, h, w)``."""
        x = rows.x if block == 1 else rows.x.repeat_interleave(block, 0)
        image = (x + expand_rows(length.nan_to_num(0, 0, 0), x) * direction).clamp(0, 1)
        return image if block == 1 else image.view(len(rows), block, *rows.x.shape[1:])

    def _start_ray(self, rows: Rows, state: DirectionState, rng: Rng) -> Ray:
        """A random direction, out to where it certainly leaves the box, or to the best distance so far.

        Where an image to start from was given, the first direction leads to it.
        """
        drawn = rng.normal(rows.key, tuple(rows.x.shape[1:]), "start", state.queried).to(rows.x)
        if rows.start is not None:
            first = (state.queried == 0) & (rows.start != rows.x).flatten(1).any(1)
            drawn = torch.where(expand_rows(first, drawn), rows.start - rows.x, drawn)
        far = length_of(drawn, "l2")
        length = torch.minimum(state.length, far)
        return begin(drawn, length, torch.full_like(length, 1e-4), further=False)

    def _exact(self, state: DirectionState) -> PerRow:
        """How exactly a distance is searched: as finely as the turns need, and float32 can."""
        return (state.beta / 500).clamp_min(2e-6)

    def _random(self, rows: Rows, state: DirectionState, rng: Rng, block: int) -> Tensor:
        """Random directions of length 1, ``(b, block, c, h, w)``."""
        address = state.turn * (self.samples + _BLOCK) + state.queried
        drawn = rng.normal(rows.key, (block, *rows.x.shape[1:]), "turn", address).to(rows.x)
        return _units(drawn)

    def _turned(self, rows: Rows, state: DirectionState, rng: Rng) -> Tensor:
        """The best direction, turned a little towards random ones, of length 1."""
        turned = state.theta[:, None] + state.beta.reshape(-1, 1, 1, 1, 1) * self._random(rows, state, rng, _BLOCK)
        return _units(turned)

    def _signs_seen(
        self, rows: Rows, state: DirectionState, turned: Tensor, nearer: Tensor, count: Count
    ) -> DirectionState:
        """Sign-OPT: directions along which the boundary is nearer count −1, the others +1."""
        here = state.phase == _SLOPE
        if not bool(here.any()):
            return state
        real = torch.arange(nearer.shape[1], device=count.device)[None] < count[:, None]
        sign = torch.where(nearer, -1.0, 1.0).to(turned) * (real & here[:, None])
        change = (turned - state.theta[:, None]) / state.beta.reshape(-1, 1, 1, 1, 1)
        slope = state.slope + (sign[:, :, None, None, None] * change).sum(1) / self.samples
        requested = state.queried + torch.where(here, count, 0)
        state = state._replace(slope=slope, queried=requested)
        return self._line_search(rows, state, here & (requested >= self.samples))

    def _ray_seen(self, rows: Rows, state: DirectionState, success: Flag, phase: Count, rng: Rng) -> DirectionState:
        """What a search along a direction has found, where that is what was asked."""
        here = (phase != _SLOPE) | torch.full_like(success, not self.signs)
        longest = float(rows.x[0:1].numel()) ** 0.5
        state = state._replace(ray=choose(here, answer(state.ray, success, longest), state.ray))
        known = here & finished(state.ray)
        if not bool(known.any()):
            return state
        state = self._direction_done(rows, state, known & (phase == _START), rng)
        if not self.signs:
            state = self._difference_done(rows, state, known & (phase == _SLOPE), rng)
        state = self._longer_done(rows, state, known & (phase == _LONGER), rng)
        return self._shorter_done(rows, state, known & (phase == _SHORTER), rng)

    def _direction_done(self, rows: Rows, state: DirectionState, here: Flag, rng: Rng) -> DirectionState:
        """A start direction: keep the best, go on to the next, or to the first slope."""
        better = here & (state.ray.high < state.length)
        state = state._replace(
            theta=torch.where(expand_rows(better, state.theta), state.ray.direction, state.theta),
            length=torch.where(better, state.ray.high, state.length),
            queried=state.queried + here,
        )
        more = here & (state.queried < self.starts + (rows.start is not None))
        state = state._replace(ray=choose(more, self._start_ray(rows, state, rng), state.ray))
        return self._next_slope(rows, state, here & ~more, rng)

    def _next_slope(self, rows: Rows, state: DirectionState, here: Flag, rng: Rng) -> DirectionState:
        """Begin an estimate of the slope."""
        nothing = torch.zeros_like(state.slope)
        state = state._replace(
            phase=torch.where(here, _SLOPE, state.phase),
            slope=torch.where(expand_rows(here, nothing), nothing, state.slope),
            queried=torch.where(here, 0, state.queried),
        )
        return state if self.signs else self._next_difference(rows, state, here, rng)

    def _next_difference(self, rows: Rows, state: DirectionState, here: Flag, rng: Rng) -> DirectionState:
        """OPT: search the distance along one turned direction."""
        turned = state.theta + expand_rows(state.beta, state.theta) * self._random(rows, state, rng, 1)[:, 0]
        ray = begin(turned, state.length, self._exact(state), further=True)
        return state._replace(ray=choose(here, ray, state.ray))

    def _difference_done(self, rows: Rows, state: DirectionState, here: Flag, rng: Rng) -> DirectionState:
        """OPT: a finite difference along one random direction."""
        if not bool(here.any()):
            return state
        random = self._random(rows, state, rng, 1)[:, 0]
        change = (state.ray.high - state.length) / state.beta / self.samples
        change = torch.where(here & change.isfinite(), change, 0.0)
        state = state._replace(slope=state.slope + expand_rows(change, random) * random, queried=state.queried + here)
        more = here & (state.queried < self.samples)
        state = self._next_difference(rows, state, more, rng)
        return self._line_search(rows, state, here & ~more)

    def _line_search(self, rows: Rows, state: DirectionState, here: Flag) -> DirectionState:
        """Begin with ever longer steps down the slope."""
        state = state._replace(
            phase=torch.where(here, _LONGER, state.phase),
            trial=torch.where(expand_rows(here, state.theta), state.theta, state.trial),
            trial_length=torch.where(here, state.length, state.trial_length),
            tried=torch.where(here, 0, state.tried),
        )
        return self._try(state, here, torch.where(here, state.trial_length, state.length))

    def _try(self, state: DirectionState, here: Flag, within_length: PerRow) -> DirectionState:
        """Ask whether the boundary is nearer after a step of α down the slope, and where."""
        theta = state.theta - expand_rows(state.alpha, state.theta) * state.slope
        ray = begin(theta, within_length, self._exact(state), further=False)
        return state._replace(ray=choose(here, ray, state.ray))

    def _longer_done(self, rows: Rows, state: DirectionState, here: Flag, rng: Rng) -> DirectionState:
        """After a success a step twice as long; after a failure, take what there is, or try shorter ones."""
        won = here & (state.ray.high < state.trial_length)
        state = state._replace(
            trial=torch.where(expand_rows(won, state.trial), state.ray.direction, state.trial),
            trial_length=torch.where(won, state.ray.high, state.trial_length),
            alpha=torch.where(won, 2 * state.alpha, state.alpha),
            tried=state.tried + here,
        )
        again = won & (state.tried < _TRIES)
        state = self._try(state, again, state.trial_length)
        none = here & ~again & (state.trial_length >= state.length)
        state = state._replace(
            phase=torch.where(none, _SHORTER, state.phase),
            alpha=torch.where(none, 0.25 * state.alpha, state.alpha),
            tried=torch.where(none, 0, state.tried),
        )
        state = self._try(state, none, state.length)
        return self._accept(rows, state, here & ~again & ~none, rng)

    def _shorter_done(self, rows: Rows, state: DirectionState, here: Flag, rng: Rng) -> DirectionState:
        """After a success take it; after a failure a step a quarter as long."""
        won = here & (state.ray.high < state.length)
        state = state._replace(
            trial=torch.where(expand_rows(won, state.trial), state.ray.direction, state.trial),
            trial_length=torch.where(won, state.ray.high, state.trial_length),
            tried=state.tried + here,
            alpha=torch.where(here & ~won, 0.25 * state.alpha, state.alpha),
        )
        again = here & ~won & (state.tried < _TRIES)
        state = self._try(state, again, state.length)
        small = here & ~again & (state.alpha < 1e-4)
        state = state._replace(
            alpha=torch.where(small, 1.0, state.alpha), beta=torch.where(small, 0.1 * state.beta, state.beta)
        )
        return self._accept(rows, state, here & ~again, rng)

    def _accept(self, rows: Rows, state: DirectionState, here: Flag, rng: Rng) -> DirectionState:
        """Take the best trial, and begin the next iteration."""
        better = here & (state.trial_length < state.length)
        state = state._replace(
            theta=torch.where(expand_rows(better, state.theta), state.trial, state.theta),
            length=torch.where(better, state.trial_length, state.length),
            turn=state.turn + here,
        )
        return self._next_slope(rows, state, here, rng)


def _units(directions: Tensor) -> Tensor:
    """Directions ``(b, m, c, h, w)``, each of length 1."""
    norms = torch.linalg.vector_norm(directions.flatten(2), dim=2).clamp_min(1e-12)
    units: Tensor = directions / norms[:, :, None, None, None]
    return units
