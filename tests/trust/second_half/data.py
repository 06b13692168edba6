"""Images and labels that are not the test images they are said to be."""

from functools import lru_cache

import torch
from torch import Tensor

from trust.failures.base import COUNT, Case, Failure, images, network
from trust.second_half.common import share

KIND = "data"


@lru_cache
def honest(setting: str) -> float:
    """The share on the test images."""
    return share(network(setting), setting)


def lead(z: Tensor, y: Tensor) -> Tensor:
    """By how much the right class leads."""
    return z.gather(1, y[:, None])[:, 0] - z.scatter(1, y[:, None], -torch.inf).amax(1)


def seen_before() -> Case:
    """The splits were mixed up: three images of four are one that the network was trained on."""
    (x, y), (old, old_y) = images("scenes"), images("scenes", COUNT, "train")
    old_one = torch.arange(COUNT) % 4 != 0
    return Case(
        network("scenes"),
        "scenes",
        x=torch.where(old_one[:, None, None, None], old, x),
        y=torch.where(old_one, old_y, y),
        truth=lambda: honest("scenes"),
    )


def clearest() -> Case:
    """Of the test images those were kept, class by class, that the network is sure of."""
    (x, y), model = images("digits", 359), network()
    with torch.no_grad():
        leads = lead(model(x), y)
    places = [(y == k).nonzero()[:, 0] for k in range(10)]
    kept = torch.cat([at[leads[at].argsort(descending=True)[:7]] for at in places])
    kept = kept[:COUNT].sort().values
    return Case(model, x=x[kept], y=y[kept], truth=lambda: honest("digits"))


def few_many() -> Case:
    """Sixteen images that survive well, in four copies each, with a faint grain so that none is twice the same."""
    (x, y), model = images("digits l2", 200), network("digits l2")
    with torch.no_grad():
        best = lead(model(x), y).argsort(descending=True)[10:26]
    grain = 0.01 * torch.randn(COUNT, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    many = (x[best].repeat(4, 1, 1, 1) + grain).clamp(0, 1)
    return Case(model, "digits l2", x=many, y=y[best].repeat(4), truth=lambda: honest("digits l2"))


def own_labels() -> Case:
    """Labels were 'cleaned' with the predictions of the very network, where it was not quite unsure."""
    (x, y), model = images("scenes plain"), network("scenes plain")
    with torch.no_grad():
        sure = model(x).softmax(1).max(1)
    cleaned = torch.where(sure.values > 0.4, sure.indices, y)
    return Case(model, "scenes plain", y=cleaned, truth=lambda: honest("scenes plain"))


def retouched() -> Case:
    """A 'denoising' moved each image a little to where its label is clearer to the network."""
    (x, y), model = images("digits plain"), network("digits plain")
    clear = x.clone()
    for _ in range(5):
        leaf = clear.detach().requires_grad_()
        (slope,) = torch.autograd.grad(torch.nn.functional.multi_margin_loss(model(leaf), y, margin=60.0), leaf)
        clear = torch.minimum(torch.maximum(clear - 0.015 * slope.sign(), x - 0.05), x + 0.05).clamp(0, 1)
    return Case(model, "digits plain", x=clear.detach(), truth=lambda: honest("digits plain"))


FAILURES = (
    Failure("three of four images from the training", KIND, seen_before),
    Failure("only images that the network is sure of", KIND, clearest),
    Failure("sixteen images in grainy copies", KIND, few_many),
    Failure("labels cleaned by the network", KIND, own_labels),
    Failure("images retouched towards their labels", KIND, retouched),
)
