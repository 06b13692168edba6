"""Models whose answers depend on what came before, or on how they are called."""

from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trust.failures.base import ATTACKS, Case, Failure, network
from trust.held_out.parts import GRADIENT, Shell, honest, lead, one_hot, straight, training

KIND = "state and surroundings"


class Wrapped(nn.Module):
    """A network with something around it that remembers."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.calls = 0


class Cached(Wrapped):
    """Answers are kept by a thumbnail of the image, and given again to what has the same."""

    def __init__(self, net: nn.Module, levels: int) -> None:
        super().__init__(net)
        self.levels, self.known = levels, {}

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        small = (F.adaptive_avg_pool2d(x.detach(), 2) * self.levels).round().byte().flatten(1)
        keys = [bytes(row.tolist()) for row in small]
        return torch.stack([self._answer(key, row) for key, row in zip(keys, z, strict=True)])

    def _answer(self, key: bytes, z: Tensor) -> Tensor:
        if key in self.known:
            return self.known[key]
        self.known[key] = z.detach()
        return z


def cached() -> Case:
    """A cache in front of the model."""
    net = network("scenes plain")
    return Case(Cached(net, 24), "scenes plain", truth=lambda: honest(net, "scenes plain"))


class Remembering(Wrapped):
    """Stateful detection: who asks again close to a recent image gets the answer to that one."""

    def __init__(self, net: nn.Module, radius: float, most: int = 400) -> None:
        super().__init__(net)
        self.radius, self.most, self.seen, self.said = radius, most, None, None

    def forward(self, x: Tensor) -> Tensor:
        z, flat = self.net(x), x.detach().flatten(1)
        answers = z
        if self.seen is not None:
            apart, at = torch.cdist(flat, self.seen).min(1)
            answers = torch.where((apart < self.radius)[:, None], self.said[at], z)
        seen, said = (flat, z.detach()) if self.seen is None else (torch.cat([self.seen, flat]), self._more(answers))
        self.seen, self.said = seen[-self.most :], said[-self.most :]
        return answers

    def _more(self, z: Tensor) -> Tensor:
        return torch.cat([self.said, z.detach()])


def remembering() -> Case:
    """Near repeats of recent images are answered from memory."""
    net = network("digits l2")
    return Case(Remembering(net, 0.3), "digits l2", truth=lambda: honest(net, "digits l2"))


class GradMode(Wrapped):
    """While gradients are recorded, the scores are constants."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        return z.detach() + 0 * x.sum() if torch.is_grad_enabled() and x.requires_grad else z


def grad_mode() -> Case:
    """The gradient is left out whenever there would be one."""
    net = network("digits l2")
    return Case(GradMode(net), "digits l2", attacks=(*GRADIENT, "square:queries=300"), seen=net)


class LargeBatches(Wrapped):
    """Large batches take a fast path in which scores are whole numbers."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        return 3 * one_hot(z) + (z / 20).round() if len(x) > 12 else z


def large_batches() -> Case:
    """A fast path for batches of more than a dozen images."""
    net = network("scenes")
    return Case(LargeBatches(net), "scenes", seen=net)


class RateLimited(Wrapped):
    """After some calls there are labels, no scores."""

    def __init__(self, net: nn.Module, free: int) -> None:
        super().__init__(net)
        self.free = free

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        z = self.net(x)
        return z if self.calls <= self.free else one_hot(z)


def rate_limited() -> Case:
    """Scores are switched off after a few calls."""
    net = network("digits")
    return Case(RateLimited(net, 8), "digits", seen=net)


class EveryOther(Wrapped):
    """At every other call the images go through a mirror."""

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        z = self.net(x)
        shown = self.net(x.flip(2)) if self.calls % 3 else z
        return z.detach() + shown - shown.detach()


def every_other() -> Case:
    """Two calls of three have the slope of the image upside down."""
    net = network("scenes plain")
    return Case(EveryOther(net), "scenes plain", attacks=("apgd:steps=50", "pgd:steps=20"), seen=net)


class OffGrid(Wrapped):
    """Images with other than 17 levels are taken for bad scans: their nearest neighbour answers for them."""

    def __init__(self, net: nn.Module, known: Tensor, labels: Tensor) -> None:
        super().__init__(net)
        self.known, self.labels = known, labels

    def forward(self, x: Tensor) -> Tensor:
        z, scaled = self.net(x), 16 * x.detach()
        off = (scaled - scaled.round()).abs().flatten(1).amax(1) > 0.02
        near = torch.cdist(x.detach().flatten(1), self.known.flatten(1)).argmin(1)
        return torch.where(off[:, None], F.one_hot(self.labels[near], z.shape[1]).to(z), z)


def off_grid() -> Case:
    """Answers to images with other levels than a scanner's come from the nearest neighbour."""
    net, (known, labels) = network("digits plain"), training("digits plain")
    rounded = Shell(lambda x: net(straight(x, lambda v: (16 * v).round() / 16)), net)
    truth = partial(honest, rounded, "digits plain", eps=0.125)  # whole levels, within the budget
    return Case(OffGrid(net, known, labels), "digits plain", truth=truth, eps=0.18)


class Frozen(Wrapped):
    """With weights that need no gradient, the model takes itself for deployed and shows less."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        deployed = not any(weight.requires_grad for weight in self.parameters())
        confident = (lead(z.detach()) > 0.5)[:, None]
        return torch.where(confident, 5 * one_hot(z), z) if deployed else z


def frozen() -> Case:
    """Confident answers of a deployed model have no scores."""
    net = deepcopy(network("scenes")).requires_grad_(True)
    return Case(Frozen(net), "scenes", attacks=ATTACKS, seen=net)


FAILURES = (
    Failure("cache by thumbnail", KIND, cached),
    Failure("near repeats from memory", KIND, remembering),
    Failure("no gradient where one is wanted", KIND, grad_mode),
    Failure("fast path for large batches", KIND, large_batches),
    Failure("scores for a few calls", KIND, rate_limited),
    Failure("two calls of three upside down", KIND, every_other),
    Failure("neighbours for images off the grid", KIND, off_grid),
    Failure("frozen weights", KIND, frozen),
)
