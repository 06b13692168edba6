"""VGG networks with batch normalisation; convolutions are named as in torchvision."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.util.validate import whole

_VGG19 = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Features and number of convolutions of each block."""


class VGG(nn.Module):
    """Blocks of 3×3 convolutions, each followed by pooling, and one linear layer.

    Args:
        channels: of the images.
        classes: number of logits.
        blocks: features and convolutions of each.
    """

    def __init__(self, channels: int, classes: int, blocks: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for features, convolutions in blocks:
            for _ in range(convolutions):
                layers += [nn.Conv2d(before, features, 3, padding=1), nn.BatchNorm2d(features), nn.ReLU()]
                before = features
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        features = F.adaptive_avg_pool2d(self.features(x), 1)
        logits: Tensor = self.classifier(torch.flatten(features, 1))
        return logits


def vgg19(channels: int, classes: int, size: int) -> nn.Module:
    """VGG-19 with batch normalisation.

    Args:
        channels: of the images.
        classes: number of logits.
        size: side of the images in pixels, at least 16.

    Source: Simonyan & Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.
    Deviation: one linear layer on the mean of the last features, as is usual for images of 32 or 64 pixels, in place of
    three.
    """
    whole("size", size, least=16)
    return VGG(channels, classes, _VGG19)
