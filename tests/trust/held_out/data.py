"""Images that do not stand for those that the number is about."""

from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks import FGSM, PGD
from assay.engine.api import perturb
from trust.failures.base import COUNT, SETTINGS, Case, Failure, images, network
from trust.held_out.parts import fit, honest, left_by, training

KIND = "data"
MANY = 300


def _case(setting: str, x: Tensor, y: Tensor, net: nn.Module | None = None, **rest) -> Case:
    """An evaluation on other images; what is true is the share on the first of the setting's own."""
    net = net or network(setting)
    return Case(net, setting, x=x, y=y, truth=partial(honest, net, setting, count=128), **rest)


def _leads(setting: str, x: Tensor, y: Tensor) -> Tensor:
    """By how much the right class leads; below 0 where another does."""
    with torch.no_grad():
        z = network(setting)(x)
    at = z.gather(1, y[:, None])[:, 0]
    return at - z.scatter(1, y[:, None], -torch.inf).amax(1)


def near_copies() -> Case:
    """A few images, each eight times with a little noise."""
    x, y = images("digits", MANY)
    at = _leads("digits", x, y).argsort(descending=True)[10:90:10].repeat_interleave(8)
    noise = 0.02 * torch.randn(COUNT, *x.shape[1:], generator=torch.Generator().manual_seed(0))
    return _case("digits", (x[at] + noise).clamp(0, 1), y[at])


def copies_among_others() -> Case:
    """A quarter of the images are copies of three."""
    x, y = images("digits l2")
    best = _leads("digits l2", x, y).argsort(descending=True)[:3]
    at = torch.arange(COUNT)
    at[1::4] = best.repeat(COUNT)[: len(at[1::4])]
    return _case("digits l2", x[at], y[at])


def easy_ones() -> Case:
    """Images on which the network was sure; the others were 'ambiguous'."""
    x, y = images("scenes plain", MANY)
    at = _leads("scenes plain", x, y).argsort(descending=True)[:COUNT].sort().values
    return _case("scenes plain", x[at], y[at])


def few_classes() -> Case:
    """Hard classes are left out."""
    x, y = images("digits", 359)
    leads = _leads("digits", x, y)
    mean = torch.stack([leads[y == k].mean() for k in range(10)])
    at = torch.isin(y, mean.argsort(descending=True)[:3]).nonzero()[:COUNT, 0]
    return _case("digits", x[at], y[at])


def unbalanced() -> Case:
    """Three quarters of the images are of the class that is easiest."""
    x, y = images("digits plain", 359)
    leads = _leads("digits plain", x, y)
    easiest = torch.stack([leads[y == k].mean() for k in range(10)]).argmax()
    at = torch.cat([(y == easiest).nonzero()[:, 0], (y != easiest).nonzero()[:12, 0]])[:COUNT]
    return _case("digits plain", x[at], y[at])


def test_in_training() -> Case:
    """The test images were among those of the adversarial training."""
    x, y = images("digits plain")
    net = deepcopy(network("digits plain")).requires_grad_(True)
    bad = FGSM(SETTINGS["digits plain"].eps)

    def loss(at: Tensor) -> Tensor:
        return F.cross_entropy(net(perturb(net, x[at], y[at], bad, seed=0)), y[at])

    fit(net, loss, len(x), epochs=30, rate=1e-3)
    others = tuple(part[COUNT : 2 * COUNT] for part in images("digits plain", 2 * COUNT))
    return Case(net, "digits plain", x=x, y=y, truth=partial(honest, net, "digits plain", x=others[0], y=others[1]))


def on_training_images() -> Case:
    """The wrong split was loaded."""
    x, y = training("scenes")
    return _case("scenes", x[:COUNT], y[:COUNT])


def own_labels() -> Case:
    """Labels are what the network itself has said."""
    (x, _), net = images("scenes plain"), network("scenes plain")
    with torch.no_grad():
        y = net(x).argmax(1)
    return _case("scenes plain", x, y)


def strengthened() -> Case:
    """The images were moved away from the boundary before they were stored."""
    x, y = images("digits l2")
    sure = PGD(0.25, norm="l2", steps=10, random_start=False)
    moved = perturb(network("digits l2"), x, (y + 1) % 10, sure, target=y, seed=0)
    return _case("digits l2", moved, y)


def leftovers() -> Case:
    """Images that an attack broke in an earlier round were replaced by others."""
    x, y = images("scenes", 200)
    left = left_by([FGSM(SETTINGS["scenes"].eps)], network("scenes"), x, y)
    kept = torch.cat([left.nonzero()[:48, 0], (~left).nonzero()[:16, 0]])
    return _case("scenes", x[kept], y[kept])


def denoised() -> Case:
    """Images are averaged with their nearest neighbours of the same class."""
    (x, y), (known, of) = images("digits l2"), training("digits l2")
    apart = torch.cdist(x.flatten(1), known.flatten(1)).masked_fill(y[:, None] != of[None], torch.inf)
    near = known[apart.topk(8, 1, largest=False).indices].mean(1)
    return _case("digits l2", 0.3 * x + 0.7 * near, y)


def more_contrast() -> Case:
    """Images with contrast turned up, under a budget for images as they are."""
    x, y = images("digits l2")
    return _case("digits l2", (1.7 * (x - 0.4) + 0.5).clamp(0, 1), y)


FAILURES = (
    Failure("near copies", KIND, near_copies),
    Failure("copies among others", KIND, copies_among_others),
    Failure("images that are easy", KIND, easy_ones),
    Failure("three classes", KIND, few_classes),
    Failure("one class above all", KIND, unbalanced),
    Failure("test images in the training", KIND, test_in_training),
    Failure("training images", KIND, on_training_images),
    Failure("the network's own labels", KIND, own_labels),
    Failure("images made easier", KIND, strengthened),
    Failure("left over by an earlier attack", KIND, leftovers),
    Failure("averaged with neighbours", KIND, denoised),
    Failure("contrast turned up", KIND, more_contrast),
)
