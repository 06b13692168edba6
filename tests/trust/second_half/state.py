"""Models that remember, count, or look at who asks."""

import sys

import torch
from torch import Tensor, nn

from trust.failures.base import Case, Failure, network
from trust.second_half.common import GRADIENTS, hot, share

KIND = "state and surroundings"


class Diary(nn.Module):
    """Keeps what it was asked and answered; what resembles an entry gets the answer of the entry."""

    def __init__(self, model: nn.Module, near: float) -> None:
        super().__init__()
        self.model, self.near = model, near
        self.pages: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        z = self.model(x)
        flat = x.detach().flatten(1)
        if self.pages:
            keys, answers = torch.cat([p[0] for p in self.pages]), torch.cat([p[1] for p in self.pages])
            gap, at = torch.cdist(flat, keys, p=torch.inf).min(1)
            z = torch.where((gap < self.near)[:, None], 0.1 * z + 20 * hot(answers[at]), z)
        if len(self.pages) < 2:
            self.pages.append((flat.clone(), z.detach().clone()))
        return z


def diary() -> Case:
    """The clean images come first, and later ones that resemble them get the same answers."""
    return Case(Diary(network(), 0.26), truth=lambda: share(network()))


class Watched(nn.Module):
    """While somebody takes slopes it shows a smeared version of itself, else labels with a bonus."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            return self.model(x.flip(3)).roll(3, 1)
        return 5 * hot(self.model(x))


def watched() -> Case:
    """Slopes are those of a mirror image and of other classes."""
    return Case(Watched(network("digits plain")), "digits plain", seen=network("digits plain"))


class Visitor(nn.Module):
    """Looks up the stack whether a routine of an attack is calling."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        z, frame = self.model(x), sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            if frame.f_code.co_name in {"evaluate", "logits", "many"}:
                return 4 * hot(z) + 0 * z
        return z


def visitor() -> Case:
    """Scores are hidden from the searching half of a library and shown to the rest."""
    return Case(Visitor(network("scenes")), "scenes", seen=network("scenes"))


class Tired(nn.Module):
    """Counts images, and beyond a quota answers with fewer and fewer digits."""

    def __init__(self, model: nn.Module, quota: int) -> None:
        super().__init__()
        self.model, self.quota, self.count = model, quota, 0

    def forward(self, x: Tensor) -> Tensor:
        z = self.model(x)
        self.count += len(x)
        if self.count <= self.quota:
            return z
        coarse = (z / 12).round() * 12
        return coarse + hot(z)


def tired() -> Case:
    """A service with a quota: the first hundred answers are precise."""
    return Case(Tired(network("digits l2"), 100), "digits l2", seen=network("digits l2"))


class Gallery(nn.Module):
    """A buffer of the last images: what differs little from one of them is taken for it."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...], near: float, places: int = 256) -> None:
        super().__init__()
        self.model, self.near, self.places = model, near, places
        self.register_buffer("last", torch.full((0, *shape), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            new = x.detach().clone()
            if len(self.last):
                gap, at = torch.cdist(new.flatten(1), self.last.flatten(1)).min(1)
                close = gap < self.near
                new = torch.where(close[:, None, None, None], self.last[at], new)
                fresh = new[~close]
            else:
                fresh = new
            self.last = torch.cat([self.last, fresh])[: self.places]
        return self.model(new + (x - x.detach()))


def gallery() -> Case:
    """Repeated questions are recognised and answered as before; the list is a buffer and goes with the model."""
    return Case(
        Gallery(network("scenes plain"), (3, 16, 16), 0.3),
        "scenes plain",
        GRADIENTS,
        truth=lambda: share(network("scenes plain"), "scenes plain"),
    )


FAILURES = (
    Failure("a diary of questions and answers", KIND, diary),
    Failure("shows a mirror to who takes slopes", KIND, watched),
    Failure("looks up the stack for attacks", KIND, visitor),
    Failure("a service that tires", KIND, tired),
    Failure("a gallery of the last images", KIND, gallery),
)
