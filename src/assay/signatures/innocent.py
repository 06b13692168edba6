"""Innocent changes of images: noise, compression, blur and the other corruptions, which are no attack."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from assay.core.rng import Rng
from assay.core.types import Images
from assay.corruptions.registry import CORRUPTIONS, SEVERITIES, corrupt

_BOUNDS = (4, 8, 16)
"""Largest change of uniform noise, in 256ths: the budgets of the attacks that it could be taken for."""


@dataclass(frozen=True)
class Innocent:
    """A change that no attack made.

    Attributes:
        words: for tables.
        group: the corruption, or ``"uniform noise"``.
        change: from images ``(n, c, h, w)`` and a seed, images of the same shape.
    """

    words: str
    group: str
    change: Callable[[Images, int], Images]


def innocent_changes() -> tuple[Innocent, ...]:
    """Uniform noise in the budgets of attacks, and every corruption at every severity.

    Example:
        >>> changes = innocent_changes()
        >>> changes[0].words, changes[-1].group in CORRUPTIONS
        ('uniform noise 4/255', True)
    """
    noises = [
        Innocent(f"uniform noise {bound}/255", "uniform noise", partial(_uniform, bound / 255)) for bound in _BOUNDS
    ]
    corruptions = [
        Innocent(f"{name.replace('_', ' ')} {severity}", name.replace("_", " "), partial(_corrupt, name, severity))
        for severity in SEVERITIES
        for name in CORRUPTIONS
    ]
    return (*noises, *corruptions)


def innocent_images(base: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Every image changed by one of `innocent_changes`, in turn.

    Args:
        base: clean images, ``(n, c, h, w)``, uint8.
        seed: of the draws.

    Returns:
        Images of the same shape, uint8, and the position of the change that each was given.
    """
    changes = innocent_changes()
    which = torch.arange(len(base)) % len(changes)
    images = torch.empty_like(base)
    for i, innocent in enumerate(changes[: len(base)]):
        at = (which == i).nonzero().squeeze(1)
        changed = innocent.change(base[at].float() / 255, seed)
        images[at] = (changed * 255).round().clamp(0, 255).to(torch.uint8)
    return images, which


def _uniform(bound: float, x: Images, seed: int) -> Images:
    draws = Rng(seed).uniform(torch.arange(len(x)), tuple(x.shape[1:]), "innocent")
    return (x + bound * (2 * draws.to(x) - 1)).clamp(0, 1)


def _corrupt(name: str, severity: int, x: Images, seed: int) -> Images:
    return corrupt(x, name, severity, seed=seed)
