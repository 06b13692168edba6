"""Endless random batches."""

from collections.abc import Iterator

import torch

from assay.core.rng import Rng
from assay.core.types import Images, Labels
from assay.util.validate import whole


def random_batches(x: Images, y: Labels, size: int = 128, seed: int = 0) -> Iterator[tuple[Images, Labels]]:
    """Batches drawn uniformly at random from tensors, for ever.

    Args:
        x: images, ``(n, c, h, w)``.
        y: labels, ``(n,)``.
        size: images a batch.
        seed: of the draws.
    """
    for at in random_indices(len(x), size, seed):
        yield x[at.to(x.device)], y[at.to(y.device)]


def random_indices(count: int, size: int, seed: int) -> Iterator[Labels]:
    """Batches of ``size`` indices below ``count``, with repetition, for ever.

    Example:
        >>> next(random_indices(10, 4, seed=0)).shape
        torch.Size([4])
    """
    rng, turn = Rng(seed), 0
    whole("size", size, least=1)
    while True:
        place = rng.uniform(torch.tensor([turn]), (size,), "batch")[0]
        yield (place.double() * count).long().clamp_max(count - 1)
        turn += 1
