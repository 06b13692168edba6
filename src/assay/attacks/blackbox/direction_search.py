"""What OPT and Sign-OPT do after each answer: keep a direction, add to the slope, go on with the line search."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from assay.attacks.blackbox.boundary_search import Ray, answer, begin, finished
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.tree import choose, expand_rows
from assay.core.types import Count, Flag, Images, PerRow
from assay.parts.min_distance import length_of

BLOCK = 32
START, SLOPE, LONGER, SHORTER = range(4)
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
class DirectionSearch:
    """The transitions from one phase of the search to the next, each row in its own.

    Args:
        samples: random directions an estimate of the slope uses.
        starts: random directions to begin with.
        signs: one query for each random direction (Sign-OPT), or a search for its distance (OPT).
    """

    samples: int
    starts: int
    signs: bool

    def start_ray(self, rows: Rows, state: DirectionState, rng: Rng) -> Ray:
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
        address = state.turn * (self.samples + BLOCK) + state.queried
        drawn = rng.normal(rows.key, (block, *rows.x.shape[1:]), "turn", address).to(rows.x)
        return _units(drawn)

    def turned(self, rows: Rows, state: DirectionState, rng: Rng) -> Tensor:
        """The best direction, turned a little towards random ones, of length 1."""
        turned = state.theta[:, None] + state.beta.reshape(-1, 1, 1, 1, 1) * self._random(rows, state, rng, BLOCK)
        return _units(turned)

    def after_signs(
        self, rows: Rows, state: DirectionState, turned: Tensor, nearer: Tensor, count: Count
    ) -> DirectionState:
        """Sign-OPT: directions along which the boundary is nearer count −1, the others +1."""
        here = state.phase == SLOPE
        if not bool(here.any()):
            return state
        real = torch.arange(nearer.shape[1], device=count.device)[None] < count[:, None]
        sign = torch.where(nearer, -1.0, 1.0).to(turned) * (real & here[:, None])
        change = (turned - state.theta[:, None]) / state.beta.reshape(-1, 1, 1, 1, 1)
        slope = state.slope + (sign[:, :, None, None, None] * change).sum(1) / self.samples
        queried = state.queried + torch.where(here, count, 0)
        state = state._replace(slope=slope, queried=queried)
        return self._line_search(rows, state, here & (queried >= self.samples))

    def after_ray(
        self, rows: Rows, state: DirectionState, is_adversarial: Flag, phase: Count, rng: Rng
    ) -> DirectionState:
        """What a search along a direction has found, where that is what was asked."""
        here = (phase != SLOPE) | torch.full_like(is_adversarial, not self.signs)
        longest = float(rows.x[0:1].numel()) ** 0.5
        state = state._replace(ray=choose(here, answer(state.ray, is_adversarial, longest), state.ray))
        known = here & finished(state.ray)
        if not bool(known.any()):
            return state
        state = self._direction_done(rows, state, known & (phase == START), rng)
        if not self.signs:
            state = self._difference_done(rows, state, known & (phase == SLOPE), rng)
        state = self._longer_done(rows, state, known & (phase == LONGER), rng)
        return self._shorter_done(rows, state, known & (phase == SHORTER), rng)

    def _direction_done(self, rows: Rows, state: DirectionState, here: Flag, rng: Rng) -> DirectionState:
        """A start direction: keep the best, go on to the next, or to the first slope."""
        better = here & (state.ray.high < state.length)
        state = state._replace(
            theta=torch.where(expand_rows(better, state.theta), state.ray.direction, state.theta),
            length=torch.where(better, state.ray.high, state.length),
            queried=state.queried + here,
        )
        more = here & (state.queried < self.starts + (rows.start is not None))
        state = state._replace(ray=choose(more, self.start_ray(rows, state, rng), state.ray))
        return self._next_slope(rows, state, here & ~more, rng)

    def _next_slope(self, rows: Rows, state: DirectionState, here: Flag, rng: Rng) -> DirectionState:
        """Begin an estimate of the slope."""
        nothing = torch.zeros_like(state.slope)
        state = state._replace(
            phase=torch.where(here, SLOPE, state.phase),
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
            phase=torch.where(here, LONGER, state.phase),
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
            phase=torch.where(none, SHORTER, state.phase),
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
