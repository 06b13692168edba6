"""Backward passes that are wrong, all over or in part."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.models import build
from trust.failures.base import Around, Case, Failure, network
from trust.held_out.parts import GRADIENT, bend, fit, fresh, lead, training

KIND = "wrong gradients"


def _with_activation(net: nn.Module, make: Callable[[int], nn.Module]) -> nn.Module:
    """A copy of a network whose i-th activation is another."""
    copy = deepcopy(net)
    count = 0
    for part in list(copy.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.ReLU):
                setattr(part, name, make(count))
                count += 1
    return copy


def transposed() -> Case:
    """A layer of one's own whose backward pass mixes up rows and columns."""
    net = network("digits l2")
    before = Around(net, before=lambda x: bend(x, lambda g: g.transpose(2, 3).contiguous()))
    return Case(before, "digits l2", seen=net)


class OddChannels(nn.Module):
    """ReLU whose gradient has the wrong sign in every other channel."""

    def forward(self, x: Tensor) -> Tensor:
        sign = torch.ones(1, x.shape[1], 1, 1)
        sign[:, 1::2] = -1
        return bend(x.relu(), lambda g: g * sign)


def odd_channels() -> Case:
    """The second activation has a wrong sign in every other channel."""
    net = network("scenes")
    model = _with_activation(net, lambda i: OddChannels() if i == 1 else nn.ReLU())
    return Case(model, "scenes", attacks=(*GRADIENT, "fab:steps=20"), seen=net)


def shattered() -> Case:
    """A fine ripple on the pixels: slight in value, steep in slope."""
    net = network("digits l2")
    return Case(Around(net, before=lambda x: x + 1e-3 * (5e3 * x).sin()), "digits l2", seen=net)


def turns_back() -> Case:
    """Close to the boundary the gradient points back."""

    def after(z: Tensor) -> Tensor:
        sign = torch.where(lead(z.detach()) < 2, -1.0, 1.0)[:, None]
        return bend(z, lambda g: g * sign)

    net = network("scenes plain")
    return Case(Around(net, after=after), "scenes plain", attacks=("apgd:steps=50", "pgd:steps=40"), seen=net)


class Thermometer(nn.Module):
    """Pixels as columns of levels that are on or off; soft for who knows how to attack it."""

    def __init__(self, body: nn.Module, *, soft: bool) -> None:
        super().__init__()
        self.body, self.soft = body, soft
        self.register_buffer("levels", (torch.arange(10.0) / 10 + 0.05).view(1, 1, 10, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        above = x[:, :, None] - self.levels
        code = (above / 0.2 + 0.5).clamp(0, 1) if self.soft else (above > 0).to(x)
        return self.body(code.flatten(1, 2))


def thermometer() -> Case:
    """Thermometer encoding, attacked by gradients that it does not have."""
    x, y = training("digits")
    body = fresh(lambda: build("tiny-cnn", channels=10, classes=10, size=8))
    model = Thermometer(body, soft=False)
    fit(model, lambda at: F.cross_entropy(model(x[at]), y[at]), len(x), epochs=4)
    return Case(model, "digits", attacks=GRADIENT, seen=Thermometer(body, soft=True), eps=0.12)


class Winners(nn.Module):
    """Of all units the largest few; with some slope for the others where ``leak`` is above 0."""

    def __init__(self, share: float, leak: float = 0.0) -> None:
        super().__init__()
        self.share, self.leak = share, leak

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        least = flat.topk(int(self.share * flat.shape[1]), 1).values[:, -1:]
        kept = torch.where(flat >= least, flat, flat * 0)
        kept = kept + self.leak * (flat - flat.detach()) * (flat < least)
        return kept.view_as(x)


def winners() -> Case:
    """k winners take all, trained so."""
    x, y = training("digits plain")
    net = fresh(lambda: build("tiny-cnn", channels=1, classes=10, size=8))
    model = _with_activation(net, lambda i: Winners(0.06))
    fit(model, lambda at: F.cross_entropy(model(x[at]), y[at]), len(x), epochs=6)
    smooth = deepcopy(model)
    for part in smooth.modules():
        if isinstance(part, Winners):
            part.leak = 0.3
    return Case(model, "digits plain", attacks=("pgd:steps=10", "apgd:steps=20"), seen=smooth)


class FewLevels(nn.Module):
    """Activations of a few levels; the straight-through gradient has a window, which may be too narrow."""

    def __init__(self, window: float) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        passed = x.relu()
        passed = torch.where(passed < self.window, passed, passed.detach())
        return passed + ((2 * x.relu()).round() / 2 - passed).detach()


def few_levels() -> Case:
    """Quantised activations; what is beyond the window has no gradient."""
    net = network("digits l2")
    model = _with_activation(net, lambda i: FewLevels(0.1))
    return Case(model, "digits l2", seen=_with_activation(net, lambda i: FewLevels(1e9)))


def strongest_only() -> Case:
    """To save traffic, only the largest gradients of each image are passed on."""

    def rule(grad: Tensor) -> Tensor:
        flat = grad.abs().flatten(1)
        least = flat.topk(max(1, flat.shape[1] // 8), 1).values[:, -1]
        return grad * (grad.abs() >= least[:, None, None, None])

    net = network("scenes plain")
    model = Around(net, before=lambda x: bend(x, rule))
    return Case(model, "scenes plain", attacks=("pgd:steps=10", "apgd:steps=20"), seen=net)


def some_classes() -> Case:
    """An expert for three of the classes is called without a gradient."""

    def after(z: Tensor) -> Tensor:
        called = (z.argmax(1) < 3)[:, None]
        return torch.where(called, z.detach(), z)

    net = network("digits")
    return Case(Around(net, after=after), "digits", attacks=GRADIENT, seen=net)


def border_alone() -> Case:
    """Only the outermost pixels have a gradient: the rest is cropped by a call that has none."""

    def before(x: Tensor) -> Tensor:
        inner = torch.zeros_like(x)
        inner[:, :, 2:-2, 2:-2] = 1
        return torch.where(inner > 0, x.detach(), x)

    net = network("scenes plain")
    return Case(Around(net, before=before), "scenes plain", attacks=(*GRADIENT, "fab:steps=20"), seen=net)


FAILURES = (
    Failure("rows and columns mixed up", KIND, transposed),
    Failure("wrong sign in odd channels", KIND, odd_channels),
    Failure("ripple", KIND, shattered),
    Failure("gradient turns back near the boundary", KIND, turns_back),
    Failure("thermometer encoding", KIND, thermometer),
    Failure("winners take all", KIND, winners),
    Failure("window too narrow", KIND, few_levels),
    Failure("the strongest gradients alone", KIND, strongest_only),
    Failure("no gradient for some classes", KIND, some_classes),
    Failure("gradient at the border alone", KIND, border_alone),
)
