"""The corruptions by name, with the published parameters: a new one is a function and a line here."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.core.rng import content_keys
from assay.core.types import Images, Labels
from assay.corruptions import blur, digital, noise, weather
from assay.util.registry import Registry
from assay.util.validate import described, one_of, reject, whole

SEVERITIES = (1, 2, 3, 4, 5)
TABLES = ("auto", "imagenet", "cifar")


@dataclass(frozen=True)
class Corruption:
    """One corruption.

    Attributes:
        change: from an image, random numbers and the parameters.
        imagenet: parameters of each severity, as in ImageNet-C.
        cifar: those of CIFAR-10-C.
        extra: whether it is one of the four that are not part of the mean corruption error.
    """

    change: Callable[..., Any]
    imagenet: tuple[Any, ...]
    cifar: tuple[Any, ...]
    extra: bool = False


CORRUPTIONS: Registry[Corruption] = Registry(
    "name",
    {
        "gaussian_noise": Corruption(noise.gaussian, (0.08, 0.12, 0.18, 0.26, 0.38), (0.04, 0.06, 0.08, 0.09, 0.10)),
        "shot_noise": Corruption(noise.shot, (60, 25, 12, 5, 3), (500, 250, 100, 75, 50)),
        "impulse_noise": Corruption(noise.impulse, (0.03, 0.06, 0.09, 0.17, 0.27), (0.01, 0.02, 0.03, 0.05, 0.07)),
        "defocus_blur": Corruption(
            blur.defocus,
            ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
            ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ),
        "glass_blur": Corruption(
            blur.glass,
            ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
            ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ),
        "motion_blur": Corruption(
            blur.motion, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))
        ),
        "zoom_blur": Corruption(
            blur.zoom,
            ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
            ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        ),
        "snow": Corruption(
            weather.snow,
            (
                (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
                (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
                (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
                (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
                (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
            ),
            (
                (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
                (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
                (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
                (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
                (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
            ),
        ),
        "frost": Corruption(
            weather.frost,
            ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
            ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ),
        "fog": Corruption(
            weather.fog,
            ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
            ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ),
        "brightness": Corruption(weather.brightness, (0.1, 0.2, 0.3, 0.4, 0.5), (0.05, 0.1, 0.15, 0.2, 0.3)),
        "contrast": Corruption(digital.contrast, (0.4, 0.3, 0.2, 0.1, 0.05), (0.75, 0.5, 0.4, 0.3, 0.15)),
        "elastic_transform": Corruption(
            digital.elastic,
            (
                (12.5, 0.01, 0.005, 0),
                (16.25, 0.01, 0.005, 0),
                (21.25, 0.01, 0.005, 0),
                (25, 0.01, 0.005, 0),
                (30, 0.01, 0.005, 0),
            ),
            ((0, 0, 1, 0.08), (0.05, 0.2, 1, 0.07), (0.08, 0.06, 1, 0.06), (0.1, 0.04, 1, 0.05), (0.1, 0.03, 1, 0.03)),
        ),
        "pixelate": Corruption(
            digital.pixelate,
            ((0.6, 0), (0.5, 0), (0.4, 0), (0.3, 0), (0.25, 0)),
            ((0.95, 1), (0.9, 1), (0.85, 1), (0.75, 1), (0.65, 1)),
        ),
        "jpeg_compression": Corruption(digital.jpeg, (25, 18, 15, 10, 7), (80, 65, 58, 50, 40)),
        "speckle_noise": Corruption(
            noise.speckle, (0.15, 0.2, 0.35, 0.45, 0.6), (0.06, 0.1, 0.12, 0.16, 0.2), extra=True
        ),
        "gaussian_blur": Corruption(blur.gaussian, (1, 2, 3, 4, 6), (0.4, 0.6, 0.7, 0.8, 1), extra=True),
        "spatter": Corruption(
            weather.spatter,
            (
                (0.65, 0.3, 4, 0.69, 0.6, 0),
                (0.65, 0.3, 3, 0.68, 0.6, 0),
                (0.65, 0.3, 2, 0.68, 0.5, 0),
                (0.65, 0.3, 1, 0.65, 1.5, 1),
                (0.67, 0.4, 1, 0.65, 1.5, 1),
            ),
            (
                (0.62, 0.1, 0.7, 0.7, 0.5, 0),
                (0.65, 0.1, 0.8, 0.7, 0.5, 0),
                (0.65, 0.3, 1, 0.69, 0.5, 0),
                (0.65, 0.1, 0.7, 0.69, 0.6, 1),
                (0.65, 0.1, 0.5, 0.68, 0.6, 1),
            ),
            extra=True,
        ),
        "saturate": Corruption(
            digital.saturate,
            ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
            ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
            extra=True,
        ),
    },
)


def corrupt(
    x: Images, name: str, severity: int, *, table: str = "auto", seed: int = 0, ids: Labels | None = None
) -> Images:
    """Corrupt each image by draws of its own.

    Args:
        x: images, ``(n, c, h, w)`` in [0, 1]; any number of channels (colours are meant for three).
        name: a name of `CORRUPTIONS`.
        severity: 1 to 5.
        table: whose parameters: ``"imagenet"`` (meant for 224 pixels), ``"cifar"`` (for 32), or ``"auto"``: the first
            from 64 pixels on.
        seed: of the draws.
        ids: int64 address of each image's draws; by default derived from its pixels.

    Returns:
        Images of the same shape, type and device, in 256 levels, as the benchmark's files have them.

    Raises:
        TypeError, ValueError: a wrong argument, by name.

    Example:
        >>> corrupt(torch.full((1, 1, 4, 4), 0.5), "contrast", 3)[0, 0, 0, :2]
        tensor([0.4980, 0.4980])

    Source: Hendrycks & Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations",
    ICLR 2019, section 3 and appendix B. Deviations: ``frost`` draws its ice (the photographs are not shipped); motion
    blur is computed here, not by ImageMagick; Poisson and other draws belong to the image, not to its place in a run.
    """
    chosen = CORRUPTIONS.find(name)
    if whole("severity", severity) not in SEVERITIES:
        reject("severity", "1, 2, 3, 4 or 5", severity)
    one_of("table", table, TABLES)
    if x.ndim != 4:
        reject("x", "images, (n, c, h, w)", described(f"shape {tuple(x.shape)}"))
    if table == "auto":
        table = "imagenet" if min(x.shape[2:]) >= 64 else "cifar"
    parameters = (chosen.imagenet if table == "imagenet" else chosen.cifar)[severity - 1]
    parameters = parameters if isinstance(parameters, tuple) else (parameters,)
    keys = content_keys(x.detach().cpu(), torch.zeros(len(x), dtype=torch.int64)) if ids is None else ids
    images = x.detach().cpu().permute(0, 2, 3, 1).double().numpy()
    corrupted = np.empty_like(images)
    for row, key in enumerate(keys.tolist()):
        draws = np.random.default_rng([seed, key & 0xFFFF_FFFF_FFFF_FFFF, zlib.crc32(name.encode()), severity])
        corrupted[row] = np.clip(chosen.change(images[row], draws, *parameters), 0, 1)
    eight: Tensor = (torch.from_numpy(corrupted) * 255 + 1e-6).floor() / 255
    return eight.permute(0, 3, 1, 2).to(x)
