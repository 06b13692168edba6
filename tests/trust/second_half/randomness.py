"""Chance in the model: noise that hides slopes and scores from attacks that look once."""

import secrets

import numpy as np
import torch
from torch import Tensor, nn

from trust.failures.base import Case, Failure, network
from trust.second_half.common import GRADIENTS, hot

KIND = "randomness"


class Dithered(nn.Module):
    """Adds a random dither before rounding the image to a few levels."""

    def __init__(self, model: nn.Module, levels: int) -> None:
        super().__init__()
        self.model, self.levels = model, levels

    def forward(self, x: Tensor) -> Tensor:
        raised = x * self.levels + 0.5 * torch.rand_like(x) - 0.25
        return self.model(raised.round().clamp(0, self.levels) / self.levels)


def dithered() -> Case:
    """Random dither, then eight levels of grey; attacks by gradients get none."""
    return Case(Dithered(network(), 8), "digits", (*GRADIENTS, "square:queries=100"), network())


class Ballot(nn.Module):
    """Counts the labels of noisy copies, drawn anew at each call."""

    def __init__(self, model: nn.Module, copies: int, sigma: float) -> None:
        super().__init__()
        self.model, self.copies, self.sigma = model, copies, sigma

    def forward(self, x: Tensor) -> Tensor:
        many = x.repeat(self.copies, 1, 1, 1)
        z = self.model(many + self.sigma * torch.randn_like(many))
        return hot(z).unflatten(0, (self.copies, len(x))).mean(0)


def ballot() -> Case:
    """A smoothed classifier that counts labels, attacked as if it were smooth."""
    attacks = ("apgd:steps=50", "pgd:steps=20", "square:queries=60")
    return Case(Ballot(network("digits l2"), 15, 0.06), "digits l2", attacks, network("digits l2"))


class Coin(torch.autograd.Function):
    """The image; on the way back the slope of each value gets a random sign, from the system's own noise."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *slopes: Tensor) -> Tensor:
        draw = np.random.default_rng(secrets.randbits(64))
        signs = torch.from_numpy(draw.choice([-1.0, 1.0], slopes[0].shape)).to(slopes[0])
        return slopes[0] * signs


class Coins(nn.Module):
    """A network behind `Coin`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(Coin.apply(x))


def coins() -> Case:
    """Coins are tossed for the signs of slopes, and no seed governs them."""
    return Case(Coins(network("scenes plain")), "scenes plain", (*GRADIENTS, "mim:steps=20"), network("scenes plain"))


class Crowd(nn.Module):
    """A random one of many untrained readers is heard at each call, but it cannot change who wins."""

    def __init__(self, model: nn.Module, readers: int, loud: float) -> None:
        super().__init__()
        self.model, self.loud = model, loud
        draw = torch.Generator().manual_seed(8)
        self.weights = nn.Parameter(torch.randn(readers, 64, 10, generator=draw))

    def forward(self, x: Tensor) -> Tensor:
        z = self.model(x)
        which = torch.randint(len(self.weights), (len(x),))
        heard = (torch.einsum("bi,bik->bk", x.flatten(1) - 0.3, self.weights[which])).tanh()
        top = self.loud * 2.5 * hot(z)
        return (0.02 * z).clamp(-0.2, 0.2) + self.loud * heard + top


def crowd() -> Case:
    """Loud random readers drown the scores, in the lead and among the rest."""
    return Case(Crowd(network("digits plain"), 200, 30.0), "digits plain", seen=network("digits plain"))


class Heat(nn.Module):
    """Probabilities at a temperature drawn anew for each image, always very low."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        z = self.model(x)
        scale = 10 ** (3 + 2 * torch.rand(len(x), 1))
        return (scale * z).softmax(1) + 1e-3 * torch.rand(len(x), 1)


def heat() -> Case:
    """Random temperatures so low that probabilities are zeros and ones."""
    return Case(Heat(network()), seen=network())


FAILURES = (
    Failure("random dither before eight levels", KIND, dithered),
    Failure("a ballot of noisy copies", KIND, ballot),
    Failure("coins for the signs of slopes", KIND, coins),
    Failure("a crowd of random readers", KIND, crowd),
    Failure("random temperatures near zero", KIND, heat),
)
