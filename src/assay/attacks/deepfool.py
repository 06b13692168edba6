"""DeepFool."""

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
from assay.core.tree import choose, expand_rows
from assay.core.types import Count, Flag, Images, Logits, PerRow
from assay.parts.class_gaps import ranked_rivals
from assay.parts.losses import Margin
from assay.parts.min_distance import budget, check_budget, check_norm, claim, dual_of, length_of, within
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, reject, whole

_BEYOND = 1e-4
"""Added to each estimated distance, in input units, so that a step does not end on the boundary (official code)."""
_AT_ONCE = 3
"""Boundaries looked at in one step; most rows need no more."""
_SLACK = 1.5
"""How much longer than the longest gradient seen so far one is taken to be that has not been looked at."""


class DeepFoolState(NamedTuple):
    """Where each row is, and the nearest boundary among those it has looked at from there."""

    image: Images
    logits: Logits
    place: Count
    """How many classes have been looked at, the closest in logits first."""
    away: PerRow
    """Distance of the nearest boundary so far."""
    unit: Images
    """Step of length 1 towards it."""
    longest: PerRow
    """Longest gradient so far."""
    step: Count


@with_hints
@dataclass(frozen=True)
class DeepFool:
    """Step by step to the nearest boundary of the linearised classifier, until the class changes.

    An attack that minimises a distance: it ends with the first adversarial image, which is close to the nearest.

    Args:
        steps: the most steps, at least 0.
        norm: ``"l2"`` or ``"linf"``.
        overshoot: how far each step goes beyond the estimated boundary, as a share of it.
        classes: how many of the most likely wrong classes are looked at; None for all.
        eps: images further away than this do not count; None for no limit.

    Example:
        >>> DeepFool().describe()
        'DeepFool-50 l2'

    Source: Moosavi-Dezfooli, Fawzi & Frossard, "DeepFool: a simple and accurate method to fool deep neural networks",
    CVPR 2016, algorithms 1 and 2, section 4.1 for linf; official code github.com/LTS4/DeepFool for the constants.
    Deviations: steps are taken from the clipped image; each step overshoots, rather than their sum; where the rows
    have a target, the boundary to it is the only one. Gradients are taken for three classes at a time, the closest in
    logits first, and no further than to where a class would need a gradient 1.5 times as long as the longest so far to
    have the nearest boundary.
    """

    steps: int = 50
    norm: str = "l2"
    overshoot: float = 0.02
    classes: int | None = None
    eps: float | None = None

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        check_norm(self.norm, ("l2", "linf"))
        number("overshoot", self.overshoot, least=0)
        if self.classes is not None:
            whole("classes", self.classes, least=1)
        check_budget(self, self.norm)

    @property
    def geometry(self) -> Geometry | None:
        """The limit on the distance, if there is one."""
        return budget(self.norm, self.eps)

    @property
    def needs(self) -> tuple[str, ...]:
        """The clean logits, to know which classes there are."""
        return ("reference",)

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        return Traits("gradient", self.steps, price=2, minimises=self.norm, objective=Margin())

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "DeepFool | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(self, effort, step_size, geometry, objective, norm=self.norm)

    def init(self, rows: Rows, rng: Rng) -> DeepFoolState:
        """At the clean image."""
        if rows.reference is None:
            reject("rows.reference", "the logits of the clean images", None)
        count = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        return _arrived(rows.x, rows.reference.to(rows.x), count)

    def step(self, rows: Rows, state: DeepFoolState, oracle: Oracle, rng: Rng) -> Step[DeepFoolState]:
        """Look at the next boundaries; where no other can be nearer, move and see whether the class has changed."""
        if self.steps:
            state, closed = self._look(rows, state, oracle)
        else:
            closed = state.place == 0
        length = (1 + self.overshoot) * (state.away + _BEYOND) if self.steps else torch.zeros_like(state.longest)
        step = expand_rows(torch.where(closed, length, 0.0), state.unit) * state.unit
        image = (state.image + step).clamp(0, 1)
        logits = oracle.logits(image, rows)
        at = claim(rows, image, logits, self.norm, self.geometry)
        moves = state.step + closed
        state = choose(closed, _arrived(image, logits, moves), state)
        return Step(state, image, at.hit & closed, at.cost, closed & (at.reached | (moves >= self.steps)))

    def describe(self) -> str:
        """Name, steps and norm."""
        return f"DeepFool-{self.steps} {within(self.norm, self.eps)}"

    def _look(self, rows: Rows, state: DeepFoolState, oracle: Oracle) -> tuple[DeepFoolState, Flag]:
        """Linearise the next few boundaries; say which rows need look no further."""
        ranking, count = ranked_rivals(rows, state.logits, self.classes)
        width = min(_AT_ONCE, ranking.shape[1])
        at = state.place[:, None] + torch.arange(width, device=ranking.device)
        classes = ranking.gather(1, at.clamp_max(ranking.shape[1] - 1))
        logits, grads = oracle.jacobian(state.image, classes, rows, against=rows.goal.label)
        gaps = (logits.gather(1, classes) - logits.gather(1, rows.goal.label[:, None])).abs()
        lengths = length_of(grads.flatten(0, 1), dual_of(self.norm)).view_as(gaps).clamp_min(1e-6)
        away, best = torch.where(at < count[:, None], gaps / lengths, torch.inf).min(1)
        grad = grads[torch.arange(len(best), device=best.device), best]
        unit = (
            grad.sign()
            if self.norm == "linf"
            else grad / expand_rows(lengths.gather(1, best[:, None]).squeeze(1), grad)
        )
        nearer = away < state.away
        place = state.place + width
        state = state._replace(
            place=place,
            away=torch.where(nearer, away, state.away),
            unit=torch.where(expand_rows(nearer, unit), unit, state.unit),
            longest=torch.maximum(state.longest, torch.where(at < count[:, None], lengths, 0.0).amax(1)),
        )
        following = ranking.gather(1, place.clamp_max(ranking.shape[1] - 1)[:, None])
        behind = (logits.gather(1, following) - logits.gather(1, rows.goal.label[:, None])).abs().squeeze(1)
        return state, (place >= count) | (behind > _SLACK * state.longest * state.away)


def _arrived(image: Images, logits: Logits, step: Count) -> DeepFoolState:
    """At an image from which no boundary has been looked at."""
    nothing = torch.zeros_like(logits[:, 0])
    return DeepFoolState(
        image,
        logits,
        torch.zeros_like(step),
        torch.full_like(nothing, torch.inf),
        torch.zeros_like(image),
        nothing,
        step,
    )
