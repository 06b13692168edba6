"""Fast adaptive boundary attack."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from assay.attacks.hyperplane import reach
from assay.core.attack import Step
from assay.core.combinators import Restarts, Targets
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.tree import expand_rows
from assay.core.types import Count, Images, PerRow
from assay.parts.balls import Ball
from assay.parts.class_gaps import differences
from assay.parts.losses import Margin
from assay.parts.min_distance import budget, check_budget, check_norm, claim, dual_of, hair, length_of, within
from assay.parts.variants import with_variants
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, whole

_START = {"linf": 0.3, "l2": 1.0, "l1": 5.0}


class FABState(NamedTuple):
    """Where each row is, the smallest distance of an adversarial image so far, and its steps (on the CPU)."""

    image: Images
    least: PerRow
    step: Count


@dataclass(frozen=True)
class FastAdaptiveBoundary:
    """Projections on the linearised boundary inside the box, pulled towards the clean image. See `FAB`.

    Args:
        steps: steps of two passes forward and one backward for each boundary looked at.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        alpha: largest weight of the projection of the clean image (α_max).
        eta: how far beyond the boundary a step goes (η).
        beta: how far towards the clean image an adversarial image goes back (β).
        classes: how many of the most likely wrong classes are looked at; None for all.
        eps: images further away than this do not count; None for no limit.
    """

    steps: int = 100
    norm: str = "linf"
    alpha: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    classes: int | None = None
    eps: float | None = None

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        check_norm(self.norm, ("linf", "l2", "l1"))
        number("alpha", self.alpha, least=0, most=1)
        number("eta", self.eta, least=0, above=True)
        number("beta", self.beta, least=0, most=1)
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
        return Traits("gradient", self.steps, price=2, minimises=self.norm, randomised=True, objective=Margin())

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "FastAdaptiveBoundary | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(self, effort, step_size, geometry, objective, norm=self.norm)

    def init(self, rows: Rows, rng: Rng) -> FABState:
        """At the clean image; from the second restart on, at a random one half the limit away."""
        image = rows.x
        if rows.attempt is not None and bool((rows.attempt > 0).any()):
            radius = _START[self.norm] if self.eps is None else min(self.eps, _START[self.norm])
            apart = rows.x + Ball(self.norm, radius / 2).sample(rows, rng, "start", edge=True)
            image = torch.where(expand_rows(rows.attempt > 0, image), apart, image)
        least = torch.full((len(rows),), torch.inf, dtype=rows.x.dtype, device=rows.x.device)
        return FABState(image, least, torch.zeros(len(rows), dtype=torch.int64))

    def step(self, rows: Rows, state: FABState, oracle: Oracle, rng: Rng) -> Step[FABState]:
        """Project on the nearest linearised boundary, look, and go back a little from an adversarial image."""
        image = state.image
        if self.steps:
            gaps, grads = differences(rows, image, oracle, self.classes)
            image = self._towards(rows, image, *nearest(gaps, grads, self.norm))
        logits = oracle.logits(image, rows)
        at = claim(rows, image, logits, self.norm, self.geometry)
        back = rows.x + self.beta * (image - rows.x)
        after = torch.where(expand_rows(at.reached, image), back, image)
        least = torch.where(at.reached, torch.minimum(state.least, at.length), state.least)
        state = FABState(after, least, state.step + 1)
        return Step(state, image, at.hit, at.cost, state.step >= self.steps)

    def describe(self) -> str:
        """Name, steps and norm."""
        return f"FAB-{self.steps} {within(self.norm, self.eps)}"

    def _towards(self, rows: Rows, image: Images, gap: PerRow, grad: Images) -> Images:
        """The step of algorithm 1, line 9."""
        normal, clean, here = grad.flatten(1), rows.x.flatten(1), image.flatten(1)
        along = (normal * (here - clean)).sum(1, keepdim=True)
        push = torch.where(gap <= 0, hair(image, self.norm) * length_of(grad, dual_of(self.norm)), 0.0)
        missing = (push - gap)[:, None]
        both = reach(
            self.norm,
            torch.cat([normal, normal]),
            torch.cat([1 - here, 1 - clean]),
            torch.cat([here, clean]),
            torch.cat([missing, missing + along]),
        )
        step, whole_step = both.chunk(2)
        short, long = length_of(step, self.norm), length_of(whole_step, self.norm)
        weight = (short / (short + long).clamp_min(1e-30)).clamp_max(self.alpha)[:, None]
        moved = (1 - weight) * (here + self.eta * step) + weight * (clean + self.eta * whole_step)
        return moved.clamp(0, 1).view_as(image)


def nearest(gaps: Tensor, grads: Tensor, norm: str) -> tuple[PerRow, Images]:
    """The boundary that is nearest in the linearisation: its difference of logits and the gradient of that."""
    lengths = length_of(grads.flatten(0, 1), dual_of(norm)).view_as(gaps).clamp_min(1e-12)
    away = torch.where(gaps.isfinite(), gaps.abs() / lengths, torch.inf).argmin(1, keepdim=True)
    index = away[:, :, None, None, None].expand(-1, 1, *grads.shape[2:])
    return gaps.gather(1, away).squeeze(1), grads.gather(1, index).squeeze(1)


@with_hints
def FAB(
    eps: float | None = None,
    *,
    norm: str = "linf",
    steps: int = 100,
    restarts: int = 1,
    targets: int = 0,
    alpha: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
    classes: int | None = None,
) -> FastAdaptiveBoundary | Restarts | Targets:
    """The nearest boundary by projections on its linearisation, each biased towards the clean image.

    Args:
        eps: images further away than this do not count, and the first one inside ends the sample; None for no limit.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        steps: steps a restart.
        restarts: number of starts; the first is the clean image, the others are random.
        targets: look at the boundary to one of this many most likely wrong classes at a time (FAB-T, much cheaper with
            many classes); 0 for the nearest of all.
        alpha: largest weight of the projection of the clean image (α_max).
        eta: how far beyond the boundary a step goes (η).
        beta: how far towards the clean image an adversarial image goes back (β).
        classes: how many of the most likely wrong classes are looked at; None for all.

    Returns:
        An attack of two passes forward and, for each boundary looked at, one backward a step.

    Example:
        >>> FAB(8/255, targets=9).describe()
        'FAB-100 linf 8/255 →9 targets'

    Source: Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020,
    algorithm 1; official code github.com/fra31/fab-attack for the constants. Deviations: the projection on hyperplane
    and box is solved by Newton's method (exactly, see `attacks.hyperplane`); a step towards the boundary goes beyond
    it by the last digit of the pixels, too, since a share of next to nothing moves none; no final search, since every
    step looks at where it is.
    """
    attack = FastAdaptiveBoundary(steps, norm, alpha, eta, beta, classes, eps)
    return with_variants(attack, restarts, targets)
