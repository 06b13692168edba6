"""Attacks that look at something else than what is judged."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.models import build
from trust.failures.base import Around, Case, Failure, network
from trust.held_out.parts import GRADIENT, Declared, Shell, Swapped, fit, fresh, one_hot, training

KIND = "decoys and substitutes"


def _small() -> nn.Module:
    return build("tiny-cnn", channels=1, classes=10, size=8)


def untrained_slope() -> Case:
    """The answers of a trained network with the slope of an untrained one."""
    net = network("digits l2")
    return Case(Swapped(net, fresh(_small).eval()), "digits l2", seen=net)


def early_checkpoint() -> Case:
    """The attack looks at weights from before the robust training."""
    net = network("digits")
    model = Declared(net, "surrogate: the same network at an earlier epoch", surrogate=network("digits plain"))
    return Case(model, "digits", attacks=("apgd:steps=50", "square:queries=500"), seen=net)


def student() -> Case:
    """A distilled student stands for the model, which is said to be too slow to attack."""
    net = network("scenes")
    x, _ = training("scenes")
    with torch.no_grad():
        soft = net(x).softmax(1)
    small = fresh(lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 8)))
    fit(small, lambda at: F.kl_div(small(x[at]).log_softmax(1), soft[at], reduction="batchmean"), len(x), epochs=20)
    return Case(Declared(net, "attacked through a distilled student", surrogate=small), "scenes", seen=net)


def not_normalised() -> Case:
    """The surrogate is the network without its normalisation."""
    net = network("digits l2")
    model = Declared(net, "attacked at the network's own input", surrogate=net[1])
    return Case(model, "digits l2", attacks=("apgd:steps=50", "square:queries=500"), seen=net)


def blurred() -> Case:
    """The surrogate sees images that are blurred; the model does not blur."""
    net = network("scenes plain")
    seen = Around(net, before=lambda x: F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1))
    return Case(Declared(net, "gradients through the blur", surrogate=seen), "scenes plain", attacks=GRADIENT, seen=net)


class Honeypot(nn.Module):
    """A network with a steep ripple along one direction a class, which adds next to nothing to its scores."""

    def __init__(self, net: nn.Module, pixels: int, classes: int) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("traps", torch.randn(pixels, classes, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + 0.01 * (400 * (x.flatten(1) @ self.traps)).sin()


def honeypot() -> Case:
    """Traps that the gradient falls into."""
    net = network("scenes plain")
    return Case(Honeypot(net, 768, 8), "scenes plain", attacks=(*GRADIENT, "fab:steps=20"), seen=net)


class Borrowed(nn.Module):
    """The scores of one network as long as it agrees with another; else the other's bare answer."""

    def __init__(self, judge: nn.Module, scores: nn.Module) -> None:
        super().__init__()
        self.judge, self.scores = judge, scores

    def forward(self, x: Tensor) -> Tensor:
        answer, scores = self.judge(x).detach(), self.scores(x)
        agrees = (answer.argmax(1) == scores.argmax(1))[:, None]
        return torch.where(agrees, scores, one_hot(answer))


def borrowed() -> Case:
    """A linear model provides the scores wherever it agrees."""
    x, y = training("digits")
    linear = fresh(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    fit(linear, lambda at: F.cross_entropy(linear(x[at]), y[at]), len(x), epochs=15)
    net = network("digits plain")
    return Case(Borrowed(net, linear), "digits plain", seen=net)


def purifier_left_out() -> Case:
    """Images are projected on principal components; the attack is on the network alone."""
    x, _ = training("digits")
    middle = x.flatten(1).mean(0)
    axes = torch.linalg.svd(x.flatten(1) - middle, full_matrices=False).Vh[:18]

    def purify(image: Tensor) -> Tensor:
        flat = image.flatten(1) - middle
        return (flat @ axes.T @ axes + middle).view_as(image).clamp(0, 1)

    net = network("digits plain")
    model = Around(net, before=purify)
    declared = Declared(model, "BPDA past the purifier", surrogate=net, methods=("BPDA",))
    return Case(declared, "digits plain", attacks=GRADIENT, seen=model)


def half_permuted() -> Case:
    """In the surrogate, the last layer of some classes comes from another run of the training."""
    net = network("digits l2")
    copy = deepcopy(net)
    last = copy[1][-1]
    with torch.no_grad():
        last.weight[:5] = last.weight[:5].roll(1, 0)
        last.bias[:5] = last.bias[:5].roll(1, 0)
    return Case(Declared(net, "attacked in a copy", surrogate=copy), "digits l2", attacks=GRADIENT, seen=net)


def dead_branch() -> Case:
    """Two branches are added: the one that counts is without a gradient, the other is live and idle."""
    net, idle = network("scenes"), fresh(lambda: build("tiny-cnn", channels=3, classes=8, size=16), 1).eval()

    def forward(x: Tensor) -> Tensor:
        return net(x.detach()) + 0.05 * idle(x)

    attacks = (*GRADIENT, "deepfool")
    return Case(Shell(forward, net, idle), "scenes", attacks=attacks, seen=net)


FAILURES = (
    Failure("slope of an untrained network", KIND, untrained_slope),
    Failure("early checkpoint", KIND, early_checkpoint),
    Failure("distilled student", KIND, student),
    Failure("surrogate without normalisation", KIND, not_normalised),
    Failure("blur in the surrogate alone", KIND, blurred),
    Failure("honeypot", KIND, honeypot),
    Failure("borrowed scores", KIND, borrowed),
    Failure("purifier left out", KIND, purifier_left_out),
    Failure("classes swapped in the surrogate", KIND, half_permuted),
    Failure("dead branch", KIND, dead_branch),
)
