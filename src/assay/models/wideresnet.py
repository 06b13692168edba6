"""Wide residual networks."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.util.validate import reject, whole


class WideBlock(nn.Module):
    """Normalise, activate, convolve, twice, around a shortcut.

    Where the number of features changes, the shortcut branches off after the first activation, as in the reference
    code.

    Args:
        before: features coming in.
        features: features going out.
        stride: of the first convolution.
        dropout: probability between the convolutions.
    """

    def __init__(self, before: int, features: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, features, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.dropout = dropout
        self.convShortcut: nn.Module | None = None  # named as in the usual PyTorch code, so that its weights load
        if before != features or stride != 1:
            self.convShortcut = nn.Conv2d(before, features, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """One block."""
        inner = F.relu(self.bn1(x))
        passed = x if self.convShortcut is None else self.convShortcut(inner)
        inner = F.relu(self.bn2(self.conv1(inner)))
        inner = F.dropout(inner, self.dropout, self.training)
        out: Tensor = self.conv2(inner) + passed
        return out


class WideStage(nn.Module):
    """Blocks of one number of features; named as in the usual PyTorch code, ``block1.layer.0.conv1.weight``.

    Args:
        before: features coming in.
        features: features going out.
        blocks: how many blocks.
        stride: of the first block.
        dropout: probability between the convolutions of a block.
    """

    def __init__(self, before: int, features: int, blocks: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            *(
                WideBlock(before if i == 0 else features, features, stride if i == 0 else 1, dropout)
                for i in range(blocks)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """The blocks one after another."""
        out: Tensor = self.layer(x)
        return out


class WideResNet(nn.Module):
    """Wide residual network WRN-``depth``-``width``.

    Args:
        channels: of the images.
        classes: number of logits.
        depth: convolutional layers, 6 n + 4.
        width: factor of the features 16, 32, 64.
        dropout: probability between the convolutions of a block.
    """

    def __init__(self, channels: int, classes: int, depth: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            reject("depth", "6 n + 4 layers, such as 16, 28, 34 or 40", depth)
        blocks = (depth - 4) // 6
        features = [16 * width, 32 * width, 64 * width]
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.block1 = WideStage(16, features[0], blocks, 1, dropout)
        self.block2 = WideStage(features[0], features[1], blocks, 2, dropout)
        self.block3 = WideStage(features[1], features[2], blocks, 2, dropout)
        self.bn1 = nn.BatchNorm2d(features[2])
        self.fc = nn.Linear(features[2], classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        x = F.relu(self.bn1(x))
        logits: Tensor = self.fc(torch.flatten(x.mean((2, 3)), 1))
        return logits


def wrn_16_4(channels: int, classes: int, size: int, *, width: int = 4) -> nn.Module:
    """WRN-16-4. Arguments as in `wrn_28_10`."""
    return _wide(channels, classes, size, 16, width)


def wrn_28_10(channels: int, classes: int, size: int, *, width: int = 10) -> nn.Module:
    """WRN-28-10, the usual large network for CIFAR-10 (36.5 million parameters).

    Args:
        channels: of the images.
        classes: number of logits.
        size: side of the images in pixels, at least 8.
        width: factor of the features 16, 32, 64.

    Source: Zagoruyko & Komodakis, "Wide residual networks", BMVC 2016, table 1. Deviation: a 1×1 shortcut only where
    the shape changes, as in the authors' code.
    """
    return _wide(channels, classes, size, 28, width)


def wrn_34_10(channels: int, classes: int, size: int, *, width: int = 10) -> nn.Module:
    """WRN-34-10, as adversarial training uses it since Madry et al., 2018. Arguments as in `wrn_28_10`."""
    return _wide(channels, classes, size, 34, width)


def wrn_40_2(channels: int, classes: int, size: int, *, width: int = 2) -> nn.Module:
    """WRN-40-2. Arguments as in `wrn_28_10`."""
    return _wide(channels, classes, size, 40, width)


def _wide(channels: int, classes: int, size: int, depth: int, width: int) -> nn.Module:
    whole("size", size, least=8)
    return WideResNet(channels, classes, depth, whole("width", width, least=1))
