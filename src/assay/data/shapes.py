"""Eight solid shapes as inside-tests in the plane, with exact area and reach."""

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

Inside = Callable[[Tensor, Tensor], Tensor]


class Shape(NamedTuple):
    """A shape about the origin, upright where v points up.

    Attributes:
        name: the class name.
        inside: whether points ``(u, v)`` belong to it, bool.
        area: its area.
        reach: the distance of its farthest point from the origin.
    """

    name: str
    inside: Inside
    area: float
    reach: float


_RING_HOLE = 0.52
_ARM = 0.34
_STAR_INNER = 0.45
_BITE, _BITE_AT = 0.78, 0.46
_HEART_TIP = 1.25


def _disc(u: Tensor, v: Tensor) -> Tensor:
    return u * u + v * v <= 1


def _square(u: Tensor, v: Tensor) -> Tensor:
    return (u.abs() <= 1) & (v.abs() <= 1)


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    return (v >= -0.5) & (math.sqrt(3) * u.abs() + v <= 1)


def _star(u: Tensor, v: Tensor) -> Tensor:
    """Five points; every tenth of the turn is folded onto the first, whose edge is one straight line."""
    tenth = math.pi / 5
    angle = u.atan2(v)
    folded = (angle - 2 * tenth * (angle / (2 * tenth)).round()).abs()
    radius = (u * u + v * v).sqrt()
    along, across = radius * folded.cos(), radius * folded.sin()
    edge = (_STAR_INNER * math.cos(tenth) - 1, _STAR_INNER * math.sin(tenth))
    return edge[0] * across - edge[1] * (along - 1) >= 0


def _ring(u: Tensor, v: Tensor) -> Tensor:
    square = u * u + v * v
    return (square <= 1) & (square >= _RING_HOLE**2)


def _cross(u: Tensor, v: Tensor) -> Tensor:
    u, v = u.abs(), v.abs()
    return ((u <= 1) & (v <= _ARM)) | ((v <= 1) & (u <= _ARM))


def _crescent(u: Tensor, v: Tensor) -> Tensor:
    return (u * u + v * v <= 1) & ((u - _BITE_AT) ** 2 + v * v >= _BITE**2)


def _heart(u: Tensor, v: Tensor) -> Tensor:
    """Two half discs on a triangle-like body: ``|u| <= 1``, round lobes above, straight flanks to the tip below."""
    u = u.abs()
    lobe = (u - 0.5) ** 2 + v * v <= 0.25
    # The flank is the tangent of the lobe's circle through the tip (0, -_HEART_TIP).
    slope = _tangent()
    flank = (v + _HEART_TIP) * slope[0] >= u * slope[1]
    touch = _touching()
    body = (v <= 0) & flank & ((v <= touch[1]) | (u <= 0.5) | lobe)
    return lobe | body


def _tangent() -> tuple[float, float]:
    """Direction ``(du, dv)`` of the heart's right flank, from the tip to where it touches the lobe."""
    u, v = _touching()
    length = math.hypot(u, v + _HEART_TIP)
    return u / length, (v + _HEART_TIP) / length


def _touching() -> tuple[float, float]:
    """Where the line from the tip touches the lobe's circle (centre (0.5, 0), radius 0.5) on its outer side."""
    distance = math.hypot(0.5, _HEART_TIP)
    towards = math.atan2(_HEART_TIP, 0.5)  # direction of the centre seen from the tip
    spread = math.asin(0.5 / distance)
    length = math.sqrt(distance**2 - 0.25)
    angle = towards - spread
    return length * math.cos(angle), length * math.sin(angle) - _HEART_TIP


def _crescent_area() -> float:
    """Disc less its lens with the bite."""
    d, big, small = _BITE_AT, 1.0, _BITE
    a = math.acos((d * d + big * big - small * small) / (2 * d * big))
    b = math.acos((d * d + small * small - big * big) / (2 * d * small))
    lens = big * big * (a - math.sin(2 * a) / 2) + small * small * (b - math.sin(2 * b) / 2)
    return math.pi - lens


def _heart_area() -> float:
    """Twice the right half: the kite of origin, tip, touching point and centre, and the lobe's sector outside it."""
    u, v = _touching()
    flank = math.hypot(u, v + _HEART_TIP)
    kite = 0.5 * flank * 0.5  # right triangle: centre, touching point, tip
    inner = 0.5 * 0.5 * _HEART_TIP  # triangle: origin, centre, tip
    turn = math.pi - math.atan2(v, u - 0.5)  # of the lobe, from the touching point over the top to the origin
    return 2 * (kite + inner + 0.5 * 0.25 * turn)


SHAPES = (
    Shape("disc", _disc, math.pi, 1.0),
    Shape("square", _square, 4.0, math.sqrt(2)),
    Shape("triangle", _triangle, 3 * math.sqrt(3) / 4, 1.0),
    Shape("star", _star, 5 * math.sin(math.pi / 5) * _STAR_INNER, 1.0),
    Shape("ring", _ring, math.pi * (1 - _RING_HOLE**2), 1.0),
    Shape("cross", _cross, 8 * _ARM - 4 * _ARM**2, math.hypot(1, _ARM)),
    Shape("crescent", _crescent, _crescent_area(), 1.0),
    Shape("heart", _heart, _heart_area(), _HEART_TIP),
)
