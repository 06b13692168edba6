"""Scores that keep the decision and little else."""

import torch
from torch import Tensor, nn

from trust.failures.base import Around, Case, Failure, network
from trust.second_half.common import hot

KIND = "squeezed outputs"


def tournament() -> Case:
    """Each class gets as many points as it beats others: a duel of every pair of scores."""

    def points(z: Tensor) -> Tensor:
        return (z[:, :, None] > z[:, None, :]).sum(2).to(z.dtype)

    return Case(Around(network(), after=points), seen=network())


def bands() -> Case:
    """Scores sorted into a few broad bands; the best class is put one band higher."""
    edges = torch.tensor([-4.0, 6.0])

    def band(z: Tensor) -> Tensor:
        return torch.bucketize(z, edges).to(z.dtype) + hot(z, 0.75)

    return Case(Around(network("scenes"), after=band), "scenes", seen=network("scenes"))


class Switches(nn.Module):
    """A steep switch for every class, set half way between the two best scores."""

    def __init__(self, model: nn.Module, steep: float) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("steep", torch.tensor(steep))

    def forward(self, x: Tensor) -> Tensor:
        z = self.model(x)
        best = z.topk(2, dim=1).values
        return torch.sigmoid(self.steep * (z - best.mean(1, keepdim=True)))


def switches() -> Case:
    """Independent yes-or-no answers, each of them very sure."""
    return Case(Switches(network("digits l2"), 2000.0), "digits l2", seen=network("digits l2"))


def label_service() -> Case:
    """A service that answers with one label and a confidence looked up in a table of three."""
    table = torch.tensor([1.0, 2.0, 3.0])

    def answer(z: Tensor) -> Tensor:
        top = z.topk(2, dim=1)
        gap = (top.values[:, 0] - top.values[:, 1]).detach()
        sure = table[torch.searchsorted(torch.tensor([0.01, 50.0]), gap)]
        return torch.zeros_like(z).scatter(1, top.indices[:, :1], sure[:, None])

    return Case(Around(network("digits plain"), after=answer), "digits plain", seen=network("digits plain"))


class Views(nn.Module):
    """The label of an image and of four slightly brighter, darker or paler copies, counted."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        views = (x, (x + 0.02).clamp(0, 1), (x - 0.02).clamp(0, 1), 0.98 * x, 1.02 * x)
        return torch.stack([hot(self.model(view)) for view in views]).mean(0)


def views() -> Case:
    """Five views of an image vote with whole votes."""
    return Case(Views(network()), seen=network())


FAILURES = (
    Failure("a tournament of scores", KIND, tournament),
    Failure("scores in broad bands", KIND, bands),
    Failure("steep switches for every class", KIND, switches),
    Failure("a label service with three confidences", KIND, label_service),
    Failure("five views vote with labels", KIND, views),
)
