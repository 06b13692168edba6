"""Residual networks for small images."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.util.validate import whole


class PreActBlock(nn.Module):
    """Normalise, activate, convolve, twice, around a shortcut.

    Args:
        before: features coming in.
        features: features going out.
        stride: of the first convolution.
    """

    def __init__(self, before: int, features: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, features, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        changes = stride != 1 or before != features
        self.shortcut = nn.Conv2d(before, features, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """One block."""
        inner = F.relu(self.norm1(x))
        passed = x if self.shortcut is None else self.shortcut(inner)
        out: Tensor = self.conv2(F.relu(self.norm2(self.conv1(inner)))) + passed
        return out


class BasicBlock(nn.Module):
    """Convolve, normalise, activate, twice, around a shortcut.

    Args:
        before: features coming in.
        features: features going out.
        stride: of the first convolution.
    """

    def __init__(self, before: int, features: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, features, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.downsample: nn.Module | None = None
        if stride != 1 or before != features:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, features, 1, stride, bias=False), nn.BatchNorm2d(features)
            )

    def forward(self, x: Tensor) -> Tensor:
        """One block."""
        passed = x if self.downsample is None else self.downsample(x)
        inner = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(inner)) + passed)


class Bottleneck(nn.Module):
    """A 1×1, a 3×3 and a 1×1 convolution around a shortcut; the last has four times the features.

    Args:
        before: features coming in.
        features: features between.
        stride: of the 3×3 convolution.
        groups: of the 3×3 convolution (ResNeXt's cardinality).
        wide: features of a group, for 64 features between.
    """

    expansion = 4

    def __init__(self, before: int, features: int, stride: int, *, groups: int = 1, wide: int = 64) -> None:
        super().__init__()
        inner, out = features * wide // 64 * groups, features * self.expansion
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if stride != 1 or before != out:
            self.downsample = nn.Sequential(nn.Conv2d(before, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """One block."""
        passed = x if self.downsample is None else self.downsample(x)
        inner = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(inner)) + passed)


class PreActResNet(nn.Module):
    """Pre-activation residual network with a 3×3 stem.

    Args:
        channels: of the images.
        classes: number of logits.
        blocks: blocks in each of the stages.
        features: features of each stage.
    """

    def __init__(self, channels: int, classes: int, blocks: Sequence[int], features: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, features[0], 3, 1, 1, bias=False)
        self.stages = nn.Sequential(*_stages(PreActBlock, features[0], blocks, features))
        self.norm = nn.BatchNorm2d(features[-1])
        self.head = nn.Linear(features[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        features = F.relu(self.norm(self.stages(self.stem(x))))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


class ResNet(nn.Module):
    """Residual network; parameter names are those of torchvision's, so that its weights load.

    Args:
        channels: of the images.
        classes: number of logits.
        blocks: blocks in each of the four stages.
        small: a 3×3 stem of stride 1 without pooling, for small images; else 7×7 of stride 2 with pooling.
        width: features of the first stage.
        block: makes a block, of the features coming in, those of the stage, and a stride.
        expansion: how many times the features of its stage a block gives.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        blocks: Sequence[int],
        *,
        small: bool,
        width: int = 64,
        block: Callable[[int, int, int], nn.Module] = BasicBlock,
        expansion: int = 1,
    ) -> None:
        super().__init__()
        kernel, stride, pad = (3, 1, 1) if small else (7, 2, 3)
        self.conv1 = nn.Conv2d(channels, width, kernel, stride, pad, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.small = small
        features = [width * 2**i for i in range(4)]
        stages = [nn.Sequential(*group) for group in _grouped(block, width, blocks, features, expansion)]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(expansion * features[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = F.relu(self.bn1(self.conv1(x)))
        if not self.small:
            x = F.max_pool2d(x, 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(torch.flatten(x.mean((2, 3)), 1))
        return logits


def preactresnet18(channels: int, classes: int, size: int, *, width: int = 64) -> nn.Module:
    """PreActResNet-18, 64-128-256-512 features: the network of Metzen, 2018.

    Args:
        channels: of the images.
        classes: number of logits.
        size: side of the images in pixels, at least 8.
        width: features of the first stage.

    Source: He et al., "Identity mappings in deep residual networks", ECCV 2016.
    """
    whole("size", size, least=8)
    return PreActResNet(channels, classes, (2, 2, 2, 2), [width * 2**i for i in range(4)])


def resnet18(channels: int, classes: int, size: int, *, width: int = 64) -> nn.Module:
    """ResNet-18; the stem is 3×3 of stride 1 below 64 pixels. Arguments as in `resnet34`."""
    return ResNet(channels, classes, (2, 2, 2, 2), small=size < 64, width=width)


def resnet34(channels: int, classes: int, size: int, *, width: int = 64) -> nn.Module:
    """ResNet-34, as Tong et al., 2020, use it: below 64 pixels the first convolution is 3×3, stride 1, pad 1.

    Args:
        channels: of the images.
        classes: number of logits.
        size: side of the images in pixels.
        width: features of the first stage.

    Source: He et al., "Deep residual learning", CVPR 2016; the stem from Tong et al., 2020, appendix C. Deviation: for
    small images the pooling after the stem is left out too, as is usual at that size; the paper does not mention it.
    """
    return ResNet(channels, classes, (3, 4, 6, 3), small=size < 64, width=width)


def resnet50(channels: int, classes: int, size: int) -> nn.Module:
    """ResNet-50; the stem is 3×3 of stride 1 below 64 pixels. Arguments as in `resnet34`."""
    block, expansion = Bottleneck, Bottleneck.expansion
    return ResNet(channels, classes, (3, 4, 6, 3), small=size < 64, block=block, expansion=expansion)


def resnext50(channels: int, classes: int, size: int) -> nn.Module:
    """ResNeXt-50 32×4d; the stem is 3×3 of stride 1 below 64 pixels. Arguments as in `resnet34`.

    Source: Xie et al., "Aggregated residual transformations for deep neural networks", CVPR 2017, table 1.
    """
    block = partial(Bottleneck, groups=32, wide=4)
    return ResNet(channels, classes, (3, 4, 6, 3), small=size < 64, block=block, expansion=Bottleneck.expansion)


def _grouped(
    block: Callable[[int, int, int], nn.Module],
    before: int,
    blocks: Sequence[int],
    features: Sequence[int],
    expansion: int = 1,
) -> list[list[nn.Module]]:
    groups = []
    for stage, (count, wide) in enumerate(zip(blocks, features, strict=True)):
        out = expansion * wide
        groups.append([block(before if i == 0 else out, wide, 2 if stage and i == 0 else 1) for i in range(count)])
        before = out
    return groups


def _stages(
    block: Callable[[int, int, int], nn.Module], before: int, blocks: Sequence[int], features: Sequence[int]
) -> list[nn.Module]:
    return [layer for group in _grouped(block, before, blocks, features) for layer in group]
