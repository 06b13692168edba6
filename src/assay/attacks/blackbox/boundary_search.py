"""Row-wise search for the boundary along a direction, from labels; one query a step."""

from typing import NamedTuple

import torch

from assay.core.tree import expand_rows
from assay.core.types import Count, Flag, Images, PerRow

_FIRST, _GROW, _FALL, _HALVE, _DONE = range(5)


class Ray(NamedTuple):
    """A search along a direction; a tree with the rows first.

    Attributes:
        direction: of length 1, ``(b, c, h, w)``.
        low: a length at which nothing was adversarial.
        high: a length at which the image was; infinity where there is none.
        pace: factor by which the length changes while there is no bracket.
        exact: how narrow the bracket has to become.
        mode: what is asked next.
    """

    direction: Images
    low: PerRow
    high: PerRow
    pace: PerRow
    exact: PerRow
    mode: Count


def begin(direction: Images, length: PerRow, exact: PerRow, *, further: bool) -> Ray:
    """A search that starts at a length.

    Args:
        direction: of any length.
        length: where to look first.
        exact: how narrow the bracket has to become.
        further: whether to look further out where the first length is not adversarial; otherwise that ends it.
    """
    norm = direction.flatten(1).norm(dim=1).clamp_min(1e-12)
    pace = torch.full_like(length, 1.01 if further else 0.0)
    return Ray(
        direction / expand_rows(norm, direction),
        torch.zeros_like(length),
        length,
        pace,
        exact,
        torch.full(length.shape, _FIRST, device=length.device),
    )


def ask(ray: Ray) -> PerRow:
    """The length to look at next."""
    return torch.where(
        ray.mode == _HALVE, 0.5 * (ray.low + ray.high), torch.where(ray.mode == _FALL, ray.low, ray.high)
    )


def answer(ray: Ray, is_adversarial: Flag, longest: float) -> Ray:
    """What the search knows after the answer.

    Args:
        ray: the search.
        is_adversarial: whether the image at that length was adversarial.
        longest: beyond this length the search gives up.
    """
    mode, low, high, pace = ray.mode, ray.low, ray.high, ray.pace
    first, grow, fall, halve = (mode == m for m in (_FIRST, _GROW, _FALL, _HALVE))
    outside = ~is_adversarial & (first | grow)
    lost = outside & ((pace == 0) | (high * pace > longest))
    inside = is_adversarial & (first | fall)
    faster = torch.where(first | halve, pace, 1 + 1.5 * (pace - 1))
    step = torch.where(pace == 0, 1.01, faster)
    new_low = torch.where(outside, high, low)
    new_low = torch.where(inside, torch.where(first, high, low) * (2 - step).clamp_min(0.5), new_low)
    new_low = torch.where(halve & ~is_adversarial, 0.5 * (low + high), new_low)
    new_high = torch.where(outside, high * step, high)
    new_high = torch.where(is_adversarial & fall, low, new_high)
    new_high = torch.where(halve & is_adversarial, 0.5 * (low + high), new_high)
    new_high = torch.where(lost, torch.inf, new_high)
    new_mode = torch.where(outside, _GROW, mode)
    new_mode = torch.where(inside, _FALL, new_mode)
    new_mode = torch.where((grow & is_adversarial) | (fall & ~is_adversarial), _HALVE, new_mode)
    narrow = (new_mode == _HALVE) & (new_high - new_low <= ray.exact)
    new_mode = torch.where(lost | narrow | ((new_mode == _FALL) & (new_high <= ray.exact)), _DONE, new_mode)
    done = mode == _DONE
    return Ray(
        ray.direction,
        torch.where(done, low, new_low),
        torch.where(done, high, new_high),
        torch.where(done, pace, torch.where(pace == 0, step, step)),
        ray.exact,
        torch.where(done, mode, new_mode),
    )


def finished(ray: Ray) -> Flag:
    """Whether the length is known: `Ray.high`, infinity where there is none."""
    return ray.mode == _DONE
