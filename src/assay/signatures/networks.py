"""The networks: reconstructor G and recogniser Ψ."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.model_calls import call
from assay.core.types import Images, Logits
from assay.diagnostics.saliency import record_outputs
from assay.models.registry import build
from assay.util.validate import reject, whole

GAIN = 16.0
"""Residuals are tens of times smaller than images; the recogniser sees them multiplied by this."""


class Block(nn.Module):
    """Two convolutions and a shortcut around them; no normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        out: Tensor = x + self.second(F.leaky_relu(self.first(x), 0.2))
        return out


class Reconstructor(nn.Module):
    """G: the clean image from an attacked one, of the same size, without a connection around it.

    Args:
        channels: of the images.
        width: features.
        blocks: residual blocks.

    Source: Souri et al., 2021, section 4.1: residual blocks without batch normalisation between two convolutions before
    and two after, leaky ReLU; its numbers of blocks and features are not stated. "Without skip connections" is read as:
    none from input to output, as the section says why; a residual block has its own.
    """

    def __init__(self, channels: int, width: int = 32, blocks: int = 4) -> None:
        super().__init__()
        whole("width", width, least=1)
        whole("blocks", blocks, least=0)
        self.net = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            *(Block(width) for _ in range(blocks)),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def forward(self, x: Images) -> Images:
        """Images of the same shape, not clipped."""
        out: Images = self.net(x - 0.5) + 0.5
        return out


class Recogniser(nn.Module):
    """Ψ: which attack made an image, from the image and, unless ``alone``, its perturbation.

    Args:
        channels: of the images.
        kinds: number of classes, clean among them.
        size: side of the images.
        arch: a name of ``assay.models.ARCHITECTURES``.
        alone: whether it sees the image without a perturbation.

    Source: Souri et al., 2021, section 4.4, figure 3 (ResNet-18). Deviation: the perturbation is multiplied by 16, so
    that both inputs are of one size; a first convolution would have to learn that.
    """

    def __init__(self, channels: int, kinds: int, size: int, arch: str = "resnet18", *, alone: bool = False) -> None:
        super().__init__()
        self.alone = alone
        inputs = channels if alone else 2 * channels
        self.net = build(arch, channels=inputs, classes=kinds, size=size, normalize="none")

    def forward(self, image: Images, residual: Images) -> Logits:
        """Logits ``(n, kinds)``."""
        seen = image - 0.5 if self.alone else torch.cat([image - 0.5, GAIN * residual], 1)
        out: Logits = self.net(seen)
        return out

    def features(self, image: Images, residual: Images) -> Tensor:
        """What the last linear layer sees, ``(n, f)``, at length 1."""
        kept: list[Tensor] = []
        last = [module for module in self.net.modules() if isinstance(module, nn.Linear)][-1]
        handle = last.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
        try:
            self(image, residual)
        finally:
            handle.remove()
        return F.normalize(kept[0].flatten(1), dim=1)


def layer_of(model: nn.Module, place: int) -> nn.Module:
    """The place-th convolution of a network, counted from 1.

    Raises:
        ValueError: it has fewer.
    """
    convolutions: Sequence[nn.Module] = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    if not convolutions:
        reject("extractor", "a network with convolutions", type(model))
    if not 1 <= place <= len(convolutions):
        reject("layer", f"a convolution between 1 and {len(convolutions)}", place)
    return convolutions[place - 1]


def features_at(model: nn.Module, layer: nn.Module, x: Images) -> Tensor:
    """What a layer gives for images ``(n, c, h, w)``, of the layer's shape; gradients flow through."""
    with record_outputs(layer) as outputs:
        call(model, x)
    return outputs[0]
