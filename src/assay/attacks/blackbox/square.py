"""Square attack: random search with squares, by scores alone."""

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
from assay.parts.balls import Ball
from assay.parts.losses import objective
from assay.parts.variation import vary_fields
from assay.util.validate import number, one_of, whole

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After so many of 10,000 queries the share of the image that a square covers halves (official code)."""


_SAME = 1e-7
"""Images whose pixels differ by no more count as the same (official code)."""


class SquareState(NamedTuple):
    """The best perturbation of each row, its value, and the number of queries."""

    delta: Images
    value: PerRow
    step: Count


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
        number("eps", self.eps, least=0)
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
        if self.norm == "linf":
            stripes = rng.signs(rows.key, (c, 1, w), "stripes").to(rows.x).expand_as(rows.x)
            delta = self.eps * stripes
        else:
            delta = self._tiled(rows, rng)
        count = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        start = self.geometry.project(delta.clone(), rows)
        return SquareState(start, torch.full_like(count, -torch.inf, dtype=rows.x.dtype), count)

    def step(self, rows: Rows, state: SquareState, oracle: Oracle, rng: Rng) -> Step[SquareState]:
        """One query: the start, then each time the best so far with a square redrawn."""
        tried = self._redrawn(rows, state, rng) if self.norm == "linf" else self._moved(rows, state, rng)
        delta = torch.where(expand_rows(state.step == 0, tried), state.delta, tried)
        image = (rows.x + delta).clamp(0, 1)
        logits = oracle.logits(image, rows)
        value = objective(self.loss)(logits, image, rows)
        better = value > state.value
        step = state.step + 1
        kept = torch.where(expand_rows(better, delta), delta, state.delta)
        after = SquareState(kept, torch.where(better, value, state.value), step)
        return Step(after, image, rows.goal.reached(logits, image), -value, step >= self.queries)

    def describe(self) -> str:
        """Name, queries and budget."""
        return f"Square-{self.queries} {self.geometry.describe()}"

    def _covered(self, step: Count) -> Tensor:
        """Share of the image that a square covers, by the number of queries so far."""
        done = (step - 1).clamp_min(0) * 10000 // self.queries
        halvings = torch.stack([done > at for at in _HALVINGS]).sum(0)
        return self.share / torch.exp2(halvings.float())

    def _redrawn(self, rows: Rows, state: SquareState, rng: Rng) -> Images:
        """The perturbation with one square set to ±eps, a sign for each channel, so that it is another than before."""
        c, h, w = rows.x.shape[1:]
        side = (self._covered(state.step) * h * w).sqrt().round().long().clamp(1, max(min(h, w) - 1, 1))
        drawn = rng.uniform(rows.key, (2 + 2 * c,), "square", state.step).to(side.device)
        inside = _square(drawn[:, :2], side, side, h, w)[:, None]
        first, second = (drawn[:, 2:].unflatten(1, (2, c)) < 0.5).unbind(1)
        up, down = (  # whether a channel would change
            (inside & ((rows.x + sign * self.eps).clamp(0, 1) - rows.x - state.delta).abs().gt(_SAME)).flatten(2).any(2)
            for sign in (1, -1)
        )
        sign = first
        for other in (second, ~first):
            sign = torch.where(torch.where(sign, up, down).any(1, keepdim=True), sign, other)
        signs = torch.where(sign, self.eps, -self.eps)[:, :, None, None].to(rows.x)
        return self.geometry.project(torch.where(inside, signs, state.delta), rows)

    def _moved(self, rows: Rows, state: SquareState, rng: Rng) -> Images:
        """l2: the mass of one window, and of a second one, moved into a bump in the first (algorithm 3)."""
        c, h, w = rows.x.shape[1:]
        side = (self._covered(state.step) * h * w).sqrt().round().long().clamp(3, max(min(h, w) - 1, 3))
        side = side + (side % 2 == 0)
        places = rng.uniform(rows.key, (4,), "places", state.step).to(side.device)
        first = _square(places[:, :2], side, side, h, w)[:, None].to(rows.x)
        second = _square(places[:, 2:], side, side, h, w)[:, None].to(rows.x)
        delta = state.delta
        norm_first = (delta * first).flatten(2).norm(dim=2)
        norm_both = (delta * torch.maximum(first, second)).flatten(2).norm(dim=2)
        total = delta.flatten(1).norm(dim=1)
        unused = (self.eps**2 - total**2).clamp_min(0) / c
        bump = _bump(places[:, :2], side, h, w)[:, None] * rng.signs(rows.key, (c, 1, 1), "signs", state.step).to(
            rows.x
        )
        old = delta * first / norm_first.clamp_min(1e-10)[:, :, None, None]
        fresh = bump + old
        fresh = fresh * first / (fresh * first).flatten(2).norm(dim=2).clamp_min(1e-10)[:, :, None, None]
        length = (norm_both**2 + unused[:, None]).sqrt()[:, :, None, None]
        moved = delta * (1 - torch.maximum(first, second)) + fresh * length
        size = moved.flatten(1).norm(dim=1)
        moved = moved * expand_rows(self.eps / size.clamp_min(1e-12), moved)
        return self.geometry.project(moved, rows)

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


def _square(place: Tensor, height: Count, width: Count, h: int, w: int) -> Tensor:
    """Mask ``(b, h, w)`` of a rectangle at a place given by two uniform numbers."""
    top = (place[:, 0] * (h - height + 1).clamp_min(1)).long()
    left = (place[:, 1] * (w - width + 1).clamp_min(1)).long()
    down = torch.arange(h, device=place.device)[None]
    across = torch.arange(w, device=place.device)[None]
    inside_rows = (down >= top[:, None]) & (down < (top + height)[:, None])
    inside_columns = (across >= left[:, None]) & (across < (left + width)[:, None])
    return inside_rows[:, :, None] & inside_columns[:, None, :]


def _bump(place: Tensor, side: Count, h: int, w: int) -> Tensor:
    """`_profile` of each row's side at its place, ``(b, h, w)``."""
    bump = torch.zeros(len(side), h, w, dtype=torch.float32, device=place.device)
    for size in sorted({*side.tolist()}):
        at = (side == size).nonzero().squeeze(1)
        height, width = min(size, h), min(size, w)
        top = (place[at, 0] * max(h - size + 1, 1)).long()
        left = (place[at, 1] * max(w - size + 1, 1)).long()
        profile = _profile(size, size).to(bump)[:height, :width]
        down, across = torch.arange(height, device=bump.device), torch.arange(width, device=bump.device)
        bump[at[:, None, None], (top[:, None] + down)[:, :, None], (left[:, None] + across)[:, None, :]] = profile
    return bump


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
