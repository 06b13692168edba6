"""Free adversarial training: one backward pass moves the weights and the perturbation."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.model_calls import classify
from assay.core.rows import Rows, untargeted
from assay.parts.balls import Ball
from assay.training.objectives.batch import Batch, Update
from assay.util.validate import number, one_of, whole


@dataclass(frozen=True)
class Free:
    """Each batch is met ``replays`` times; every time one pass gives the gradient by the weights and by the image.

    Args:
        eps: budget in input units.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        replays: steps a batch (m); divide the epochs by it for the cost of clean training.

    Source: Shafahi et al., "Adversarial training for free!", NeurIPS 2019, algorithm 1. As there, the perturbation
    of a batch starts where that of the batch before ended; deviation: it starts at 0 in each epoch, so that a run
    resumes to the same weights.
    """

    eps: float
    norm: str = "linf"
    replays: int = 4

    def __post_init__(self) -> None:
        number("eps", self.eps, least=0)
        one_of("norm", self.norm, ("linf", "l2", "l1"))
        whole("replays", self.replays, least=1)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond images and labels."""
        return ()

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of the first replay."""
        return next(self.updates(model, batch)).loss

    def updates(self, model: nn.Module, batch: Batch) -> Iterator[Update]:
        """One step of the weights a replay; then the perturbation moves by ε along the same gradient."""
        ball = Ball(self.norm, self.eps)
        rows = Rows(batch.x, untargeted(batch.y), batch.index)
        before = batch.carry.get("delta")
        fits = before is not None and before.shape[1:] == batch.x.shape[1:] and len(before) >= len(batch.x)
        delta = before[: len(batch.x)] if before is not None and fits else torch.zeros_like(batch.x)
        for _ in range(self.replays):
            delta = ball.project(delta, rows).detach().requires_grad_()
            yield Update(F.cross_entropy(classify(model, batch.x + delta), batch.y))
            grad = delta.grad
            with torch.no_grad():
                step = torch.zeros_like(delta) if grad is None else ball.steepest(grad, delta.detach(), rows)
                delta = ball.project(delta.detach() + step, rows)
        batch.carry["delta"] = delta.detach()
