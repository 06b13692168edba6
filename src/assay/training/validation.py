"""Accuracy on images held out, clean, attacked and certified, after each epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from assay.attacks.pgd import PGD
from assay.certify.api import certified
from assay.certify.certificates import Decision
from assay.core.model_calls import classify
from assay.core.model_state import preserve_state
from assay.data.dataset import Dataset
from assay.engine.api import perturb
from assay.training.recipe import Recipe
from assay.training.records import Epoch

LARGEST = 1000
"""Most images that are measured after an epoch."""


class Accuracies(NamedTuple):
    """Shares of the images held out; None where they are not measured.

    Attributes:
        clean: right.
        robust: right under PGD-10 (an upper bound: a fast attack, not a strong one).
        certified: right on every image within the budget.
    """

    clean: float
    robust: float | None
    certified: float | None


@dataclass(frozen=True)
class HeldOut:
    """What is held out of training.

    Attributes:
        data: the images; at most `LARGEST`.
        eps: budget of PGD-10; None for clean accuracy alone.
        norm: of the budget.
        certifiers: of the images; empty for none.
    """

    data: Dataset
    eps: float | None
    norm: str
    certifiers: str = ""

    def measure(self, model: nn.Module, device: torch.device) -> Accuracies:
        """Accuracies on clean images, on attacked ones, and from below."""
        clean = robust = sure = 0
        for at in torch.arange(len(self.data)).split(256):
            x, y = self.data.images(at).to(device), self.data.y[at].to(device)
            with preserve_state(model), torch.no_grad():
                clean += int((classify(model, x).argmax(1) == y).sum())
            if self.eps is not None:
                moved = perturb(model, x, y, PGD(self.eps, norm=self.norm, steps=10), keep="best", seed=0, ids=at)
                with preserve_state(model), torch.no_grad():
                    robust += int((classify(model, moved).argmax(1) == y).sum())
                if self.certifiers:
                    sure += certified(model, x, y, self.certifiers, eps=self.eps, norm=self.norm).count(
                        Decision.CERTIFIED
                    )
        count, attacks = max(len(self.data), 1), self.eps is not None
        certifies = attacks and bool(self.certifiers)
        return Accuracies(clean / count, robust / count if attacks else None, sure / count if certifies else None)


def hold_out(data: Dataset, recipe: Recipe, certifiers: str = "") -> tuple[Dataset, HeldOut | None]:
    """The images to train on, and those to measure (none without ``validate``), attacked and certified."""
    if not recipe.validate:
        return data, None
    rest, held = data.split(1 - recipe.validate, seed=recipe.seed)
    return rest, HeldOut(held.head(LARGEST), recipe.eps, recipe.norm, certifiers)


def score(epoch: Epoch) -> float:
    """The score of early stopping: certified accuracy, or robust where none is certified, or clean without a budget."""
    measured = (epoch.certified, epoch.robust, epoch.clean)
    return next((accuracy for accuracy in measured if accuracy is not None), -1.0)


def best_epoch(history: Sequence[Epoch]) -> int:
    """The number of the best epoch, the first of equals; 0 for none. Those at a smaller budget count if all are."""
    full = [epoch for epoch in history if epoch.budget >= 1]
    return max(full or history, key=score).epoch if history else 0


def epochs_waited(history: Sequence[Epoch]) -> int:
    """How many epochs at the whole budget came after the best one."""
    best = best_epoch(history)
    return sum(epoch.epoch > best and epoch.budget >= 1 for epoch in history)


def collapse(history: Sequence[Epoch], now: Epoch) -> str:
    """A sentence where robust accuracy fell by half although the training loss went on falling; else nothing."""
    before = [e.robust for e in history if e.robust is not None]
    if now.robust is None or not before or max(before) < 0.1:
        return ""
    if (now.clean or 0.0) < 0.5 * max(e.clean or 0.0 for e in history):
        return ""  # clean accuracy collapsed with it: the training failed in another way
    if now.robust < 0.5 * max(before) and now.accuracy >= history[-1].accuracy:
        return (
            f"catastrophic overfitting: {100 * now.robust:.1f} % are right under PGD-10, after "
            f"{100 * max(before):.1f} %, while training accuracy rose to {100 * now.accuracy:.1f} %"
        )
    return ""
