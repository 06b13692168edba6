"""The architectures by name: a new one is a file and a line here."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from assay.models.densenet import densenet121
from assay.models.noisy import with_noise_layers
from assay.models.normalize import STATISTICS, Normalize
from assay.models.resnet import preactresnet18, resnet18, resnet34, resnet50, resnext50
from assay.models.small import conv_small, gtsrb_cnn, strattack_cnn, strattack_cnn_cifar10, tiny_cnn
from assay.models.vgg import vgg19
from assay.models.wideresnet import wrn_16_4, wrn_28_10, wrn_34_10, wrn_40_2
from assay.util.registry import Registry
from assay.util.validate import described, one_of, reject, whole


def _factory(make: Any) -> Callable[..., nn.Module]:
    """A function or class that makes a network, of another package."""
    if not callable(make):
        reject("entry point", "a function or class that makes a network", make, error=TypeError)
    factory: Callable[..., nn.Module] = make
    return factory


ARCHITECTURES: Registry[Callable[..., nn.Module]] = Registry(
    "arch",
    {
        "tiny-cnn": tiny_cnn,
        "conv-small": conv_small,
        "gtsrb-cnn": gtsrb_cnn,
        "strattack-cnn": strattack_cnn,
        "strattack-cnn-cifar10": strattack_cnn_cifar10,
        "preactresnet18": preactresnet18,
        "resnet18": resnet18,
        "resnet34": resnet34,
        "resnet50": resnet50,
        "resnext50": resnext50,
        "densenet121": densenet121,
        "vgg19": vgg19,
        "wrn-16-4": wrn_16_4,
        "wrn-28-10": wrn_28_10,
        "wrn-34-10": wrn_34_10,
        "wrn-40-2": wrn_40_2,
    },
    group="assay.models",
    adapt=_factory,
)

_MOST_PARAMETERS = 2**31


def build(arch: str, *, channels: int, classes: int, size: int, normalize: str = "half") -> nn.Module:
    """A fresh network behind a `Normalize` layer, for images in [0, 1].

    Args:
        arch: a name of `ARCHITECTURES`; with ``+noise`` a noise layer stands before each convolution (RSE).
        channels: of the images.
        classes: number of logits, at least 2.
        size: side of the images in pixels.
        normalize: a name of `models.normalize.STATISTICS`.

    Returns:
        A sequence of the layer and the network.

    Raises:
        ValueError: an unknown name, a size the network cannot take, or more parameters than any machine has memory for.

    Example:
        >>> import torch
        >>> build("tiny-cnn", channels=1, classes=10, size=8)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    name, extra = parted(arch)
    one_of("normalize", normalize, STATISTICS)
    whole("channels", channels, least=1)
    whole("classes", classes, least=2)
    whole("size", size, least=1)
    with torch.device("meta"):  # counted before memory is taken
        count = sum(parameter.numel() for parameter in ARCHITECTURES[name](channels, classes, size).parameters())
    if count > _MOST_PARAMETERS:
        reject(
            "arch",
            f"a network of at most {_MOST_PARAMETERS:,} parameters",
            described(f"{count:,} for {name}, {channels} channels, {classes} classes, size {size}"),
        )
    network = ARCHITECTURES[name](channels, classes, size)
    network = with_noise_layers(network) if extra else network
    return nn.Sequential(Normalize(*STATISTICS[normalize]), network)


def parted(arch: str) -> tuple[str, str]:
    """The name of an architecture and what is added to it.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> parted("tiny-cnn+noise")
        ('tiny-cnn', 'noise')
    """
    name, plus, extra = arch.partition("+") if isinstance(arch, str) else (arch, "", "")
    ARCHITECTURES.find(name)
    if plus and extra != "noise":
        reject("arch", f"nothing or +noise after {name}", arch)
    return name, extra
