"""The shared base of OPT and Sign-OPT: descend the distance to the boundary over directions, by labels alone."""

from dataclasses import dataclass

import torch
from torch import Tensor

from assay.attacks.blackbox.boundary_search import ask, begin
from assay.attacks.blackbox.direction_search import BLOCK, SLOPE, START, DirectionSearch, DirectionState
from assay.core.attack import Step
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.tree import expand_rows
from assay.core.types import Count, Images, PerRow
from assay.parts.min_distance import budget, check_budget, length_of, within
from assay.parts.variation import vary_fields
from assay.util.validate import number, whole


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
        check_budget(self, "l2")

    @property
    def geometry(self) -> Geometry | None:
        """The limit on the distance, if there is one."""
        return budget("l2", self.eps)

    @property
    def search(self) -> DirectionSearch:
        """The transitions between its phases."""
        return DirectionSearch(self.samples, self.starts, self.signs)

    @property
    def needs(self) -> tuple[str, ...]:
        """An image to start from, if there is one."""
        return ("start",)

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        return Traits("labels", minimises="l2", randomised=True, passes=self.queries)

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
            phase=count + START,
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
        return state._replace(ray=self.search.start_ray(rows, state, rng))

    def step(self, rows: Rows, state: DirectionState, oracle: Oracle, rng: Rng) -> Step[DirectionState]:
        """Ask about one image along a direction, or about a block of turned directions."""
        count = self.price(state)
        along = _image(rows, state.ray.direction, ask(state.ray))
        sloping = self.signs and bool((state.phase == SLOPE).any())
        turned = self.search.turned(rows, state, rng) if sloping else None
        points = along[:, None]
        if turned is not None:
            block = _image(rows, turned.flatten(0, 1), state.length.repeat_interleave(BLOCK), BLOCK)
            points = torch.where(expand_rows(state.phase == SLOPE, block), block, along[:, None])
        logits = oracle.many(points, rows, count)
        reached = torch.stack([rows.goal.reached(logits[:, j], points[:, j]) for j in range(points.shape[1])], 1)
        real = torch.arange(points.shape[1], device=count.device)[None] < count[:, None]
        before = state
        state = state._replace(queries=state.queries + count)
        if turned is not None:
            state = self.search.after_signs(rows, state, turned, reached & real, count)
        state = self.search.after_ray(rows, state, reached[:, 0], before.phase, rng)
        lengths = length_of((points - rows.x[:, None]).flatten(0, 1), "l2").view_as(reached)
        cost = torch.where(reached & real, lengths.to(rows.x), torch.inf)
        if self.eps is not None:
            cost = torch.where(cost <= self.eps * (1 + 2e-5), cost, torch.inf)
        cost, best = cost.min(1)
        image = points[torch.arange(len(rows), device=best.device), best]
        nothing = (state.phase != START) & state.length.isinf()
        over = (state.turn >= self.steps) & (state.phase != START)
        done = nothing | over | (state.queries + self.price(state) > self.queries)
        unstarted = state.length.isinf() & (self.steps > 0)
        return Step(state, image, cost.isfinite(), cost, done, unstarted=unstarted)

    def price(self, state: DirectionState) -> Count:
        """Queries of the next step."""
        block = (self.samples - state.queried).clamp(1, BLOCK)
        return torch.where((state.phase == SLOPE) & self.signs, block, 1)

    def describe(self) -> str:
        """Name, steps and norm."""
        return f"{'Sign-OPT' if self.signs else 'OPT'}-{self.steps} {within('l2', self.eps)}"


def _image(rows: Rows, direction: Images, length: PerRow, block: int = 1) -> Tensor:
    """The image at a length along a direction, in the box; with a block, ``(b, block, c, h, w)``."""
    x = rows.x if block == 1 else rows.x.repeat_interleave(block, 0)
    image = (x + expand_rows(length.nan_to_num(0, 0, 0), x) * direction).clamp(0, 1)
    return image if block == 1 else image.view(len(rows), block, *rows.x.shape[1:])
