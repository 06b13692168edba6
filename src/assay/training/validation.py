"""Accuracy on images held out, clean and attacked, after each epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from assay.attacks.pgd import PGD
from assay.core.model_calls import classify
from assay.core.model_state import preserve_state
from assay.data.dataset import Dataset
from assay.engine.api import perturb
from assay.training.recipe import Recipe
from assay.training.records import Epoch

LARGEST = 1000
"""Most images that are measured after an epoch."""


@dataclass(frozen=True)
class HeldOut:
    """What is held out of training.

    Attributes:
        data: the images; at most `LARGEST`.
        eps: budget of PGD-10; None for clean accuracy alone.
        norm: of the budget.
    """

    data: Dataset
    eps: float | None
    norm: str

    def measure(self, model: nn.Module, device: torch.device) -> tuple[float, float | None]:
        """Accuracy on clean and on attacked images (an upper bound: PGD-10 is a fast attack, not a strong one)."""
        clean = robust = 0
        for at in torch.arange(len(self.data)).split(256):
            x, y = self.data.images(at).to(device), self.data.y[at].to(device)
            with preserve_state(model), torch.no_grad():
                clean += int((classify(model, x).argmax(1) == y).sum())
            if self.eps is not None:
                moved = perturb(model, x, y, PGD(self.eps, norm=self.norm, steps=10), keep="best", seed=0, ids=at)
                with preserve_state(model), torch.no_grad():
                    robust += int((classify(model, moved).argmax(1) == y).sum())
        count = max(len(self.data), 1)
        return clean / count, None if self.eps is None else robust / count


def hold_out(data: Dataset, recipe: Recipe) -> tuple[Dataset, HeldOut | None]:
    """The images to train on, and those to measure (none without ``validate``)."""
    if not recipe.validate:
        return data, None
    rest, held = data.split(1 - recipe.validate, seed=recipe.seed)
    return rest, HeldOut(held.head(LARGEST), recipe.eps, recipe.norm)


def score(epoch: Epoch) -> float:
    """The score of early stopping: robust accuracy, or clean where there is no budget."""
    accuracy = epoch.clean if epoch.robust is None else epoch.robust
    return -1.0 if accuracy is None else accuracy


def best_epoch(history: Sequence[Epoch]) -> int:
    """The number of the best epoch, the first of equals; 0 for none."""
    return max(history, key=score).epoch if history else 0


def collapse(history: Sequence[Epoch], now: Epoch) -> str:
    """A sentence where robust accuracy fell by half although the training loss went on falling; else nothing."""
    before = [e.robust for e in history if e.robust is not None]
    if now.robust is None or not before or max(before) < 0.1:
        return ""
    if now.robust < 0.5 * max(before) and now.accuracy >= history[-1].accuracy:
        return (
            f"catastrophic overfitting: {100 * now.robust:.1f} % are right under PGD-10, after "
            f"{100 * max(before):.1f} %, while training accuracy rose to {100 * now.accuracy:.1f} %"
        )
    return ""
