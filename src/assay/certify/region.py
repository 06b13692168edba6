"""Perturbation regions (balls intersected with the box), and the minimum of a linear function over one."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from assay.core.geometry import Geometry
from assay.core.types import NORMS, Images, Mask
from assay.parts.balls import Ball, Split
from assay.util.validate import described, reject

_TURNS = 40
"""Most turns of the search for an l2 ball's multiplier; it ends where nothing changes any more."""


@dataclass(frozen=True)
class BallPart:
    """A ball on some of the pixels.

    Attributes:
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        eps: its radius for each image, ``(b,)``.
        where: its pixels, ``(b, 1, h, w)`` of 0 and 1; None for all.
    """

    norm: str
    eps: Tensor
    where: Mask | None = None


@dataclass(frozen=True)
class Region:
    """Images ``x + δ`` in [0, 1] whose δ lies in a ball, or in a ball on each of two parts of the image.

    Attributes:
        x: the images, ``(b, c, h, w)``.
        parts: the balls.
        lower, upper: the least and greatest value of each pixel.
    """

    x: Images
    parts: tuple[BallPart, ...]
    lower: Images
    upper: Images

    def __len__(self) -> int:
        return len(self.x)

    @property
    def is_box(self) -> bool:
        """Whether each pixel has its own range, whatever the others are."""
        return all(part.norm == "linf" for part in self.parts)

    def take(self, rows: Tensor) -> "Region":
        """The region of some of the images."""
        parts = [BallPart(p.norm, p.eps[rows], None if p.where is None else p.where[rows]) for p in self.parts]
        return Region(self.x[rows], tuple(parts), self.lower[rows], self.upper[rows])

    def least(self, a: Tensor, *, exact: bool = False) -> Tensor:
        """The least value of each linear function, or a number below it.

        Args:
            a: factors, ``(b, m, c, h, w)``.
            exact: search for the least value itself where the region is no box; a bound costs less.

        Returns:
            ``(b, m)``.
        """
        middle, radius = (self.lower + self.upper) / 2, (self.upper - self.lower) / 2
        flat = a.flatten(2)
        box = _dot(flat, middle) - _dot(flat.abs(), radius)
        if self.is_box:
            return box
        total = _dot(flat, self.x)
        for part in self.parts:
            total = total - self._gain(part, a, exact)
        return torch.maximum(total, box)

    def lowest(self, a: Tensor) -> Images:
        """An image of the region at which a linear function is low, at a box the lowest; ``a`` is ``(b, c, h, w)``."""
        if self.is_box:
            return torch.where(a > 0, self.lower, self.upper)
        moved = torch.zeros_like(self.x)
        for part in self.parts:
            own = a if part.where is None else a * part.where
            moved = moved + _step(part, own, torch.where(own > 0, self.x - self.lower, self.upper - self.x))
        return (self.x + moved).clamp(0, 1)

    def _gain(self, part: BallPart, a: Tensor, exact: bool) -> Tensor:
        """By how much a part can lower each linear function, at most."""
        own = a if part.where is None else a * part.where[:, None]
        room = torch.where(own > 0, (self.x - self.lower)[:, None], (self.upper - self.x)[:, None])
        slope, room = own.abs().flatten(2), room.flatten(2)
        if part.norm == "linf":
            return (slope * room).sum(2)
        solve = _gain_l2 if part.norm == "l2" else _gain_l1
        return solve(slope, room, part.eps, exact)


def region_of(geometry: Geometry, x: Images, mask: Mask | None = None, *, scale: Tensor | float = 1.0) -> Region:
    """The region of images within a geometry of some images.

    Args:
        geometry: a `Ball`, or a `Split` in two of them.
        x: images, ``(b, c, h, w)`` in [0, 1], of the number format of the bounds.
        mask: foreground masks for a `Split`.
        scale: how much larger the balls are; a number, or one an image.

    Raises:
        ValueError: another geometry, or no masks where they are needed.
    """
    factor = torch.as_tensor(scale, dtype=x.dtype, device=x.device).expand(len(x))
    if isinstance(geometry, Ball):
        parts: Sequence[BallPart] = [BallPart(geometry.norm, geometry.eps * factor)]
    elif isinstance(geometry, Split):
        if mask is None:
            return reject("mask", "a foreground mask of shape (b, 1, h, w), which this threat model needs", None)
        front = mask.to(x)
        balls = ((geometry.foreground, front), (geometry.background, 1 - front))
        parts = [BallPart(ball.norm, ball.eps * factor, where) for ball, where in balls]
    else:
        expected = f"a ball ({', '.join(NORMS)}), or one on the foreground and one on the background"
        return reject("eps", expected, described(type(geometry).__name__))
    radius = torch.zeros_like(x)
    for part in parts:
        radius = radius + part.eps.view(-1, 1, 1, 1) * (torch.ones_like(x) if part.where is None else part.where)
    return Region(x, tuple(parts), (x - radius).clamp_min(0), (x + radius).clamp_max(1))


def _step(part: BallPart, a: Tensor, room: Tensor) -> Tensor:
    """A step of a part against a linear function."""
    flat, limit = a.flatten(1), room.flatten(1)
    if part.norm == "l1":
        order = flat.abs().argsort(1, descending=True)
        limits = limit.gather(1, order)
        taken = torch.minimum(limits, (part.eps[:, None] - limits.cumsum(1) + limits).clamp_min(0))
        length = torch.zeros_like(flat).scatter(1, order, taken)
    elif part.norm == "l2":
        length = torch.minimum(part.eps[:, None] * flat.abs() / flat.norm(dim=1, keepdim=True).clamp_min(1e-30), limit)
    else:
        length = limit * (flat != 0)
    return (-flat.sign() * length).view_as(a)


def _dot(a: Tensor, x: Tensor) -> Tensor:
    """``(b, m, n)`` times ``(b, ...)``: ``(b, m)``."""
    return torch.bmm(a, x.flatten(1)[:, :, None]).squeeze(2)


def _gain_l2(slope: Tensor, room: Tensor, eps: Tensor, exact: bool) -> Tensor:
    """The greatest ⟨slope, t⟩ of 0 ≤ t ≤ room with ‖t‖₂ ≤ eps, by its dual, which is above it for any multiplier.

    The multiplier is that for which the entries that are not at their limit fill what the others leave of the ball; it
    only falls from turn to turn, and the search ends where it stays.
    """
    eps = eps[:, None]
    best: Tensor = eps * slope.norm(dim=2)
    if not exact:
        return best
    shrink = slope.norm(dim=2) / eps.clamp_min(1e-30)
    for _ in range(_TURNS):
        step = torch.minimum(slope / shrink.clamp_min(1e-30)[..., None], room)
        value = (slope * step - step.square() * shrink[..., None] / 2).sum(2) + shrink * eps**2 / 2
        best = torch.minimum(best, value)
        full = step >= room
        left = (eps**2 - (room.square() * full).sum(2)).clamp_min(0)
        free = (slope * ~full).norm(dim=2)
        new = torch.minimum(torch.where(left > 0, free / left.sqrt().clamp_min(1e-30), shrink), shrink)
        if bool((new == shrink).all()):
            break
        shrink = new
    return torch.minimum(best, (slope * room).sum(2))


def _gain_l1(slope: Tensor, room: Tensor, eps: Tensor, exact: bool) -> Tensor:
    """The greatest ⟨slope, t⟩ of 0 ≤ t ≤ room with Σt ≤ eps: the steepest entries first, each to its limit."""
    if not exact:
        return eps[:, None] * slope.amax(2)
    order = slope.argsort(dim=2, descending=True)
    steep, limits = slope.gather(2, order), room.gather(2, order)
    before = limits.cumsum(2) - limits
    return (steep * torch.minimum(limits, (eps[:, None, None] - before).clamp_min(0))).sum(2)
