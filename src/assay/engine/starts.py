"""Images to start from, for attacks that go by labels alone."""

import torch
from torch import Tensor

from assay.core.types import Images, Labels
from assay.util.validate import described, reject


def nearest_starts(x: Images, y: Labels, pool: Images, classes: Labels, target: Labels | None = None) -> Images:
    """For each image the nearest one, in l2, that has the class to be reached.

    Args:
        x: images, ``(n, c, h, w)``.
        y: their labels, ``(n,)``.
        pool: images to choose from, ``(m, c, h, w)``.
        classes: the class of each, as labelled or as predicted, ``(m,)``; below 0 for none.
        target: the class that each of ``x`` is to reach, ``(n,)``; by default any but its label.

    Returns:
        Images of the shape of ``x``; an image for which the pool holds none is returned itself.

    Raises:
        ValueError: a pool of images of another shape.

    Example:
        >>> x = torch.tensor([0.0, 0.4, 1.0]).view(3, 1, 1, 1)
        >>> nearest_starts(x, torch.tensor([0, 0, 1]), x, torch.tensor([0, 0, 1])).flatten().tolist()
        [1.0, 1.0, 0.4000000059604645]
    """
    if pool.shape[1:] != x.shape[1:]:
        reject(
            "start",
            f"images of shape {tuple(x.shape[1:])}, like those that are attacked",
            described(f"shape {tuple(pool.shape[1:])}"),
        )
    starts = x.clone()
    wanted = y if target is None else target
    flat, others = x.flatten(1).double(), pool.flatten(1).double()
    whole = others.isfinite().all(1)
    for label in wanted.unique().tolist():
        rows = (wanted == label).nonzero().squeeze(1)
        fits = (classes >= 0) & (classes != label) if target is None else classes == label
        choice = (fits & whole).nonzero().squeeze(1)
        if len(choice):
            starts[rows] = pool[choice[_nearest(flat[rows], others[choice])]].to(x.dtype)
    return starts


def _nearest(x: Tensor, pool: Tensor, most: int = 4096) -> Tensor:
    """Position of the nearest row of the pool; of the pool a part at a time."""
    best = torch.full((len(x),), torch.inf, dtype=x.dtype)
    at = torch.zeros(len(x), dtype=torch.int64)
    for first in range(0, len(pool), most):
        distance, place = torch.cdist(x, pool[first : first + most]).min(1)
        closer = distance < best
        best, at = torch.where(closer, distance, best), torch.where(closer, place + first, at)
    return at
