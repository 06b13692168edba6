"""Boundary attack: a random walk along the boundary, by labels alone."""

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
from assay.core.tree import expand_rows
from assay.core.types import Count, Images, PerRow
from assay.parts.min_distance import budget, check_budget, claim, within
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, whole

_LOOK = 10
"""Every so many steps the step sideways alone is asked about too, to adapt its length."""

_HALVINGS = 10
"""The first steps: a binary search between the clean image and the start."""


class WalkState(NamedTuple):
    """Where each row is, its two step lengths, and how its last steps went."""

    point: Images
    started: torch.Tensor
    low: PerRow
    """Share of the way to the point up to which nothing was adversarial."""
    sideways: PerRow
    towards: PerRow
    looks: Count
    fair: Count
    tried: Count
    taken: Count
    tries: Count
    step: Count


@with_hints
@dataclass(frozen=True)
class Boundary:
    """From an adversarial image towards the clean one: a step sideways on the sphere, a step in, kept if adversarial.

    Args:
        steps: steps, of one query each (every tenth of two).
        sideways: first length of the step along the sphere, as a share of the distance.
        towards: first length of the step towards the clean image, likewise.
        adapt: factor by which the lengths change.
        starts: random images tried for one that is adversarial (after `Rows.start`, if there is one); ten steps of
            binary search lead to the boundary.
        eps: images further away in l2 do not count; None for no limit.

    Example:
        >>> Boundary(steps=1000).describe()
        'Boundary-1000 l2'

    Source: Brendel, Rauber & Bethge, "Decision-based adversarial attacks: reliable attacks against black-box machine
    learning models", ICLR 2018, algorithm 1 and section 2.4. The lengths adapt once 10 looks (sideways) or 30 steps
    (towards) are in, so that each row has its own.
    """

    steps: int = 5000
    sideways: float = 0.01
    towards: float = 0.01
    adapt: float = 1.5
    starts: int = 100
    eps: float | None = None

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        whole("starts", self.starts, least=1)
        for name in ("sideways", "towards"):
            number(name, getattr(self, name), least=0, above=True)
        number("adapt", self.adapt, least=1)
        check_budget(self, "l2")

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
        return Traits("labels", self.steps + self.starts, minimises="l2", randomised=True)

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "Boundary | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(self, effort, step_size, geometry, objective, norm="l2")

    def init(self, rows: Rows, rng: Rng) -> WalkState:
        """Before the first random image."""
        count = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        zero = torch.zeros_like(count, dtype=rows.x.dtype)
        return WalkState(
            rows.x, count > 0, zero, zero + self.sideways, zero + self.towards, count, count, count, count, count, count
        )

    def step(self, rows: Rows, state: WalkState, oracle: Oracle, rng: Rng) -> Step[WalkState]:
        """One proposal; before there is an adversarial image, one random image."""
        look = self._looks(state)
        sphere, inside = self._proposals(rows, state, rng)
        halving = state.started & (state.step < _HALVINGS)
        middle = 0.5 * (state.low + 1)
        between = rows.x + expand_rows(middle, rows.x) * (state.point - rows.x)
        image = torch.where(expand_rows(halving, inside), between, inside)
        if not bool(state.started.all()):
            wild = rng.uniform(rows.key, tuple(rows.x.shape[1:]), "start", state.tries).to(rows.x)
            if rows.start is not None:
                wild = torch.where(expand_rows(state.tries == 0, wild), rows.start, wild)
            image = torch.where(expand_rows(state.started, image), image, wild)
        logits = oracle.many(torch.stack([image, sphere], 1), rows, self.price(state))
        at = claim(rows, image, logits[:, 0], "l2", self.geometry)
        fair = rows.goal.reached(logits[:, 1], sphere) & look
        state = state._replace(
            point=torch.where(expand_rows(at.reached, image), image, state.point),
            low=torch.where(halving, torch.where(at.reached, state.low / middle, middle), state.low),
            looks=state.looks + look,
            fair=state.fair + fair,
            tried=state.tried + (state.started & ~halving),
            taken=state.taken + (at.reached & state.started & ~halving),
            tries=state.tries + ~state.started,
            step=state.step + state.started,
            started=state.started | at.reached,
        )
        lost = ~state.started & (state.tries >= self.starts + (rows.start is not None))
        near = (state.towards < 1e-7) | (state.sideways < 1e-7)
        state = self._adapted(state)
        done = lost | near | (state.step >= self.steps)
        return Step(state, image, at.hit, at.cost, done, unstarted=~state.started & (self.steps > 0))

    def price(self, state: WalkState) -> Count:
        """One query, or two."""
        return 1 + self._looks(state).long()

    def describe(self) -> str:
        """Name, steps and norm."""
        return f"Boundary-{self.steps} {within('l2', self.eps)}"

    def _looks(self, state: WalkState) -> torch.Tensor:
        """Whether the step sideways is asked about too."""
        return state.started & (state.step >= _HALVINGS) & (state.step % _LOOK == 0)

    def _proposals(self, rows: Rows, state: WalkState, rng: Rng) -> tuple[Images, Images]:
        """A point at the same distance from the clean image, and one nearer to it."""
        away = rows.x - state.point
        length = away.flatten(1).norm(dim=1).clamp_min(1e-12)
        unit = away / expand_rows(length, away)
        drawn = rng.normal(rows.key, tuple(rows.x.shape[1:]), "sideways", state.step).to(rows.x)
        drawn = drawn - expand_rows((drawn * unit).flatten(1).sum(1), drawn) * unit
        drawn = drawn * expand_rows(state.sideways * length / drawn.flatten(1).norm(dim=1).clamp_min(1e-12), drawn)
        scale = 1 / torch.sqrt(state.sideways.square() + 1)
        sphere = (rows.x + expand_rows(scale, away) * (drawn - away)).clamp(0, 1)
        back = rows.x - sphere
        now = back.flatten(1).norm(dim=1).clamp_min(1e-12)
        gain = (state.towards * length + (now - length)).clamp_min(0) / now  # also what the first step has lost
        return sphere, (sphere + expand_rows(gain, back) * back).clamp(0, 1)

    def _adapted(self, state: WalkState) -> WalkState:
        """Longer steps where most succeed, shorter ones where few do."""
        enough, many = state.looks >= 10, state.tried >= 30
        share, won = state.fair / state.looks.clamp_min(1), state.taken / state.tried.clamp_min(1)
        both = torch.where(share > 0.5, self.adapt, torch.where(share < 0.2, 1 / self.adapt, 1.0)).to(state.sideways)
        inner = torch.where(won > 0.25, self.adapt, torch.where(won < 0.1, 1 / self.adapt, 1.0)).to(state.sideways)
        towards = state.towards * torch.where(enough, both, 1.0) * torch.where(many, inner, 1.0)
        return state._replace(
            sideways=state.sideways * torch.where(enough, both, 1.0),
            towards=towards,
            looks=torch.where(enough, 0, state.looks),
            fair=torch.where(enough, 0, state.fair),
            tried=torch.where(many, 0, state.tried),
            taken=torch.where(many, 0, state.taken),
        )
