"""Adversarial images on the grid of 8 bits that fool the model as they are stored."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from assay.core.call_context import in_neutral_context
from assay.core.combinators import AnyAttack, unfold
from assay.core.geometry import Geometry
from assay.core.model_calls import Classifier
from assay.core.model_state import preserve_state, seeded
from assay.core.oracle import Oracle
from assay.core.outcome import TOLERANCE, Outcome, Status
from assay.core.rng import Rng, content_keys
from assay.core.rows import Goal, Rows
from assay.core.tree import take
from assay.core.types import Flag, Images
from assay.parts.losses import Margin
from assay.util.validate import described, reject, whole

_LEVELS = 255
_SHRINKS = (1.0, 0.99, 0.97, 0.94, 0.9, 0.85, 0.8)
"""Factors on a perturbation that rounding has made larger than the budget."""


@dataclass(frozen=True)
class EightBitImages:
    """Broken samples as 8-bit images.

    Attributes:
        index: their places in the outcome, ``(m,)``.
        images: ``(m, c, h, w)``, uint8; all fool the model.
        lost: places of broken samples for which no such image was found.
        n: samples of the outcome.
        survived: samples that survived the attack, or have no result.
        predicted: the class that the model gives each image, ``(m,)``.
    """

    index: Tensor
    images: Tensor
    lost: Tensor
    n: int
    survived: int
    predicted: Tensor

    @property
    def robust_accuracy(self) -> float:
        """Share of samples that survive attacks with 8-bit images: those that survived, and those that were lost."""
        return (self.survived + len(self.lost)) / self.n if self.n else float("nan")


@in_neutral_context
def eight_bit(
    model: Classifier,
    outcome: Outcome,
    budget: Geometry | AnyAttack,
    *,
    mask: Tensor | None = None,
    steps: int = 20,
    seed: int = 0,
) -> EightBitImages:
    """Find for every broken sample an image of whole numbers from 0 to 255 that fools the model, within the budget.

    Rounding to the nearest level comes first, then rounding in the direction of the gradient, then up and down at
    random, then a search on the grid: sign steps of one level on the pixels with most of the gradient.

    Args:
        model: as in `attack`.
        outcome: of the attack, with its images.
        budget: the set that the images have to stay in, or the attack whose set it is.
        mask: foreground, where the budget has one.
        steps: of the search on the grid.
        seed: of the draws.

    Returns:
        The images that fool the model as they are, and which samples have none.

    Raises:
        TypeError, ValueError: a wrong argument; an attack without a budget (give a `Ball`).

    Example:
        >>> from assay import PGD, Ball, attack
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
        >>> x = torch.randint(256, (8, 1, 2, 2), generator=torch.Generator().manual_seed(0)) / 255
        >>> outcome = attack(model, x, model(x).argmax(1), PGD(64 / 255))
        >>> found = eight_bit(model, outcome, Ball("linf", 64 / 255))
        >>> found.images.dtype, len(found.images) + len(found.lost) == outcome.counts["broken"]
        (torch.uint8, True)
    """
    geometry = _geometry(budget)
    index = (outcome.status.cpu() == int(Status.BROKEN)).nonzero()[:, 0]
    survived = len(outcome) - len(index) - outcome.count(Status.MISCLASSIFIED)
    search = _Search(model, outcome, geometry, index, mask, seed)
    with preserve_state(model), seeded(seed, {search.oracle.device}):
        levels, done = search.run(whole("steps", steps))
        predicted = search.oracle.verify(levels.float() / _LEVELS).argmax(1).cpu()
    return EightBitImages(index[done], levels[done], index[~done], len(outcome), survived, predicted[done])


class _Search:
    """The broken samples of an outcome, and the best 8-bit image of each."""

    def __init__(
        self,
        model: Classifier,
        outcome: Outcome,
        geometry: Geometry,
        index: Tensor,
        mask: Tensor | None,
        seed: int,
    ) -> None:
        self.oracle, self.rng = Oracle(model), Rng(seed)
        clean, images = outcome.clean[index].cpu().float(), outcome.images[index].cpu().float()
        y, target = outcome.y[index].cpu(), outcome.target[index].cpu()
        goal = Goal(y, target, target >= 0)
        keys = content_keys(clean, y)
        chosen = None if mask is None else mask[index].cpu().float()
        if "mask" in geometry.needs and chosen is None:
            reject("mask", "the foreground masks that the budget needs", None)
        self.rows = Rows(clean, goal, keys, mask=chosen)
        self.geometry, self.images = geometry, images
        self.climbs = bool(getattr(model, "differentiable", True))
        self.levels = (images * _LEVELS).round().to(torch.uint8)
        self.done = torch.zeros(len(index), dtype=torch.bool)

    def run(self, steps: int) -> tuple[Tensor, Flag]:
        """All levels, and which of them fool the model within the budget."""
        for make in self._ways(steps):
            at = (~self.done).nonzero()[:, 0]
            if not len(at):
                break
            self._try(at, make(at).clamp(0, _LEVELS))
        self._climb(steps)
        return self.levels, self.done

    def _ways(self, steps: int) -> Iterator[Callable[[Tensor], Images]]:
        """Ways of rounding, from rows to levels, the nearest first."""
        for factor in _SHRINKS:
            yield partial(self._nearest, factor)
            yield partial(self._uphill, factor)
        for draw in range(steps):
            yield partial(self._at_random, draw)

    def _try(self, at: Tensor, levels: Tensor) -> None:
        """Keep the levels that fool the model within the budget."""
        image, rows = levels.float() / _LEVELS, take(self.rows, at)
        hit = rows.goal.reached(self.oracle.verify(image).cpu(), image)
        hit &= self.geometry.size(image - rows.x, rows) <= 1 + TOLERANCE
        self.levels[at[hit]] = levels[hit].to(torch.uint8)
        self.done[at[hit]] = True

    def _shrunk(self, factor: float, at: Tensor) -> Images:
        """Levels, not rounded, of images nearer to the clean ones."""
        clean = self.rows.x[at]
        return _LEVELS * (clean + factor * (self.images[at] - clean))

    def _nearest(self, factor: float, at: Tensor) -> Images:
        return self._shrunk(factor, at).round()

    def _grad(self, at: Tensor, image: Images) -> Images:
        rows = take(self.rows, at)
        self.oracle.start(len(at))
        device = self.oracle.device
        return self.oracle.evaluate(Margin(), image.to(device), _on(rows, device)).grad.cpu()

    def _uphill(self, factor: float, at: Tensor) -> Images:
        """Up where the margin grows, down where it falls."""
        scaled = self._shrunk(factor, at)
        if not self.climbs:
            return scaled.floor()
        return torch.where(self._grad(at, scaled / _LEVELS) > 0, scaled.ceil(), scaled.floor())

    def _at_random(self, draw: int, at: Tensor) -> Images:
        """Up with the probability of the part behind the point."""
        scaled = self._shrunk(1.0, at)
        u = self.rng.uniform(self.rows.key[at], tuple(scaled.shape[1:]), "rounding", draw)
        return scaled.floor() + (u < scaled - scaled.floor())

    def _climb(self, steps: int) -> None:
        """One level uphill at a time, where there is room in the budget, from the rounded image."""
        at = (~self.done).nonzero()[:, 0]
        state = self._nearest(1.0, at).clamp(0, _LEVELS)
        for _ in range(steps if self.climbs else 0):
            if not len(at):
                return
            rows = take(self.rows, at)
            grad = self._grad(at, state / _LEVELS)
            moved = (state + grad.sign()).clamp(0, _LEVELS) / _LEVELS
            inside = self.geometry.project(moved - rows.x, rows) + rows.x
            clean = rows.x * _LEVELS  # towards the clean image, so that rounding leaves no budget
            scaled = inside * _LEVELS
            state = torch.where(scaled > clean, (scaled + 1e-3).floor(), (scaled - 1e-3).ceil()).clamp(0, _LEVELS)
            self._try(at, state)
            open_ = ~self.done[at]
            at, state = at[open_], state[open_]


def _on(rows: Rows, device: torch.device) -> Rows:
    """Rows on another device."""
    goal = replace(
        rows.goal, label=rows.goal.label.to(device), aim=rows.goal.aim.to(device), strict=rows.goal.strict.to(device)
    )
    mask = None if rows.mask is None else rows.mask.to(device)
    return replace(rows, x=rows.x.to(device), goal=goal, key=rows.key.to(device), mask=mask)


def _geometry(budget: Geometry | AnyAttack) -> Geometry:
    """The set that images have to stay in."""
    if isinstance(budget, Geometry):
        return budget
    geometry = unfold(budget)[0].attack.geometry
    if geometry is None:
        reject("budget", "a set, such as assay.Ball('l2', 1), or an attack with one", described(budget.describe()))
    return geometry
