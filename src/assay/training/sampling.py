"""Which images a step meets: order, mirroring and seeds, each a function of its address alone."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from assay.training.objectives.batch import Batch
from assay.training.recipe import Recipe


def batches(count: int, recipe: Recipe, epoch: int) -> Iterator[Tensor]:
    """The epoch's order, a function of seed and epoch alone."""
    generator = torch.Generator().manual_seed(seed_of(recipe.seed, epoch, -1))
    yield from torch.randperm(count, generator=generator).split(recipe.batch)


def seed_of(seed: int, epoch: int, step: int) -> int:
    """A seed of its own for each (seed, epoch, step)."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{step}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little")


def flip_randomly(batch: Batch) -> Batch:
    """Images and masks, mirrored at random."""
    turned = batch.uniform("flip", (1, 1, 1)) < 0.5
    mask = None if batch.mask is None else torch.where(turned, batch.mask.flip(3), batch.mask)
    return replace(batch, x=torch.where(turned, batch.x.flip(3), batch.x), mask=mask)
