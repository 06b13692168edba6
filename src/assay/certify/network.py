"""The computation graph that bounds work on: linear maps, sums, concatenations, rectifiers and max pools."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]
"""A linear map of rows: ``(r, *shape)`` to ``(r, *shape)``."""


@dataclass(frozen=True)
class Input:
    """The image."""


@dataclass(frozen=True)
class Window:
    """How a convolution goes over a map.

    Attributes:
        weight: as of `torch.nn.functional.conv2d`.
        stride, padding, dilation: two numbers each.
        groups: of channels.
    """

    weight: Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


@dataclass(frozen=True)
class Linear:
    """``y = L x + b``.

    Attributes:
        forward: x to L x.
        transpose: rows a to Lᵀ a.
        magnitude: x to |L| x.
        squared: x to (L∘L) x; None where it is not at hand.
        bias: b, which broadcasts to ``(1, *shape)``; None for 0.
        terms: products that an entry of y is summed of, for the error of rounding; 0 where nothing is computed.
        diagonal: whether an entry of y is of one entry of x.
        factor: of a map that is diagonal and keeps the shape, what broadcasts to ``(1, *shape)``.
        window: of a convolution, how it goes over its input.
    """

    forward: Map
    transpose: Map
    magnitude: Map
    squared: Map | None
    bias: Tensor | None
    terms: int
    diagonal: bool = False
    factor: Tensor | float | None = None
    window: Window | None = None


@dataclass(frozen=True)
class Sum:
    """The sum of its parents, each times a number."""

    factors: tuple[float, ...]


@dataclass(frozen=True)
class Concat:
    """Its parents side by side, along a dimension counted without the rows."""

    dim: int


@dataclass(frozen=True)
class Rectifier:
    """``max(x, slope · x)``: ReLU, leaky and parametric ReLU.

    Attributes:
        slope: below 0, from 0 to 1; a number, or a tensor that broadcasts to ``(1, *shape)``.
    """

    slope: float | Tensor


@dataclass(frozen=True)
class MaxPool:
    """The maximum of windows.

    Attributes:
        kernel, stride, padding, dilation: as of `torch.nn.MaxPool2d`, two numbers each.
        ceil: whether windows may begin inside and end outside.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    ceil: bool


Operation = Input | Linear | Sum | Concat | Rectifier | MaxPool


@dataclass(frozen=True)
class Node:
    """One value of a network.

    Attributes:
        name: of the layer that makes it.
        operation: how it is made.
        parents: of which values, by their places.
        shape: without the rows.
    """

    name: str
    operation: Operation
    parents: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Numbers a row."""
        return int(torch.Size(self.shape).numel())

    @property
    def is_nonlinear(self) -> bool:
        """Whether it is nonlinear."""
        return isinstance(self.operation, Rectifier | MaxPool)


@dataclass(frozen=True)
class Network:
    """Values in an order in which each comes after its parents; the first is the image, the last the logits.

    Attributes:
        nodes: all values.
        dtype: of the numbers that bounds are computed in.
        device: where.
    """

    nodes: tuple[Node, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def classes(self) -> int:
        """Number of logits."""
        return self.nodes[-1].size

    @property
    def widest(self) -> int:
        """Numbers a row of its largest value."""
        return max(node.size for node in self.nodes)

    @property
    def preactivations(self) -> tuple[int, ...]:
        """Pre-activations: the inputs of rectifiers and max pools, in order; each once."""
        return tuple(dict.fromkeys(node.parents[0] for node in self.nodes if node.is_nonlinear))

    def forward(self, x: Tensor) -> list[Tensor]:
        """All values for some images."""
        values: list[Tensor] = []
        for node in self.nodes:
            values.append(evaluate(node.operation, [values[p] for p in node.parents], x))
        return values


def evaluate(operation: Operation, parents: list[Tensor], x: Tensor) -> Tensor:
    """A value of those of its parents; ``x`` is the image."""
    match operation:
        case Input():
            return x
        case Linear():
            y = operation.forward(parents[0])
            return y if operation.bias is None else y + operation.bias
        case Sum():
            return torch.stack([f * p for f, p in zip(operation.factors, parents, strict=True)]).sum(0)
        case Concat():
            return torch.cat(parents, operation.dim + 1)
        case Rectifier():
            return torch.maximum(parents[0], operation.slope * parents[0])
        case MaxPool():
            return pooled(operation, parents[0])


def pooled(pool: MaxPool, x: Tensor) -> Tensor:
    """The maxima of ``(r, c, h, w)``."""
    return torch.nn.functional.max_pool2d(x, pool.kernel, pool.stride, pool.padding, pool.dilation, pool.ceil)
