"""Interval bounds: the least and greatest value of each number in a network, layer by layer."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from assay.certify.network import Concat, Input, Linear, MaxPool, Network, Node, Rectifier, Sum, pooled
from assay.certify.region import Region

FLOAT32 = 2.0**-24
"""Half the distance from 1 to the next number in float32: the relative error of one rounding."""


class Interval(NamedTuple):
    """Bounds of a value, ``(b, *shape)`` each, and how far rounding may carry it, as a model computes it."""

    lower: Tensor
    upper: Tensor
    rounding: Tensor | None

    def take(self, rows: Tensor) -> "Interval":
        """That of some of the rows."""
        rounding = None if self.rounding is None else self.rounding[rows]
        return Interval(self.lower[rows], self.upper[rows], rounding)

    @property
    def greatest(self) -> Tensor:
        """The greatest absolute value."""
        return torch.maximum(self.lower.abs(), self.upper.abs())


Refine = Callable[[int, Sequence[Interval]], Interval | None]
"""A narrower interval of a value, by its place and all intervals until it; None where there is none."""


def intervals(
    network: Network, region: Region, *, unit: float = FLOAT32, refine: Refine = lambda place, known: None
) -> list[Interval]:
    """Interval bounds of all values of a network.

    Args:
        network: the network.
        region: of the images.
        unit: relative error of a rounding of the model's own arithmetic; 0 for a network without.
        refine: other bounds of a value, which the later ones then rest on.

    Source: Gowal et al., "On the effectiveness of interval bound propagation for training verifiably robust models",
    2018, equations 6–8. The first layer is bounded by the ball's own norm where the ball is no box (Gowal et al. have
    linf alone). Rounding: `rounding_of`.
    """
    known: list[Interval] = []
    images: dict[int, _Image] = {}
    for place, node in enumerate(network.nodes):
        known.append(interval_of(node, [known[p] for p in node.parents], region, unit))
        if not region.is_box:
            known[place] = _within_ball(place, node, known[place], region, images)
        known[place] = refine(place, known) or known[place]
    return known


def interval_of(node: Node, parents: Sequence[Interval], region: Region, unit: float) -> Interval:
    """Bounds of a value by those of its parents."""
    rounding = rounding_of(node, parents, unit)
    lower, upper = _exact(node, parents, region)
    return Interval(lower, upper, None) if rounding is None else Interval(lower - rounding, upper + rounding, rounding)


def _exact(node: Node, parents: Sequence[Interval], region: Region) -> tuple[Tensor, Tensor]:
    match node.operation:
        case Input():
            return region.lower, region.upper
        case Linear() as linear:
            (lower, upper, _) = parents[0]
            middle, radius = linear.forward((lower + upper) / 2), linear.magnitude((upper - lower) / 2)
            middle = middle if linear.bias is None else middle + linear.bias
            return middle - radius, middle + radius
        case Sum(factors):
            ends = [
                (f * p.lower, f * p.upper) if f >= 0 else (f * p.upper, f * p.lower)
                for f, p in zip(factors, parents, strict=True)
            ]
            lows, highs = zip(*ends, strict=True)
            return torch.stack(lows).sum(0), torch.stack(highs).sum(0)
        case Concat(dim):
            return torch.cat([p.lower for p in parents], dim + 1), torch.cat([p.upper for p in parents], dim + 1)
        case Rectifier(slope):
            (lower, upper, _) = parents[0]
            return torch.maximum(lower, slope * lower), torch.maximum(upper, slope * upper)
        case MaxPool() as pool:
            return pooled(pool, parents[0].lower), pooled(pool, parents[0].upper)


def rounding_of(node: Node, parents: Sequence[Interval], unit: float) -> Tensor | None:
    """By how much a computed value may differ from the exact one of the same parents; None where nothing is rounded.

    A sum of n products, in any order, with or without fused operations, is off by at most γ(n + 1) times the sum of
    their absolute values, γ(k) = k·unit / (1 − k·unit). Twice of it is taken, for convolutions that are computed by
    other means.

    Source: Higham, "Accuracy and stability of numerical algorithms", 2002, sections 3.1 and 4.2.
    """
    if not unit:
        return None
    match node.operation:
        case Linear(terms=terms) as linear if terms:
            size = linear.magnitude(parents[0].greatest)
            size = size if linear.bias is None else size + linear.bias.abs()
            return 2 * _gamma(terms + 1, unit) * size
        case Sum(factors):
            size = torch.stack([abs(f) * p.greatest for f, p in zip(factors, parents, strict=True)]).sum(0)
            return 2 * _gamma(len(factors), unit) * size
        case Rectifier(slope) if isinstance(slope, Tensor) or 0 < slope < 1:
            return 2 * unit * parents[0].greatest
        case _:
            return None


def _gamma(count: int, unit: float) -> float:
    """γ; infinite where so many roundings leave nothing certain."""
    return count * unit / (1 - count * unit) if count * unit < 1 else float("inf")


class _Image(NamedTuple):
    """A value that is one map of the image: at the image itself, by part what its radius is made of, and rounding."""

    centre: Tensor
    parts: tuple[Tensor, ...]
    rounding: Tensor


def _within_ball(place: int, node: Node, own: Interval, region: Region, images: dict[int, _Image]) -> Interval:
    """The narrower of a value's interval and of what the balls say, up to the first layer that mixes pixels.

    An l1 ball lies in the l2 ball of its radius.
    """
    none = torch.zeros_like(own.lower)
    if isinstance(node.operation, Input):
        ones = torch.ones_like(region.x)
        parts = tuple(ones if part.where is None else ones * part.where for part in region.parts)
        images[place] = _Image(region.x, parts, none)
        return own
    linear, before = node.operation, images.get(node.parents[0])
    if before is None or not isinstance(linear, Linear) or linear.squared is None:
        return own
    boxes = [part.norm == "linf" for part in region.parts]
    parts = tuple(linear.magnitude(p) if box else linear.squared(p) for p, box in zip(before.parts, boxes, strict=True))
    centre = linear.forward(before.centre) + (0 if linear.bias is None else linear.bias)
    rounding = linear.magnitude(before.rounding) + (none if own.rounding is None else own.rounding)
    if linear.diagonal:
        images[place] = _Image(centre, parts, rounding)
    radii = [
        part.eps.view(-1, *(1,) * len(node.shape)) * (size if box else size.sqrt())
        for part, size, box in zip(region.parts, parts, boxes, strict=True)
    ]
    radius = torch.stack(radii).sum(0) + rounding
    return Interval(torch.maximum(own.lower, centre - radius), torch.minimum(own.upper, centre + radius), own.rounding)
