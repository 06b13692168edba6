"""Nearest points in a norm ball and the box, row by row.

All functions take flat rows: ``v = |δ| ≥ 0`` and ``room ≥ 0``, how far each coordinate may go before the image
leaves [0, 1], both ``(b, n)``, and ``radius`` ``(b, 1)``. They return the new magnitudes; signs never change,
because the nearest point of a set that is symmetric about 0 in each coordinate's direction keeps them.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from assay.core.types import Images, PerRow

Flat = Float[Tensor, "b n"]
Radius = Float[Tensor, "b 1"]

_TINY = 1e-30


def project_l2(v: Flat, room: Flat, radius: Radius, *, rounds: int = 12) -> Flat:
    """Nearest point of the l2 ball and the box.

    The solution is ``min(s·v, room)`` for one s in (0, 1] a row. Starting from ``s = radius / ‖v‖`` (feasible), each
    round solves for s with the coordinates that are at the box now; s only grows and every round stays feasible.
    It ends exactly when no coordinate joins the box, usually within four rounds.

    Args:
        v: magnitudes.
        room: room to the box.
        radius: radius of the ball.
        rounds: the most rounds; on the CPU it stops as soon as nothing moves.

    Returns:
        Magnitudes with ``‖·‖₂ ≤ radius`` and ``· ≤ room``.
    """
    square, edge = v * v, room * room
    target = radius * radius
    s = (radius / square.sum(1, keepdim=True).sqrt().clamp_min(_TINY)).clamp_max(1.0)
    for _ in range(rounds):
        free = s * v < room
        inner = torch.where(free, square, 0.0).sum(1, keepdim=True)
        outer = torch.where(free, 0.0, edge).sum(1, keepdim=True)
        grown = torch.where(inner > _TINY, ((target - outer).clamp_min(0) / inner.clamp_min(_TINY)).sqrt(), 1.0)
        grown = torch.maximum(grown.clamp_max(1.0), s)
        moves = (
            grown - s > torch.finfo(s.dtype).eps * s
        )  # a row that has settled stays, so that no row depends on its batch
        if v.device.type == "cpu" and not bool(moves.any()):
            break
        s = torch.where(moves, grown, s)
    return _inside(torch.minimum(s * v, room), radius, lambda w: w.square().sum(1, keepdim=True).sqrt())


def into_l2(delta: Images, x: Images, radius: PerRow, *, rounds: int = 2) -> Images:
    """A point of the l2 ball and the box that is nearly the nearest one, with few operators.

    The perturbation is scaled to the sphere and clipped to the box; each round gives what the clipping took to all
    coordinates alike, and clips again. Every round stays inside both. `project_l2` is exact.

    Args:
        delta: perturbations, ``(b, c, h, w)``.
        x: the images, in [0, 1].
        radius: radius of each row's ball, ``(b,)``.
        rounds: how often what was clipped is given back.
    """
    low, high = -x, 1 - x
    over = (1,) * (delta.dim() - 1)
    axes = tuple(range(1, delta.dim()))
    radius = radius.reshape(-1, *over)
    scale: Tensor | None = None
    inside = delta
    for _ in range(rounds + 1):
        length = torch.linalg.vector_norm(inside, 2, axes, keepdim=True)
        grown = radius / length.clamp_min_(_TINY)
        scale = grown.clamp_max_(1.0) if scale is None else (scale * grown).clamp_(max=1.0)
        inside = (delta * scale).clamp_(low, high)
    return inside


def project_l1(v: Flat, room: Flat, radius: Radius, *, rounds: int = 64) -> Flat:
    """Nearest point of the l1 ball and the box.

    The solution is ``clamp(v − λ, 0, room)`` for one λ ≥ 0 a row, found by Newton's method on the piecewise linear
    sum, kept in a bracket; every other round halves the bracket, because Newton can creep where the sum is steep.

    Args:
        v: magnitudes.
        room: room to the box.
        radius: radius of the ball.
        rounds: the most rounds; on the CPU it stops when the sum is met to rounding.

    Returns:
        Magnitudes with ``‖·‖₁ ≤ radius`` and ``· ≤ room``.
    """
    low = torch.zeros_like(radius)
    high = v.amax(1, keepdim=True)
    shift = low
    for turn in range(rounds):
        cut = v - shift
        kept = cut.clamp_min(0).minimum(room)
        excess = kept.sum(1, keepdim=True) - radius
        settled = (excess.abs() <= 8 * torch.finfo(v.dtype).eps * radius) | (
            (excess <= 0) & (shift <= 0)
        )  # and stays so
        if v.device.type == "cpu" and bool(settled.all()):
            break
        low, high = torch.where(excess > 0, shift, low), torch.where(excess > 0, high, shift)
        slope = ((cut > 0) & (cut < room)).sum(1, keepdim=True).clamp_min(1)
        newton = shift + excess / slope
        inside = (newton > low) & (newton < high) & (turn % 2 == 0)
        shift = torch.where(settled, shift, torch.where(inside, newton, 0.5 * (low + high)))
    shift = torch.where(torch.minimum(v, room).sum(1, keepdim=True) <= radius, torch.zeros_like(shift), shift)
    kept = (v - shift).clamp_min(0).minimum(room)
    return _inside(kept, radius, lambda w: w.sum(1, keepdim=True))


def transfer_l1(signed: Flat, gain: Flat, room_at: Callable[[Flat], Flat], size: Radius, radius: Radius) -> Flat:
    """The l1 step that gains most: take from the coordinates that are worth least, give to those worth most.

    What has to be freed so that ``size`` can be spent within ``radius`` is taken where it costs least (first where
    the perturbation points against the gradient), then ``size`` is spent on the greatest gains, each up to its room
    in the box. From the best point of ball and box it leads back to it; with ``size = radius`` it leads there at once.

    Args:
        signed: the perturbation along the gradient's signs, ``δ·sign(g)``.
        gain: ``|g|``.
        room_at: room to the box along the gradient's signs, for a perturbation in the form of ``signed``.
        size: how much to move, at most ``radius``.
        radius: of the ball.

    Returns:
        The step, in the form of ``signed``.
    """
    length = signed.abs()
    excess = (length.sum(1, keepdim=True) + size - radius).clamp_min(0)
    removed = _spend(-gain * signed.sign(), length, excess)
    left = signed - removed * signed.sign()
    spent = _spend(gain, torch.where(gain > 0, room_at(left), 0.0), size)
    return left + spent - signed


def _spend(worth: Flat, capacity: Flat, amount: Radius) -> Flat:
    """Spend ``amount`` on coordinates in the order of ``worth``, each up to its capacity (a linear programme)."""
    order = worth.argsort(dim=1, descending=True, stable=True)
    sorted_capacity = capacity.gather(1, order)
    before = sorted_capacity.cumsum(1) - sorted_capacity
    spent = torch.minimum(sorted_capacity, (amount - before).clamp_min(0))
    return torch.zeros_like(worth).scatter(1, order, spent)


def _inside(w: Flat, radius: Radius, norm: Callable[[Flat], Radius]) -> Flat:
    """Shrink by the rounding error that is left."""
    size = norm(w)
    return torch.where(size > radius, w * (radius / size.clamp_min(_TINY)), w)
