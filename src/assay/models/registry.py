"""The architectures by name: a new one is a file and a line here."""

from collections.abc import Callable

from torch import nn

from assay.core.arguments import described, nearest, one_of, reject, whole
from assay.models.noisy import with_noise_layers
from assay.models.normalize import STATISTICS, Normalize
from assay.models.resnet import preactresnet18, resnet18, resnet34
from assay.models.small import gtsrb_cnn, strattack_cnn, tiny_cnn

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "tiny-cnn": tiny_cnn,
    "gtsrb-cnn": gtsrb_cnn,
    "strattack-cnn": strattack_cnn,
    "preactresnet18": preactresnet18,
    "resnet18": resnet18,
    "resnet34": resnet34,
}


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
        ValueError: an unknown name or a size the network cannot take.

    Example:
        >>> import torch
        >>> build("tiny-cnn", channels=1, classes=10, size=8)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    name, extra = parted(arch)
    one_of("normalize", normalize, STATISTICS)
    whole("channels", channels, least=1)
    whole("classes", classes, least=2)
    network = ARCHITECTURES[name](channels, classes, whole("size", size, least=1))
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
    name, plus, extra = arch.partition("+")
    if name not in ARCHITECTURES:
        reject("arch", "one of " + ", ".join(ARCHITECTURES), described(f"{arch!r}{nearest(name, ARCHITECTURES)}"))
    if plus and extra != "noise":
        reject("arch", f"nothing or +noise after {name}", arch)
    return name, extra
