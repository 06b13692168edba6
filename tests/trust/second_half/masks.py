"""Objects and backgrounds that are not where the evaluation says."""

from functools import lru_cache

import torch
from torch import Tensor, nn

from assay.data import load
from trust.failures.base import COUNT, SETTINGS, Case, Failure, images, network
from trust.second_half.common import share

KIND = "masks and regions"
DUAL = ("dual-apgd:steps=50", "dual:steps=40")


@lru_cache
def objects(setting: str = "scenes") -> Tensor:
    """Where the objects truly are."""
    masks = load(SETTINGS[setting].data, split="test", limit=COUNT).masks
    return torch.ones(COUNT, 1, 16, 16) if masks is None else masks.float()


@lru_cache
def true_dual(setting: str = "scenes") -> float:
    """The share that dual perturbations leave with the true masks."""
    return share(network(setting), setting, ("dual-apgd:steps=100", "dual:steps=60,restarts=2"), masks=objects(setting))


def swollen() -> Case:
    """The masks were grown 'to be safe', until hardly any background was left."""
    grown = nn.functional.max_pool2d(objects(), 9, 1, 4)
    return Case(network("scenes"), "scenes", DUAL, masks=grown, truth=true_dual)


def learned() -> Case:
    """The 'object' is wherever the network reacts most: what may be changed a lot is what it does not look at."""
    (x, y), model = images("scenes plain"), network("scenes plain")
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(nn.functional.multi_margin_loss(model(leaf), y, margin=50.0), leaf)
    heat = nn.functional.avg_pool2d(slope.abs().sum(1, keepdim=True), 3, 1, 1)
    bound = heat.flatten(1).quantile(0.2, dim=1)[:, None, None, None]
    return Case(
        network("scenes plain"),
        "scenes plain",
        DUAL,
        masks=(heat > bound).float(),
        truth=lambda: true_dual("scenes plain"),
    )


def background_only() -> Case:
    """The whole image is claimed to be attacked, and the object is left as it is."""
    attacks = ("dual-apgd:steps=50,eps_foreground=0.0001,eps_background=8/255",)
    return Case(network("scenes"), "scenes", attacks, masks=nn.functional.max_pool2d(objects(), 5, 1, 2))


def middle_only() -> Case:
    """The strokes of digits are found by a threshold, and nothing else is attacked."""
    x, _ = images("digits")
    attacks = ("dual-apgd:steps=50,eps_background=0.0001", "dual:steps=40,eps_background=0.0001")
    return Case(network(), "digits", attacks, masks=(x > 0.6).float())


def frames() -> Case:
    """A cropping tool returned the frame of the picture as its background, for every picture."""
    mask = torch.ones(COUNT, 1, 16, 16)
    mask[:, :, 0], mask[:, :, :, -1] = 0, 0
    return Case(network("scenes"), "scenes", DUAL, masks=mask, truth=true_dual)


FAILURES = (
    Failure("masks grown to be safe", KIND, swollen),
    Failure("the object is where the network looks", KIND, learned),
    Failure("the object is left as it is", KIND, background_only),
    Failure("bright strokes alone are attacked", KIND, middle_only),
    Failure("two edges are all the background", KIND, frames),
)
