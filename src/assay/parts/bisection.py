"""Row-wise search of a trade-off constant: grow it until something is found, then halve the bracket."""

from typing import NamedTuple

import torch
from torch import Tensor

from assay.core.types import Flag, PerRow


class Bracket(NamedTuple):
    """A row's constant and what is known of it; a tree with the rows first.

    Attributes:
        constant: to try now.
        low: the largest with which nothing was found.
        high: the smallest with which something was found; infinity before that.
    """

    constant: PerRow
    low: PerRow
    high: PerRow


def begin(like: Tensor, initial: float) -> Bracket:
    """The first constant for each row of ``like``."""
    constant = torch.full((len(like),), initial, dtype=like.dtype, device=like.device)
    return Bracket(constant, torch.zeros_like(constant), torch.full_like(constant, torch.inf))


def narrow(bracket: Bracket, has_hit: Flag, growth: float = 10.0) -> Bracket:
    """The next constant after a round.

    Args:
        bracket: as it was.
        has_hit: whether the round found an adversarial example, ``(b,)``.
        growth: factor on the constant while nothing has been found.

    Source: Carlini & Wagner, S&P 2017, section V-C (modified binary search), row by row.
    """
    high = torch.where(has_hit, torch.minimum(bracket.high, bracket.constant), bracket.high)
    low = torch.where(has_hit, bracket.low, torch.maximum(bracket.low, bracket.constant))
    constant = torch.where(high.isfinite(), 0.5 * (low + high), low * growth)
    return Bracket(constant, low, high)
