"""Densely connected networks."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.util.validate import whole


class DenseLayer(nn.Module):
    """A 1×1 and a 3×3 convolution, each behind normalisation and ReLU; what comes out is appended to what came in.

    Args:
        before: features coming in.
        growth: features that are appended.
    """

    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same height and width, ``growth`` more of them."""
        inner = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(inner)))], 1)


class DenseNet(nn.Module):
    """Blocks of dense layers, with a transition between them that halves features, height and width.

    Args:
        channels: of the images.
        classes: number of logits.
        blocks: layers of each block.
        growth: features that a layer appends.
        small: a 3×3 stem of stride 1 without pooling, for small images; else 7×7 of stride 2 with pooling.
    """

    def __init__(self, channels: int, classes: int, blocks: tuple[int, ...], growth: int, *, small: bool) -> None:
        super().__init__()
        width, self.small = 2 * growth, small
        kernel, stride, pad = (3, 1, 1) if small else (7, 2, 3)
        self.stem = nn.Conv2d(channels, width, kernel, stride, pad, bias=False)
        self.norm0 = nn.BatchNorm2d(width)
        layers: list[nn.Module] = []
        for i, count in enumerate(blocks):
            layers += [DenseLayer(width + j * growth, growth) for j in range(count)]
            width += count * growth
            if i + 1 < len(blocks):
                half = width // 2
                layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, half, 1, bias=False), nn.AvgPool2d(2)]
                width = half
        self.layers = nn.Sequential(*layers)
        self.norm = nn.BatchNorm2d(width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = F.relu(self.norm0(self.stem(x)))
        if not self.small:
            x = F.max_pool2d(x, 3, 2, 1)
        features = F.relu(self.norm(self.layers(x)))
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


def densenet121(channels: int, classes: int, size: int) -> nn.Module:
    """DenseNet-121; the stem is 3×3 of stride 1 below 64 pixels.

    Args:
        channels: of the images.
        classes: number of logits.
        size: side of the images in pixels, at least 16.

    Source: Huang et al., "Densely connected convolutional networks", CVPR 2017, table 1.
    """
    whole("size", size, least=16)
    return DenseNet(channels, classes, (6, 12, 24, 16), 32, small=size < 64)
