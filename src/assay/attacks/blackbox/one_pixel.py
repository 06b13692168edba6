"""One-pixel attack: differential evolution over a few pixels, by scores alone."""

from dataclasses import dataclass, replace
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
from assay.core.types import Count
from assay.parts.counts import scaled_count
from assay.parts.losses import CrossEntropy
from assay.parts.sparse_sets import Support
from assay.parts.variation import check_variation, radius_in
from assay.util.hints import with_hints
from assay.util.validate import number, whole

_BLOCK = 32
"""Members of the population that a step asks about: what bounds memory."""


class EvolutionState(NamedTuple):
    """Population of each row, ``(b, members, numbers)``, its values, and how many queries were asked."""

    members: Tensor
    values: Tensor
    queried: Count


@with_hints
@dataclass(frozen=True)
class OnePixel:
    """Differential evolution over place and colour of a few pixels; the rest of the image is not touched.

    Args:
        pixels: how many pixels may change.
        population: members.
        generations: generations after the first.
        weight: of the difference of two members (F).

    Example:
        >>> OnePixel(pixels=3).describe()
        'one pixel 3 pixels'

    Source: Su, Vargas & Sakurai, "One pixel attack for fooling deep neural networks", IEEE Transactions on Evolutionary
    Computation 2019, section III-C (DE/rand/1 without crossover, population 400, at most 100 generations). Deviation:
    a child takes its parent's place as soon as its block of 32 has been judged, not at the end of the generation.
    """

    pixels: int = 1
    population: int = 400
    generations: int = 100
    weight: float = 0.5

    def __post_init__(self) -> None:
        whole("pixels", self.pixels, least=1)
        whole("population", self.population, least=4)
        whole("generations", self.generations)
        number("weight", self.weight, least=0, above=True)

    @property
    def geometry(self) -> Support:
        """The limit on the number of pixels."""
        return Support(self.pixels, "pixels")

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond the image."""
        return ()

    @property
    def traits(self) -> Traits:
        """A block of queries a step."""
        steps = -(-self.population // _BLOCK) * (self.generations + 1)
        return Traits("scores", steps, randomised=True)

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "OnePixel | None":
        """With more generations, or another number of pixels."""
        check_variation(geometry, objective)
        pixels = self.pixels if geometry is None else radius_in(geometry, "pixels")
        if step_size != 1 or objective is not None or not pixels:
            return None
        return replace(self, pixels=int(pixels), generations=scaled_count(self.generations, effort))

    def init(self, rows: Rows, rng: Rng) -> EvolutionState:
        """Random places, colours normal about mid-grey."""
        c = rows.x.shape[1]
        shape = (self.population, self.pixels, 2)
        place = rng.uniform(rows.key, shape, "places")
        colour = 0.5 + 0.5 * rng.normal(rows.key, (self.population, self.pixels, c), "colours")
        members = torch.cat([place, colour], 3).flatten(2).to(rows.x).clamp(0, 1)
        low = torch.full(members.shape[:2], -torch.inf, dtype=rows.x.dtype, device=rows.x.device)
        return EvolutionState(members, low, torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device))

    def step(self, rows: Rows, state: EvolutionState, oracle: Oracle, rng: Rng) -> Step[EvolutionState]:
        """Ask about the next block of members, or of their children."""
        at = self._block(state.queried)
        count = self.price(state)
        first = (state.queried < self.population)[:, None, None]
        parents = _pick(state.members, at)
        children = torch.where(first, parents, self._children(rows, state, at, rng))
        images = self._images(rows, children)
        logits = oracle.many(images, rows, count)
        values = torch.stack([CrossEntropy()(logits[:, j], images[:, j], rows) for j in range(at.shape[1])], 1)
        real = torch.arange(at.shape[1], device=at.device)[None] < count[:, None]
        reached = torch.stack([rows.goal.reached(logits[:, j], images[:, j]) for j in range(at.shape[1])], 1) & real
        values = torch.where(real, values, -torch.inf)
        better = values > state.values.gather(1, at)
        members = _put(state.members, at, torch.where(better[:, :, None], children, parents))
        kept = state.values.scatter(1, at, torch.where(better, values, state.values.gather(1, at)))
        after = EvolutionState(members, kept, state.queried + count)
        best = torch.where(reached, torch.inf, values).argmax(1)
        image = images[torch.arange(len(rows), device=best.device), best]
        hit = reached.any(1)
        cost = torch.where(hit, 0.0, -values.gather(1, best[:, None]).squeeze(1)).to(rows.x)
        return Step(after, image, hit, cost, hit | (after.queried >= self.population * (1 + self.generations)))

    def price(self, state: EvolutionState) -> Count:
        """Queries of the next block: the last one of a generation may be smaller."""
        return (self.population - state.queried % self.population).clamp_max(_BLOCK)

    def describe(self) -> str:
        """Name and limit."""
        return f"one pixel {self.geometry.describe()}"

    def _block(self, queried: Count) -> Tensor:
        """Indices of the members to ask about, ``(b, block)``; wrapped round at the end, where they are not asked."""
        wide = min(_BLOCK, self.population)
        return (queried % self.population)[:, None].add(torch.arange(wide, device=queried.device)) % self.population

    def _children(self, rows: Rows, state: EvolutionState, at: Tensor, rng: Rng) -> Tensor:
        draw = rng.uniform(rows.key, (*at.shape[1:], 3), "mates", state.queried).to(rows.x.device)
        mates = (draw.double() * self.population).long().clamp_max(self.population - 1)
        first, second, third = (_pick(state.members, mates[:, :, i]) for i in range(3))
        child = first + self.weight * (second - third)
        fresh = rng.uniform(rows.key, tuple(child.shape[1:]), "strays", state.queried).to(child)
        return torch.where((child < 0) | (child > 1), fresh, child)  # a number that leaves its range is drawn anew

    def _images(self, rows: Rows, members: Tensor) -> Tensor:
        """The images of members, ``(b, m, c, h, w)``."""
        c, h, w = rows.x.shape[1:]
        parts = members.view(*members.shape[:2], self.pixels, 2 + c)
        down = (parts[..., 0] * h).long().clamp(0, h - 1)
        across = (parts[..., 1] * w).long().clamp(0, w - 1)
        images = rows.x[:, None].expand(-1, members.shape[1], -1, -1, -1).flatten(3).clone()
        for pixel in range(self.pixels):
            index = (down * w + across)[:, :, pixel, None, None].expand(-1, -1, c, 1)
            images = images.scatter(3, index, parts[:, :, pixel, 2:, None].clamp(0, 1))
        return images.view(*members.shape[:2], c, h, w)


def _pick(members: Tensor, at: Tensor) -> Tensor:
    return members.gather(1, at[:, :, None].expand(-1, -1, members.shape[2]))


def _put(members: Tensor, at: Tensor, new: Tensor) -> Tensor:
    return members.scatter(1, at[:, :, None].expand(-1, -1, members.shape[2]), new)
