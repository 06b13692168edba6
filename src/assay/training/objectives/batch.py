"""Batch, TrainingObjective and Update: the interface of training objectives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from assay.core.combinators import AnyAttack, unfold
from assay.core.model_calls import classify, gradients
from assay.core.rng import Rng
from assay.core.types import Images, Labels, Mask
from assay.engine.api import perturb


@dataclass(frozen=True)
class Batch:
    """Images of one training step.

    Attributes:
        x: images in [0, 1], ``(b, c, h, w)``.
        y: labels, ``(b,)``.
        index: which samples of the data set they are, ``(b,)``: the address of their random draws.
        seed: of this step.
        mask: foreground, ``(b, 1, h, w)``, where the data have one.
        carry: what an objective keeps from step to step of one epoch (empty at its start).
        done: the share of the training that is over, from 0 to 1.
    """

    x: Images
    y: Labels
    index: Labels
    seed: int
    mask: Mask | None = None
    carry: dict[str, Any] = field(default_factory=dict)
    done: float = 1.0

    def normal(self, purpose: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """Standard normal numbers, one set a sample, whatever the batch."""
        keys = self.index.cpu()
        return Rng(self.seed).normal(keys, shape or tuple(self.x.shape[1:]), purpose).to(self.x)

    def uniform(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Uniform numbers in [0, 1), one set a sample, whatever the batch."""
        return Rng(self.seed).uniform(self.index.cpu(), shape, purpose).to(self.x)


@runtime_checkable
class TrainingObjective(Protocol):
    """Maps a batch to a loss; a frozen dataclass."""

    @property
    def needs(self) -> tuple[str, ...]:
        """``"mask"`` where it reads foreground masks."""
        ...

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean loss of the batch, with a graph to the parameters."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """An objective that trains networks to be certified."""

    @property
    def certifiers(self) -> str:
        """What certifies the images held out after each epoch, such as ``"ibp"``."""
        ...

    def share(self, done: float) -> float:
        """The share of the budget, from 0 to 1, when a share of the training is over."""
        ...


class Update(NamedTuple):
    """One step of the optimiser.

    Attributes:
        loss: with a graph to the parameters.
        undo: called after the backward pass and before the optimiser moves, where weights had been moved.
    """

    loss: Tensor
    undo: Callable[[], None] | None = None


@runtime_checkable
class Stepwise(Protocol):
    """An objective that takes several steps a batch, or moves weights for a while."""

    def updates(self, model: nn.Module, batch: Batch) -> Iterator[Update]:
        """The steps; each is taken before the next is asked for."""
        ...


def updates(objective: TrainingObjective, model: nn.Module, batch: Batch) -> Iterator[Update]:
    """The steps of a batch: one, unless the objective says otherwise."""
    if isinstance(objective, Stepwise):
        yield from objective.updates(model, batch)
    else:
        yield Update(objective(model, batch))


def attacked(
    model: nn.Module, batch: Batch, attack: AnyAttack, *, y: Labels | None = None, target: Labels | None = None
) -> Images:
    """Adversarial images of a batch against the model as it is now, in evaluation mode.

    Args:
        model: the classifier.
        batch: the batch.
        attack: the inner maximiser.
        y: other labels than the batch's.
        target: classes to reach.
    """
    mask = batch.mask if "mask" in needs_of(attack) else None
    labels = batch.y if y is None else y
    return perturb(model, batch.x, labels, attack, mask=mask, target=target, seed=batch.seed, ids=batch.index)


def needs_of(attack: AnyAttack) -> tuple[str, ...]:
    """``("mask",)`` if an attack reads foreground masks."""
    return ("mask",) if any("mask" in stage.attack.needs for stage in unfold(attack)) else ()


def input_gradient(model: nn.Module, x: Images, y: Labels, *, graph: bool = True) -> tuple[Tensor, Images]:
    """Cross-entropy of each row and its gradient by the image.

    Args:
        model: the classifier.
        x: images.
        y: labels.
        graph: whether the gradient can be differentiated again.

    Returns:
        Losses ``(b,)`` and gradients of the shape of ``x``.
    """

    def forward(leaf: Images) -> tuple[list[Tensor], Tensor]:
        loss = nn.functional.cross_entropy(classify(model, leaf), y, reduction="none")
        return [loss.sum()], loss

    (grad,), loss = gradients(forward, x, graph=graph)
    return loss, grad
