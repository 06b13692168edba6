"""Greedy local search over pixels, by scores alone."""

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
from assay.core.types import Count, Images
from assay.parts.losses import CrossEntropy
from assay.parts.min_distance import budget, check_budget
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, whole


class LocalSearchState(NamedTuple):
    """The image of each row, the pixels to look at next, and the number of rounds."""

    image: Images
    near: Tensor
    """Mask of pixels, ``(b, 1, h, w)``."""
    step: Count


@with_hints
@dataclass(frozen=True)
class LocalSearch:
    """Look at what a strong change of each nearby pixel does, change the best few for good, go on to their neighbours.

    Args:
        rounds: rounds of ``pixels + 1`` queries.
        pixels: pixels looked at in a round.
        change: pixels changed in a round (t).
        reach: half the side of the square of neighbours (d).
        probe: how far from mid-grey a pixel is set to look what it does (p), beyond which the box clips.
        factor: what a pixel's distance from mid-grey is multiplied by, wrapping round at the ends of the range (r).
        eps: images with more pixels changed do not count; None for no limit.

    Example:
        >>> LocalSearch(rounds=30).describe()
        'local search-30'

    Source: Narodytska & Kasiviswanathan, "Simple black-box adversarial perturbations for deep networks", 2016,
    algorithm LocSearchAdv; Balasubramanian, "Adversarial robustness" (greedy local search). Deviation: neighbours are
    drawn at random where there are more than ``pixels``.
    """

    rounds: int = 100
    pixels: int = 128
    change: int = 5
    reach: int = 5
    probe: float = 1.0
    factor: float = 1.5
    eps: float | None = None

    def __post_init__(self) -> None:
        for name in ("pixels", "change", "rounds"):
            whole(name, getattr(self, name), least=1)
        whole("reach", self.reach)
        number("probe", self.probe, least=0, above=True)
        number("factor", self.factor, least=0, most=2, above=True)
        check_budget(self, "pixels")

    @property
    def geometry(self) -> Geometry | None:
        """The limit on the number of pixels, if there is one."""
        return budget("pixels", self.eps)

    @property
    def needs(self) -> tuple[str, ...]:
        """Scores, not labels alone."""
        return ()

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        return Traits("scores", self.rounds, minimises="pixels", randomised=True)

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "LocalSearch | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(self, effort, step_size, geometry, objective, counts=("rounds",), norm="pixels")

    def init(self, rows: Rows, rng: Rng) -> LocalSearchState:
        """Any pixel may be looked at."""
        count = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        return LocalSearchState(rows.x, torch.ones_like(rows.x[:, :1], dtype=torch.bool), count)

    def step(self, rows: Rows, state: LocalSearchState, oracle: Oracle, rng: Rng) -> Step[LocalSearchState]:
        """One round."""
        h, w = rows.x.shape[2:]
        wide = min(self.pixels, h * w)
        draw = (rng.uniform(rows.key, (h * w,), "pixels", state.step) + 1).to(rows.x)
        worth, at = (draw * state.near.flatten(1)).topk(wide, dim=1)
        count = (worth > 0).sum(1)
        probed = (0.5 + self.probe * torch.where(state.image < 0.5, -1.0, 1.0)).clamp(0, 1).to(rows.x)
        place = torch.zeros(len(rows), wide, h * w, dtype=torch.bool, device=rows.x.device)
        place = place.scatter(2, at[:, :, None], True).view(len(rows), wide, 1, h, w)
        logits = oracle.many(torch.where(place, probed[:, None], state.image[:, None]), rows, count)
        values = torch.stack([CrossEntropy()(logits[:, j], state.image, rows) for j in range(wide)], 1)
        values = torch.where(torch.arange(wide, device=at.device)[None] < count[:, None], values, -torch.inf)
        best = at.gather(1, values.topk(min(self.change, wide), dim=1).indices)
        chosen = torch.zeros(len(rows), h * w, dtype=torch.bool, device=rows.x.device).scatter(1, best, True)
        chosen = chosen.view(len(rows), 1, h, w)
        image = torch.where(chosen, _wrapped(self.factor * (state.image - 0.5)) + 0.5, state.image).clamp(0, 1)
        seen = oracle.logits(image, rows)
        reached = rows.goal.reached(seen, image)
        hit = reached
        changed = ((image - rows.x) != 0).any(1).flatten(1).sum(1).to(rows.x)
        if self.eps is not None:
            hit = reached & (changed <= self.eps)
        near = F.max_pool2d(chosen.to(rows.x), 2 * self.reach + 1, 1, self.reach) > 0
        after = LocalSearchState(image, near, state.step + 1)
        return Step(after, image, hit, torch.where(hit, changed, torch.inf), reached | (after.step >= self.rounds))

    def price(self, state: LocalSearchState) -> Count:
        """Queries of the next round."""
        return 1 + state.near.flatten(1).sum(1).clamp_max(self.pixels)

    def describe(self) -> str:
        """Name and rounds."""
        limit = "" if self.geometry is None else f" {self.geometry.describe()}"
        return f"local search-{self.rounds}{limit}"


def _wrapped(value: Tensor) -> Tensor:
    """Into [−1/2, 1/2], round the ends."""
    return torch.where(value < -0.5, value + 1, torch.where(value > 0.5, value - 1, value))
