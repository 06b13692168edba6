"""Linear bounds on windows: from a layer's result back to its parents."""

from collections.abc import Sequence

import torch
from torch import Tensor

from assay.certify.interval import Interval
from assay.certify.network import Concat, Linear, MaxPool, Node, Operation, Rectifier, Sum
from assay.certify.relaxation import Lower, choice_of, lines_of
from assay.certify.windows import Windows, back_through, cut, inside


def can_pass(operation: Operation) -> bool:
    """Whether windows can go through a layer; else the factors on the whole map do."""
    match operation:
        case Linear(window=window, factor=factor):
            return window is not None or factor is not None
        case Concat(dim):
            return dim == 0
        case Sum() | Rectifier() | MaxPool():
            return True
        case _:
            return False


def left_behind(a: Windows, rounding: Tensor | None) -> Tensor:
    """What rounding of a value can do to each function, not above 0."""
    if rounding is None:
        return torch.zeros((), dtype=a.values.dtype, device=a.values.device)
    return -(a.values.abs() * cut(rounding, a)).flatten(2).sum(2)


def through_windows(
    at: int,
    node: Node,
    a: Windows,
    parents: Sequence[Interval],
    shapes: Sequence[tuple[int, ...]],
    slopes: Lower | None,
) -> tuple[Tensor | None, list[Windows]]:
    """The constant that a layer (at a place) adds, and the factors of its parents, whose values have these shapes."""
    match node.operation:
        case Linear(window=None, factor=factor, bias=bias) if factor is not None:
            own = factor if isinstance(factor, float) else cut(factor.expand(len(a.top), *shapes[0]), a)
            return _constant(a, bias, node.shape), [a._replace(values=a.values * own)]
        case Linear(window=window, bias=bias) if window is not None:
            return _constant(a, bias, node.shape), [back_through(a, window, window.weight, shapes[0])]
        case Sum(factors):
            return None, [a if f == 1 else a._replace(values=f * a.values) for f in factors]
        case Concat():
            parts = a.values.split([shape[0] for shape in shapes], 2)
            return None, [a._replace(values=part) for part in parts]
        case Rectifier(own):
            lines = lines_of(parents[0], own)
            below, above = a.values.clamp_min(0), a.values.clamp_max(0)
            constant = (above * cut(lines.over, a)).flatten(2).sum(2)
            low, high = cut(lines.low, a), cut(lines.high, a)
            if slopes is not None:
                low = torch.where(cut(lines.over, a) > 0, slopes(at, a.values, low), low)
            return constant, [a._replace(values=below * low + above * high)]
        case MaxPool() as pool:
            return _through_maximum(pool, a, parents[0])
    raise TypeError(f"no windows of {node.operation!r}")


def _constant(a: Windows, bias: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    if bias is None:
        return None
    if bias.shape[-2:].numel() == 1:
        return (a.values.flatten(3).sum(3) * bias.view(1, 1, -1)).sum(2)
    return (a.values * cut(bias.expand(len(a.top), *shape), a)).flatten(2).sum(2)


def _through_maximum(pool: MaxPool, a: Windows, z: Interval) -> tuple[Tensor, list[Windows]]:
    choice = choice_of(z, pool)
    sure, width = cut(choice.sure.to(a.values.dtype), a) > 0, z.lower.shape[3]
    moved = torch.where(sure, a.values, a.values.clamp_min(0))
    number = torch.where(sure, 0.0, a.values.clamp_max(0))
    constant = (number * cut(choice.most, a)).flatten(2).sum(2)
    place = cut(choice.place, a)
    top, left = a.top * pool.stride[0] - pool.padding[0], a.left * pool.stride[1] - pool.padding[1]
    height, across = (
        (n - 1) * s + (k - 1) * d + 1
        for n, s, k, d in zip(a.values.shape[-2:], pool.stride, pool.kernel, pool.dilation, strict=True)
    )
    row = (place // width - top[..., None, None, None]).clamp(0, height - 1)
    column = (place % width - left[..., None, None, None]).clamp(0, across - 1)
    flat = torch.zeros(*a.values.shape[:3], height * across, dtype=a.values.dtype, device=a.values.device)
    flat.scatter_add_(3, (row * across + column).flatten(3), moved.flatten(3))
    windows = Windows(flat.view(*a.values.shape[:3], height, across), top, left)
    return constant, [inside(windows, tuple(z.lower.shape[1:]))]
