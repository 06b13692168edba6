"""The universal perturbation of Moosavi-Dezfooli et al., from DeepFool's steps."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from assay.attacks.deepfool import DeepFool
from assay.attacks.universal_perturbations.perturbation import Batch, Tally, project, rows_of
from assay.core.model_calls import Classifier
from assay.core.rows import Rows, untargeted
from assay.engine.api import perturb
from assay.parts.balls import Ball
from assay.util.hints import with_hints
from assay.util.parse import format_budget
from assay.util.validate import one_of, radius, whole


@with_hints
@dataclass(frozen=True)
class UniversalDeepFool:
    """For each image that is not fooled yet, the smallest further step that fools it, then back into the ball.

    Args:
        eps: radius in input units.
        norm: ``"linf"`` or ``"l2"``.
        updates: number of batches to go through.
        steps: steps of DeepFool.
        together: images whose steps are averaged into one; 1 goes image by image, as the paper does.
        inner: norm in which a further step is smallest; None for that of the ball. The paper takes l2 for any ball.

    Example:
        >>> UniversalDeepFool(10/255).describe()
        'universal DeepFool-20 linf 10/255'

    Source: Moosavi-Dezfooli, Fawzi, Fawzi & Frossard, "Universal adversarial perturbations", CVPR 2017, algorithm 1.
    Deviations: the curve takes the place of the paper's stopping rule (a desired fooling rate); steps are smallest in
    the norm of the ball unless ``inner="l2"``, as steps that are small in l2 leave an linf ball and are cut.
    """

    eps: float
    norm: str = "linf"
    updates: int = 20
    steps: int = 10
    together: int = 1
    inner: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", radius("eps", self.eps))
        one_of("norm", self.norm, ("linf", "l2"))
        if self.inner is not None:
            one_of("inner", self.inner, ("linf", "l2"))
        for name in ("updates", "steps"):
            whole(name, getattr(self, name))
        whole("together", self.together, least=1)

    @property
    def geometry(self) -> Ball:
        """The ball."""
        return Ball(self.norm, self.eps)

    def update(self, model: Classifier, delta: Tensor, batches: Iterator[Batch], seed: int) -> tuple[Tensor, Tally]:
        """One batch, a few images at a time."""
        oracle, rows = rows_of(model, next(batches), None)
        fooled = right = 0
        for at in torch.arange(len(rows), device=rows.x.device).split(self.together):
            x, y = rows.x[at], rows.y[at]
            part = Rows(x, untargeted(y), rows.key[at])
            oracle.start(len(x))
            clean = oracle.logits(x, part).argmax(1)
            image = (x + delta).clamp(0, 1)
            now = oracle.logits(image, part).argmax(1)
            right += int((now == y).sum())
            fooled += int((now != clean).sum())
            still = (now == clean).nonzero().squeeze(1)
            if len(still):
                attack = DeepFool(steps=self.steps, norm=self.inner or self.norm)
                moved = perturb(model, image[still], clean[still], attack, seed=seed)
                delta = project(delta + (moved - image[still]).mean(0, keepdim=True), self.geometry)
        return delta, Tally(fooled, right, len(rows))

    def describe(self) -> str:
        """Name, updates and budget."""
        return f"universal DeepFool-{self.updates} {self.norm} {format_budget(self.eps)}"
