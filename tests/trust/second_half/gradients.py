"""Networks that answer as before and whose gradients are those of something else."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trust.failures.base import Around, Case, Failure, network
from trust.second_half.common import GRADIENTS

KIND = "wrong gradients"
ATTACKS = (*GRADIENTS, "pgd:steps=40")


class Turned(torch.autograd.Function):
    """The image as it is; the slope of the image turned upside down."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return slopes[0].rot90(2, (2, 3))


def turned() -> Case:
    """A layer that was written by hand, with a mistake in its backward pass."""
    return Case(Around(network("scenes plain"), Turned.apply), "scenes plain", ATTACKS, network("scenes plain"))


class Gate(torch.autograd.Function):
    """Rectifies; lets slopes through where it should not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.relu()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return slopes[0] * (x <= 0)


class Gates(nn.Module):
    """`Gate` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return Gate.apply(x)


def gates() -> Case:
    """Every rectifier of the network is a faster one with its condition the wrong way round."""
    model = deepcopy(network("digits plain"))
    for part in list(model.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.ReLU):
                setattr(part, name, Gates())
    return Case(model, "digits plain", ATTACKS, network("digits plain"))


class Borrowed(nn.Module):
    """The answer of one set of weights, the slope of another, both through the same network."""

    def __init__(self, model: nn.Module, seed: int) -> None:
        super().__init__()
        self.model = model
        draw = torch.Generator().manual_seed(seed)
        self.other = {n: torch.randn(p.shape, generator=draw) * p.std() for n, p in model.named_parameters()}

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            answer = self.model(x)
        slope = functional_call(self.model, {n: w.to(x) for n, w in self.other.items()}, (x,))
        return answer + (slope - slope.detach())


def borrowed() -> Case:
    """The gradient comes from freshly drawn weights."""
    return Case(Borrowed(network(), 5), "digits", ATTACKS, network())


class Listening(nn.Module):
    """A network that has its slopes at the second layer 'stabilised' by a hook on the tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.model[1][2].register_forward_hook(self.watch)

    def watch(self, part: nn.Module, into: Any, features: Tensor) -> Tensor:
        if features.requires_grad:
            features.register_hook(lambda slope: slope.roll(1, 1).flip(3))
        return features

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def listening() -> Case:
    """Slopes of the features go to the neighbouring channels on their way back."""
    return Case(Listening(deepcopy(network("digits l2"))), "digits l2", ATTACKS, network("digits l2"))


class Elsewhere(torch.autograd.Function):
    """Saves memory: runs the network again on the way back, on an image that was stored as a few bits."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, model: nn.Module) -> Tensor:
        ctx.save_for_backward((1 - x).round())
        ctx.model = model
        return model(x)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(ctx.model(leaf), leaf, slopes[0])
        return slope, None


def elsewhere() -> Case:
    """The backward pass runs at a coarse negative of the image."""
    return Case(Far(network("digits plain")), "digits plain", ATTACKS, network("digits plain"))


class Far(nn.Module):
    """A network inside `Elsewhere`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return Elsewhere.apply(x, self.model)


FAILURES = (
    Failure("a handwritten layer turns slopes upside down", KIND, turned),
    Failure("rectifiers gate the wrong half", KIND, gates),
    Failure("slopes of freshly drawn weights", KIND, borrowed),
    Failure("a hook rolls slopes to other channels", KIND, listening),
    Failure("recomputed at a coarse negative", KIND, elsewhere),
)
