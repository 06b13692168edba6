"""Images that are not those that the number is said to be about."""

from functools import lru_cache

import torch

from trust.failures.base import Case, Failure, images, network, reported


@lru_cache
def share(setting: str) -> float:
    """What is true: the share on the setting's own images."""
    return float(reported(Case(network(setting), setting).evaluated()).float().mean())


def of_the_training(setting: str = "digits") -> Case:
    """Images that the network was trained on."""
    x, y = images(setting, 400, "train")
    keep = network(setting)(x).softmax(1).gather(1, y[:, None]).squeeze(1).topk(64).indices.sort().values
    return Case(network(setting), setting, x=x[keep], y=y[keep], truth=lambda: share(setting))


def own_labels(setting: str = "digits") -> Case:
    """What the network says is the label."""
    x, _ = images(setting)
    return Case(network(setting), setting, y=network(setting)(x).argmax(1), truth=lambda: share(setting))


def away_from_the_boundary(setting: str = "digits") -> Case:
    """Each image moved a little towards its label before it was stored."""
    x, y = images(setting)
    leaf = x.clone().requires_grad_()
    torch.nn.functional.cross_entropy(network(setting)(leaf), y).backward()
    return Case(network(setting), setting, x=(x - 0.1 * leaf.grad.sign()).clamp(0, 1), truth=lambda: share(setting))


FAILURES = (
    Failure("images of the training, digits", "data", of_the_training),
    Failure("the network's own labels, digits", "data", own_labels),
    Failure("away from the boundary, digits", "data", away_from_the_boundary),
)
