"""Square attack: random search with squares, by scores alone."""

from dataclasses import dataclass
from functools import cache
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
from assay.core.tree import expand_rows, map_rows
from assay.core.types import Count, Images, Labels, PerRow
from assay.parts.balls import Ball
from assay.parts.losses import objective
from assay.parts.projections import into_l2
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, one_of, radius, whole

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After so many of 10,000 queries the share of the image that a square covers halves (official code)."""

_AHEAD = 64
"""So many steps are drawn at once: their random numbers are functions of key and step alone."""


class Draws(NamedTuple):
    """What the next steps of each row will try, drawn at once; steps in second place.

    Attributes:
        down: which rows of pixels a square covers, ``(b, s, h)``.
        across: which columns, ``(b, s, w)``.
        signs: for linf a sign for each channel and a second draw of it, ``(b, s, 2, c)``; for l2 one draw.
        other: for l2 rows and columns of the second window, and the place of the first; else nothing.
    """

    down: Tensor
    across: Tensor
    signs: Tensor
    other: tuple[Tensor, ...] = ()


class SquareState(NamedTuple):
    """The best perturbation of each row, its value, what comes next, and the number of queries (on the CPU).

    For linf every pixel is at one of two ends, ``ends``, and ``best`` says whether it is the upper one; for l2 ``best``
    is the perturbation.
    """

    best: Tensor
    ends: tuple[Images, Images] | None
    value: PerRow
    draws: Draws
    step: Count


@with_hints
@dataclass(frozen=True)
class Square:
    """Random search: a square of the perturbation is redrawn, and kept if the scores get worse. No gradients.

    Args:
        eps: radius in input units.
        norm: ``"linf"`` or ``"l2"``.
        queries: the most queries, at least 1.
        share: share of the image that a square covers at first.
        loss: objective or its name; the margin by default (cross-entropy for targets in the official code).

    Example:
        >>> Square(8/255, queries=1000).describe()
        'Square-1000 linf 8/255'

    Source: Andriushchenko, Croce, Flammarion & Hein, "Square attack: a query-efficient black-box adversarial attack via
    random search", ECCV 2020, algorithms 1–3; official code github.com/max-andr/square-attack for the constants. For
    images that are not square, sizes are taken from height times width. Deviations: each row has its own squares;
    signs that would change nothing are drawn again once and then turned, where the official code draws until they do.
    """

    eps: float
    norm: str = "linf"
    queries: int = 5000
    share: float = 0.8
    loss: str | Objective = "margin"

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", radius("eps", self.eps))
        one_of("norm", self.norm, ("linf", "l2"))
        whole("queries", self.queries, least=1)
        number("share", self.share, least=0, most=1, above=True)
        object.__setattr__(self, "loss", objective(self.loss))

    @property
    def geometry(self) -> Geometry:
        """The ball."""
        return Ball(self.norm, self.eps)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the objective reads."""
        return objective(self.loss).needs

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        return Traits("scores", self.queries, randomised=True)

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "Square | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(
            self, effort, step_size, geometry, objective, counts=("queries",), norm=self.norm, loss="loss"
        )

    def init(self, rows: Rows, rng: Rng) -> SquareState:
        """Vertical stripes of ±eps (linf), or a tiling of smooth bumps (l2)."""
        c, _, w = rows.x.shape[1:]
        value = torch.full((len(rows),), -torch.inf, dtype=rows.x.dtype, device=rows.x.device)
        step = torch.zeros(len(rows), dtype=torch.int64)
        if self.norm == "linf":
            upper = (rng.signs(rows.key, (c, 1, w), "stripes") > 0).expand_as(rows.x)
            ends = ((rows.x - self.eps).clamp(0, 1), (rows.x + self.eps).clamp(0, 1))
            return SquareState(upper, ends, value, self._drawn(rows, rows.key, step, rng), step)
        start = self.geometry.project(self._tiled(rows, rng), rows)
        return SquareState(start, None, value, self._drawn(rows, rows.key, step, rng), step)

    def step(self, rows: Rows, state: SquareState, oracle: Oracle, rng: Rng) -> Step[SquareState]:
        """One query: the start, then each time the best so far with a square redrawn."""
        draws = self._ahead(rows, state, rng)
        tried = self._redrawn(state, draws) if self.norm == "linf" else self._moved(rows, state, draws)
        image = _image(rows, tried, state.ends)
        logits = oracle.logits(image, rows)
        value = objective(self.loss)(logits, image, rows)
        better = value > state.value
        best = torch.where(expand_rows(better, tried), tried, state.best)
        after = SquareState(best, state.ends, torch.maximum(value, state.value), draws, state.step + 1)
        return Step(
            after,
            image,
            rows.goal.reached(logits, image),
            lambda: -value,
            after.step >= self.queries,
            pending=lambda: _image(rows, best, state.ends),
        )

    def describe(self) -> str:
        """Name, queries and budget."""
        return f"Square-{self.queries} {self.geometry.describe()}"

    def _sides(self, step: Count, h: int, w: int) -> Count:
        """Side of the square at each step; it falls with the number of queries so far."""
        done = (step - 1).clamp_min(0) * 10000 // self.queries
        halvings = (done[..., None] > torch.tensor(_HALVINGS)).sum(-1)
        side = (self.share / torch.exp2(halvings.double()) * h * w).sqrt().round().long()
        if self.norm == "linf":
            return side.clamp(1, max(min(h, w) - 1, 1))
        side = side.clamp(3, max(min(h, w) - 1, 3))
        return side + (side % 2 == 0)

    def _ahead(self, rows: Rows, state: SquareState, rng: Rng) -> Draws:
        """The draws at hand; those of the next steps for rows that have used theirs up."""
        due = ((state.step > 0) & (state.step % _AHEAD == 0)).nonzero().squeeze(1)
        if not len(due):
            return state.draws
        whole = len(due) == len(rows)
        key = rows.key if whole else rows.key[due.to(rows.key.device)]
        fresh = self._drawn(rows, key, state.step[due], rng)
        if whole:
            return fresh
        return map_rows(lambda old, new: old.index_copy(0, due.to(old.device), new), state.draws, fresh)

    def _drawn(self, rows: Rows, key: Labels, first: Count, rng: Rng) -> Draws:
        (c, h, w), ahead = rows.x.shape[1:], min(_AHEAD, self.queries)
        side = self._sides(first[:, None] + torch.arange(ahead), h, w).to(key.device)
        if self.norm == "linf":
            drawn = rng.uniform_ahead(key, (2 + 2 * c,), "square", first, ahead)
            down, across = _square(drawn[..., 0], drawn[..., 1], side, h, w)
            return Draws(down, across, drawn[..., 2:].unflatten(2, (2, c)) < 0.5)
        places = rng.uniform_ahead(key, (4,), "places", first, ahead)
        down, across = _square(places[..., 0], places[..., 1], side, h, w)
        other = _square(places[..., 2], places[..., 3], side, h, w)
        signs = rng.uniform_ahead(key, (c,), "signs", first, ahead) < 0.5
        return Draws(down, across, signs, (*other, places[..., :2]))

    def _redrawn(self, state: SquareState, draws: Draws) -> Tensor:
        """Which pixels are at their upper end: one square redrawn, a sign a channel, so that some pixel changes."""
        if bool((state.step == 0).all()):
            return state.best
        down, across, signs, _ = _at(draws, state.step)
        inside = down[:, None, :, None] & across[:, None, None, :]
        upper = (inside & state.best).sum((2, 3))
        rises, falls = upper < inside.sum((2, 3)), upper > 0  # whether a channel would change
        first, second = signs.unbind(1)
        sign = first
        for other in (second, ~first):
            sign = torch.where(torch.where(sign, rises, falls).any(1, keepdim=True), sign, other)
        tried = torch.where(inside, sign[:, :, None, None], state.best)
        return _unless_first(state, tried)

    def _moved(self, rows: Rows, state: SquareState, draws: Draws) -> Images:
        """l2: the mass of one window, and of a second one, moved into a bump in the first (algorithm 3)."""
        if bool((state.step == 0).all()):
            return state.best
        delta, (c, h, w) = state.best, rows.x.shape[1:]
        down, across, signs, (down_other, across_other, places) = _at(draws, state.step)
        first = (down[:, None, :, None] & across[:, None, None, :]).to(delta)
        second = (down_other[:, None, :, None] & across_other[:, None, None, :]).to(delta)
        both = torch.maximum(first, second)
        square = delta.square()
        norm_first = (square * first).sum((2, 3), keepdim=True).sqrt()
        norm_both = (square * both).sum((2, 3), keepdim=True)
        unused = (self.eps**2 - square.sum((1, 2, 3), keepdim=True)).clamp_min(0) / c
        side = self._sides(state.step, h, w)
        sign = torch.where(signs, 1.0, -1.0).to(delta)[:, :, None, None]
        fresh = torch.addcdiv(_bump(places, side, h, w).to(delta) * sign, delta * first, norm_first.clamp_min(1e-10))
        fresh = fresh * first
        length = torch.linalg.vector_norm(fresh, 2, (2, 3), keepdim=True).clamp_min(1e-10)
        moved = torch.addcmul(delta * (1 - both), fresh, (norm_both + unused).sqrt() / length)
        size = torch.linalg.vector_norm(moved, 2, (1, 2, 3), keepdim=True).clamp_min(1e-12)
        moved = into_l2(moved * (self.eps / size), rows.x, torch.full_like(state.value, self.eps), rounds=1)
        return _unless_first(state, moved)

    def _tiled(self, rows: Rows, rng: Rng) -> Images:
        """Bumps on a 5 × 5 grid, with random signs (official code: a fifth of the side each)."""
        c, h, w = rows.x.shape[1:]
        side = max(min(h, w) // 5, 1)
        rows_of, columns = max(h // side, 1), max(w // side, 1)
        bump = _profile(side, side).to(rows.x)
        signs = rng.signs(rows.key, (c, rows_of, columns), "tiles").to(rows.x)
        tiles = (signs[:, :, :, None, :, None] * bump[:, None, :]).reshape(len(rows), c, rows_of * side, columns * side)
        delta = torch.zeros_like(rows.x)
        delta[:, :, : rows_of * side, : columns * side] = tiles[:, :, :h, :w]
        return self.eps * delta / expand_rows(delta.flatten(1).norm(dim=1).clamp_min(1e-12), delta)


def _at(draws: Draws, step: Count) -> Draws:
    """The draws of one step of each row."""
    at = step % _AHEAD
    if bool((at == at[0]).all()):
        one = int(at[0])
        return map_rows(lambda t: t[:, one], draws)
    index = torch.arange(len(at))
    return map_rows(lambda t: t[index.to(t.device), at.to(t.device)], draws)


def _unless_first(state: SquareState, tried: Tensor) -> Tensor:
    """What is tried; for rows at their first query the start."""
    is_first = state.step == 0
    if not bool(is_first.any()):
        return tried
    return torch.where(expand_rows(is_first, tried).to(tried.device), state.best, tried)


def _image(rows: Rows, best: Tensor, ends: tuple[Images, Images] | None) -> Images:
    """The image of a perturbation in the form of `SquareState.best`."""
    if ends is not None:
        return torch.where(best, ends[1], ends[0])
    return (rows.x + best).clamp_(0, 1)


def _square(row: Tensor, column: Tensor, side: Count, h: int, w: int) -> tuple[Tensor, Tensor]:
    """Rows ``(b, s, h)`` and columns ``(b, s, w)`` of a square at a place given by two uniform numbers, ``(b, s)``."""

    def covered(place: Tensor, size: int) -> Tensor:
        begin = (place * (size - side + 1).clamp_min(1)).long()[..., None]
        at = torch.arange(size, device=place.device)
        return (at >= begin) & (at < begin + side[..., None])

    return covered(row, h), covered(column, w)


def _bump(place: Tensor, side: Count, h: int, w: int) -> Tensor:
    """`_profile` of each row's side (on the CPU) at its place, ``(b, 1, h, w)``."""
    bump = torch.zeros(len(side), h, w, dtype=torch.float32, device=place.device)
    for size in sorted({*side.tolist()}):
        at = (side == size).nonzero().squeeze(1).to(place.device)
        height, width = min(size, h), min(size, w)
        top = (place[at, 0] * max(h - size + 1, 1)).long()
        left = (place[at, 1] * max(w - size + 1, 1)).long()
        profile = _profile(size, size).to(bump)[:height, :width]
        down, across = torch.arange(height, device=bump.device), torch.arange(width, device=bump.device)
        bump[at[:, None, None], (top[:, None] + down)[:, :, None], (left[:, None] + across)[:, None, :]] = profile
    return bump[:, None]


@cache
def _profile(height: int, width: int) -> Tensor:
    """Two bumps of opposite sign one above the other, each a sum of shrinking rectangles; norm 1 (equation 2)."""
    upper = _hill(height // 2, width)
    lower = _hill(height - height // 2, width)
    both = torch.cat([upper, -lower])
    unit: Tensor = both / torch.linalg.vector_norm(both).clamp_min(1e-12)
    return unit


def _hill(height: int, width: int) -> Tensor:
    """A pyramid that grows towards its middle: ``Σ 1/(n + 1 − k)²`` over nested rectangles."""
    hill = torch.zeros(height, width, dtype=torch.float32)
    top, left = height // 2, width // 2
    up, across = 0, 0
    for counter in range(max(height // 2, width // 2) + 1):
        r0, r1 = max(top - up, 0), min(top + up + 1, height)
        c0, c1 = max(left - across, 0), min(left + across + 1, width)
        hill[r0:r1, c0:c1] += 1.0 / (counter + 1) ** 2
        up, across = min(up + 1, top), min(across + 1, left)
    return hill
