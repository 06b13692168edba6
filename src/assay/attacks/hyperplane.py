"""The smallest perturbation that reaches a hyperplane without leaving the box, row by row, for each norm.

All functions take flat rows: ``w = |normal| ≥ 0``, ``room ≥ 0`` (how far each coordinate may go in the direction that
helps) and ``need ≥ 0`` ``(b, 1)``, and return magnitudes m with ``⟨w, m⟩ = need`` and ``m ≤ room`` of least norm; where
the box is too small, ``m = room``.

Source: Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020,
section 2.2 and appendix A (problem 2), solved here on the CPU by Newton's method on the multiplier, which is exact for
the piecewise linear sum and ends as soon as nothing moves; on an accelerator, where that question would be a wait, by
sorting the places where it bends; for l1 by sorting.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from assay.parts.projections import Flat, Radius

_TINY = 1e-30


def reach(norm: str, normal: Flat, room_up: Flat, room_down: Flat, offset: Radius) -> Flat:
    """The smallest step d with ``⟨normal, d⟩ = offset`` inside the box.

    Args:
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        normal: of the hyperplane, ``(b, n)``.
        room_up: how far each coordinate may grow.
        room_down: how far each may fall.
        offset: what the step has to add along the normal, of either sign, ``(b, 1)``.

    Returns:
        The step, ``(b, n)``; the best the box allows where it is too small.

    Example:
        >>> big = torch.full((1, 2), 9.0)
        >>> reach("l2", torch.tensor([[3.0, 4.0]]), big, big, torch.tensor([[-5.0]])).tolist()
        [[-0.6..., -0.8...]]
    """
    direction = normal.sign() * torch.where(offset < 0, -1.0, 1.0).to(normal)
    room = torch.where(direction > 0, room_up, room_down).clamp_min(0)
    weight = normal.abs()
    solve = {"linf": _reach_linf, "l2": _reach_l2, "l1": _reach_l1}[norm]
    scale = weight.amax(1, keepdim=True).clamp_min(_TINY)
    return direction * solve(weight / scale, room, offset.abs() / scale)


def _reach_l2(w: Flat, room: Flat, need: Radius) -> Flat:
    """``m = min(s·w, room)``: the concave sum ``Σ w·min(s·w, room)`` meets the need."""
    square, capacity = w * w, w * room
    if w.device.type == "cpu":
        s = _newton(lambda s: s * w < room, square, capacity, need)
    else:
        s = by_sorting(room / w.clamp_min(_TINY), square, capacity, need)
    return torch.minimum(s * w, room)


def _reach_linf(w: Flat, room: Flat, need: Radius) -> Flat:
    """``m = min(s, room)`` where w > 0."""
    if w.device.type == "cpu":
        s = _newton(lambda s: s < room, w, w * room, need)
    else:
        s = by_sorting(room, w, w * room, need)
    return torch.minimum(s.expand_as(room), room) * (w > 0)


def by_sorting(bends: Flat, slope: Flat, capacity: Flat, need: Radius) -> Radius:
    """The s at which ``Σ min(s·slope, capacity)`` meets the need, from the sorted places where a term is full.

    Args:
        bends: ``capacity / slope``.
        slope: at least 0.
        capacity: at least 0.
        need: at least 0, ``(b, 1)``.

    Returns:
        s, ``(b, 1)``; very large where the need is more than all capacity.

    Example:
        >>> by_sorting(torch.tensor([[1.0, 4.0]]), torch.ones(1, 2), torch.tensor([[1.0, 4.0]]), torch.tensor([[3.0]]))
        tensor([[2.]])
    """
    most = torch.finfo(need.dtype).max ** 0.5
    bends, order = bends.clamp_max(most).sort(dim=1)
    slope, capacity = slope.gather(1, order), capacity.gather(1, order)
    full, left = capacity.cumsum(1), slope.flip(1).cumsum(1).flip(1)  # of the terms up to here, from here on
    before = full - capacity
    reached = torch.addcmul(before, bends, left)  # the sum where a term is full
    place = (reached < need).sum(1, keepdim=True)
    at = place.clamp_max(bends.shape[1] - 1)
    s = (need - before.gather(1, at)) / left.gather(1, at).clamp_min(_TINY)
    return s.clamp(0, most).masked_fill(place > at, most)


def _newton(free: Callable[[Radius], Tensor], slope: Flat, capacity: Flat, need: Radius, rounds: int = 40) -> Radius:
    """The s at which ``Σ_free s·slope + Σ_full capacity`` meets the need; it only grows, so every round stays below."""
    most = torch.finfo(need.dtype).max ** 0.5
    s = (need / slope.sum(1, keepdim=True).clamp_min(_TINY)).clamp_max(most)
    for _ in range(rounds):
        still = free(s)
        inner = torch.where(still, slope, 0.0).sum(1, keepdim=True)
        outer = torch.where(still, 0.0, capacity).sum(1, keepdim=True)
        grown = torch.where(inner > _TINY, (need - outer) / inner.clamp_min(_TINY), most).clamp_max(most)
        moves = grown > s * (
            1 + torch.finfo(s.dtype).eps
        )  # a row that has settled stays, so that no row depends on its batch
        if s.device.type == "cpu" and not bool(moves.any()):
            break
        s = torch.where(moves, grown, s)
    return s


def _reach_l1(w: Flat, room: Flat, need: Radius) -> Flat:
    """The coordinates with the largest weights first, each to its room."""
    order = w.argsort(dim=1, descending=True, stable=True)
    sorted_w = w.gather(1, order)
    capacity = sorted_w * room.gather(1, order)
    before = capacity.cumsum(1) - capacity
    used = torch.minimum(capacity, (need - before).clamp_min(0))
    step = torch.where(sorted_w > _TINY, used / sorted_w.clamp_min(_TINY), 0.0)
    return torch.zeros_like(w).scatter(1, order, step)
