"""The small convolutional networks of the papers, and one for the tests and the demo."""

from torch import nn

from assay.util.validate import whole


def tiny_cnn(channels: int, classes: int, size: int, *, width: int = 16) -> nn.Module:
    """Three normalised convolutions and one dense layer: seconds to train on a CPU.

    Args:
        channels: of the images.
        classes: number of logits.
        size: side of the images in pixels, at least 4.
        width: features of the first layer, doubled twice.
    """
    _check(channels, classes, size, least=4)
    layers: list[nn.Module] = []
    before = channels
    for features, kernel, stride in ((width, 3, 1), (2 * width, 4, 2), (4 * width, 4, 2)):
        layers += [nn.Conv2d(before, features, kernel, stride, 1, bias=False), nn.BatchNorm2d(features), nn.ReLU()]
        before = features
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64 * width, classes))


def conv_small(channels: int, classes: int, size: int) -> nn.Module:
    """Two strided convolutions and two dense layers, without normalisation: for certified training.

    Args:
        channels: of the images.
        classes: number of logits.
        size: side of the images in pixels, at least 10.

    Source: Gowal et al., "On the effectiveness of interval bound propagation for training verifiably robust models",
    2018, table 1 ("small").
    """
    _check(channels, classes, size, least=10)
    side = (size - 4) // 2 + 1 - 3
    layers = (nn.Conv2d(channels, 16, 4, 2), nn.ReLU(), nn.Conv2d(16, 32, 4, 1), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(32 * side**2, 100), nn.ReLU(), nn.Linear(100, classes))


def gtsrb_cnn(channels: int, classes: int, size: int) -> nn.Module:
    """C32-C32-MP-D0.2-C64-C64-MP-D0.2-C128-C128-MP-D0.2-L512-D0.5-L: the non-residual network of Metzen, 2018.

    Args:
        channels: of the images.
        classes: number of logits.
        size: side of the images in pixels, at least 8.

    Source: Metzen, "Universality, robustness, and detectability of adversarial perturbations under adversarial
    training", appendix I. The kernel is not stated there; 3×3 with padding is used.
    """
    _check(channels, classes, size, least=8)
    layers: list[nn.Module] = []
    before = channels
    for features in (32, 64, 128):
        layers += [nn.Conv2d(before, features, 3, padding=1), nn.ReLU(), nn.Conv2d(features, features, 3, padding=1)]
        layers += [nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2)]
        before = features
    layers += [nn.Flatten(), nn.Linear(128 * (size // 8) ** 2, 512), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(512, classes))


def strattack_cnn(channels: int, classes: int, size: int, *, features: int = 32, dense: int = 200) -> nn.Module:
    """Four convolutions, two poolings, two dense layers and the output: the network of the StrAttack paper.

    Args:
        channels: of the images.
        classes: number of logits.
        size: side of the images in pixels, at least 16.
        features: of the first two convolutions, doubled for the others (32 for MNIST, 64 for CIFAR-10).
        dense: units of the dense layers (200 for MNIST, 256 for CIFAR-10).

    Source: Xu et al., "Structured adversarial attack", ICLR 2019, appendix F, which names the layers; their sizes
    are those of Carlini & Wagner, S&P 2017, table I, whose networks it uses. The softmax is left out: models return
    logits.
    """
    _check(channels, classes, size, least=16)
    side = ((size - 4) // 2 - 4) // 2
    return nn.Sequential(
        nn.Conv2d(channels, features, 3),
        nn.ReLU(),
        nn.Conv2d(features, features, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(features, 2 * features, 3),
        nn.ReLU(),
        nn.Conv2d(2 * features, 2 * features, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * features * side**2, dense),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(dense, dense),
        nn.ReLU(),
        nn.Linear(dense, classes),
    )


def strattack_cnn_cifar10(channels: int, classes: int, size: int) -> nn.Module:
    """`strattack_cnn` with the sizes of its paper for CIFAR-10: 64 and 128 features, 256 units."""
    return strattack_cnn(channels, classes, size, features=64, dense=256)


def _check(channels: int, classes: int, size: int, least: int = 1) -> None:
    whole("channels", channels, least=1)
    whole("classes", classes, least=2)
    whole("size", size, least=least)
