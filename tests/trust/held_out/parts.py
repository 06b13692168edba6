"""What several held-out failures are built of."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.plan import plan
from assay.core.outcome import Status
from assay.data import load
from assay.defences import Adaptation
from assay.engine.api import attack
from trust.failures.base import SETTINGS, STRONG, images

GRADIENT = ("apgd:steps=50", "apgd:steps=30,loss=dlr,targets=5")


class Swapped(nn.Module):
    """The answers of one model with the gradient of another."""

    def __init__(self, answers: nn.Module, shown: nn.Module) -> None:
        super().__init__()
        self.answers, self.shown = answers, shown

    def forward(self, x: Tensor) -> Tensor:
        shown = self.shown(x)
        return self.answers(x).detach() + shown - shown.detach()


class Declared(nn.Module):
    """A model that says how it has to be attacked, whatever is true."""

    def __init__(self, model: nn.Module, how: str, **rest) -> None:
        super().__init__()
        self.model, self.how, self.rest = model, how, rest

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def adaptation(self) -> Adaptation:
        return Adaptation(self.how, **self.rest)


class _Bend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, rule):
        ctx.rule = rule
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return ctx.rule(grad), None


def bend(x: Tensor, rule: Callable[[Tensor], Tensor]) -> Tensor:
    """The tensor itself, with a gradient that a rule changes."""
    return _Bend.apply(x, rule)


def straight(x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """A changed tensor with the gradient of the identity."""
    return x + (change(x) - x).detach()


class Shell(nn.Module):
    """A function of images as a module; the modules that it holds are named."""

    def __init__(self, function: Callable[[Tensor], Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def one_hot(z: Tensor) -> Tensor:
    """One at the largest score, nothing elsewhere."""
    return F.one_hot(z.argmax(1), z.shape[1]).to(z)


def lead(z: Tensor) -> Tensor:
    """By how much the first class leads the second."""
    top = z.topk(2, 1).values
    return top[:, 0] - top[:, 1]


def training(setting: str) -> tuple[Tensor, Tensor]:
    """Images and labels that the network of a setting was trained on."""
    data = load(SETTINGS[setting].data, split="train")
    return data.images(), data.y


def fit(
    model: nn.Module, loss: Callable[[Tensor], Tensor], count: int, *, epochs: int, rate: float = 3e-3
) -> nn.Module:
    """Minimise a loss of indices, in batches of 64."""
    rule = torch.optim.Adam(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(count, generator=generator).split(64):
            rule.zero_grad()
            loss(batch).backward()
            rule.step()
    return model.eval().requires_grad_(False)


def fresh(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module whose initial weights are those of a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def left_by(what: list, model, x: Tensor, y: Tensor, **more) -> Tensor:
    """Which samples a list of attacks leaves."""
    left = torch.ones(len(x), dtype=torch.bool)
    for each in what:
        outcome = attack(model, x, y, each, preflight=False, errors="record", **more)
        left &= outcome.status == int(Status.SURVIVED)
    return left


def honest(model, setting: str, *, count: int = 64, x: Tensor | None = None, y: Tensor | None = None, **more) -> float:
    """The robust share of a model on images of a setting, by strong attacks."""
    own_x, own_y = images(setting, count)
    chosen = SETTINGS[setting]
    eps = more.pop("eps", chosen.eps)
    what = [plan(spec, eps=eps, norm=chosen.norm).attack for spec in STRONG]
    left = left_by(what, model, own_x if x is None else x, own_y if y is None else y, **more)
    return float(left.float().mean())
