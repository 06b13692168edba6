"""Linear maps with what bounds need of them: transpose, magnitude, square, bias and number of terms."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from assay.certify.network import Linear, Map, Window


def dense(weight: Tensor, bias: Tensor | None) -> Linear:
    """``x @ weightᵀ + bias`` along the last dimension."""
    size, square, bound = weight.abs(), weight.square(), None if bias is None else bias[None]
    return Linear(
        lambda x: x @ weight.T, lambda a: a @ weight, lambda x: x @ size.T, lambda x: x @ square.T, bound, len(weight.T)
    )


def convolution(shape: Sequence[int], weight: Tensor, bias: Tensor | None, options: Sequence[Any]) -> Linear:
    """A convolution of maps of a shape; ``options`` are stride, padding, dilation and groups."""
    stride, padding, dilation = (pair(option) for option in options[:3])
    groups = int(options[3])
    size, square = weight.abs(), weight.square()

    def along(kernel: Tensor) -> Map:
        return lambda x: F.conv2d(x, kernel, None, stride, padding, dilation, groups)

    def transpose(a: Tensor) -> Tensor:
        moved: Tensor = conv2d_input((len(a), *shape), weight, a, stride, padding, dilation, groups)
        return moved

    bound = None if bias is None else bias.view(1, -1, 1, 1)
    window = Window(weight, stride, padding, dilation, groups)
    return Linear(along(weight), transpose, along(size), along(square), bound, weight[0].numel(), window=window)


def pair(value: Any) -> tuple[int, int]:
    """Two numbers, of one or two."""
    several = list(value) if isinstance(value, list | tuple) else [value]
    return int(several[0]), int(several[-1])


def diagonal(factor: Tensor | float, bias: Tensor | None, terms: int = 2) -> Linear:
    """Each entry times a number of its own, plus another."""
    size: Tensor | float = factor.abs() if isinstance(factor, Tensor) else abs(factor)
    square = factor * factor
    return Linear(
        lambda x: factor * x,
        lambda a: factor * a,
        lambda x: size * x,
        lambda x: square * x,
        bias,
        terms,
        diagonal=True,
        factor=factor,
    )


def reshaped(before: Sequence[int], after: Sequence[int]) -> Linear:
    """The same numbers in another shape."""

    def forward(x: Tensor) -> Tensor:
        return x.reshape(len(x), *after)

    return Linear(forward, lambda a: a.reshape(len(a), *before), forward, forward, None, 0, diagonal=True)


def averaging(shape: Sequence[int], forward: Map, terms: int) -> Linear:
    """Any linear map without negative entries, such as poolings, paddings and choices of entries."""

    def transpose(a: Tensor) -> Tensor:
        with torch.enable_grad():
            zero = torch.zeros(len(a), *shape, dtype=a.dtype, device=a.device, requires_grad=True)
            (result,) = torch.autograd.grad(forward(zero), zero, a, create_graph=a.requires_grad)
        return result

    return Linear(forward, transpose, forward, None, None, terms)
