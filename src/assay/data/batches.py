"""Batches without end."""

from collections.abc import Iterator

import torch

from assay.core.arguments import whole
from assay.core.rng import Rng
from assay.core.types import Images, Labels


def random_batches(x: Images, y: Labels, size: int = 128, seed: int = 0) -> Iterator[tuple[Images, Labels]]:
    """Batches drawn uniformly at random from tensors, for ever.

    Args:
        x: images, ``(n, c, h, w)``.
        y: labels, ``(n,)``.
        size: images a batch.
        seed: of the draws.
    """
    rng, turn = Rng(seed), 0
    while True:
        place = rng.uniform(torch.tensor([turn]), (whole("size", size, least=1),), "batch")[0]
        at = (place.double() * len(x)).long().clamp_max(len(x) - 1).to(x.device)
        yield x[at], y[at]
        turn += 1
