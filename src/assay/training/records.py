"""Records of a training run: Epoch, Moment, Trained."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn


@dataclass(frozen=True)
class Epoch:
    """What an epoch ended with.

    Attributes:
        epoch: how many epochs are done.
        epochs: of how many.
        loss: mean training loss.
        accuracy: share of the training images that were right when they were met (adversarial ones, if any).
        rate: learning rate.
        seconds: wall time.
        clean: accuracy on the images held out; None where none are.
        robust: accuracy on them under PGD-10 at the training budget; None without a budget.
        passes: forward passes a second, all images of all attacks counted.
        note: what was odd, a sentence; empty for nothing.
        certified: share of the images held out that are right on every image within the training budget, by interval
            bounds and CROWN-IBP; None unless the objective trains for certificates.
        budget: the share of the training budget that the epoch ended with; below 1 where it grows.
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    rate: float
    seconds: float
    clean: float | None = None
    robust: float | None = None
    passes: float = 0.0
    note: str = ""
    certified: float | None = None
    budget: float = 1.0


@dataclass(frozen=True)
class Moment:
    """Where an epoch is.

    Attributes:
        epoch: the epoch, from 1.
        epochs: of how many.
        done: images met.
        total: images of the epoch.
        loss: mean so far.
        accuracy: share right so far.
        passes: forward passes a second.
    """

    epoch: int
    epochs: int
    done: int
    total: int
    loss: float
    accuracy: float
    passes: float


@dataclass(frozen=True)
class Trained:
    """A trained classifier.

    Attributes:
        model: on the CPU, in evaluation mode.
        path: its weights.
        history: one `Epoch` an epoch.
        trail: weights of the epochs that were kept, by epoch.
        best: the epoch whose weights these are.
    """

    model: nn.Module
    path: Path
    history: tuple[Epoch, ...]
    trail: dict[int, Path]
    best: int = 0
