"""Layers that are linear maps with weights, and sums: dense layers, convolutions, normalisation."""

from typing import Any

import torch
from torch import Tensor

import assay.certify.linear_maps as linear_maps
from assay.certify.draft import Call, Value
from assay.certify.linear_maps import pair
from assay.certify.network import Sum


def scaled(call: Call, x: Value, factor: Tensor | float, bias: Tensor | float | None) -> Value:
    """Each entry times a constant, plus a constant."""
    factors = wide(factor, call.shape) if isinstance(factor, Tensor) else factor
    if isinstance(bias, float):
        bias = torch.full((1,) * (len(call.shape) + 1), bias, dtype=call.draft.dtype, device=call.draft.device)
    x = expanded(call, x)
    if bias is None and isinstance(factor, float) and factor == 1:
        return x
    terms = 0 if bias is None and isinstance(factor, float) and abs(factor) == 1 else 2  # a sign is not rounded
    return call.add(linear_maps.diagonal(factors, None if bias is None else wide(bias, call.shape), terms), x)


def wide(constant: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A constant with a dimension for the rows, of size 1."""
    missing = len(shape) + 1 - constant.dim()
    wide = constant.reshape((1,) * missing + tuple(constant.shape))
    return wide if len(wide) == 1 else wide[:1]


def expanded(call: Call, x: Value) -> Value:
    """A value that is repeated to the shape of the result, where it is of another."""
    if x.shape == call.shape:
        return x
    shape = call.shape
    return call.add(linear_maps.averaging(x.shape, lambda own: own.expand(len(own), *shape), 0), x)


def add(call: Call, sign: float = 1.0) -> Value:
    """``a + alpha·b``, of values and constants."""
    first, second, factor = call.arguments[0], call.arguments[1], sign * float(call.named.get("alpha", 1))
    if isinstance(first, Value) and isinstance(second, Value):
        return call.add(Sum((1.0, factor)), expanded(call, first), expanded(call, second))
    if isinstance(first, Value):
        return scaled(call, first, 1.0, factor * call.draft.constant(second))
    return scaled(call, second, factor, call.draft.constant(first))


def rsub(call: Call) -> Value:
    """``b − alpha·a``, of a value and a number."""
    return scaled(call, call.arguments[0], -float(call.option(2, "alpha", 1)), float(call.arguments[1]))


def mul(call: Call) -> Value:
    """A product with a constant."""
    first, second = call.arguments[:2]
    if isinstance(first, Value) and isinstance(second, Value):
        return call.unbounded("products with a constant (bounds know no product of two values)")
    value, constant = (first, second) if isinstance(first, Value) else (second, first)
    return scaled(call, value, call.draft.constant(constant), None)


def div(call: Call) -> Value:
    """Division by a constant."""
    if isinstance(call.arguments[1], Value):
        return call.unbounded("division by a constant")
    return scaled(call, call.arguments[0], 1 / call.draft.constant(call.arguments[1]), None)


def neg(call: Call) -> Value:
    """Minus the value."""
    return scaled(call, call.arguments[0], -1.0, None)


def linear(call: Call) -> Value:
    """A dense layer."""
    x, weight, bias = call.arguments[0], call.arguments[1], call.option(2, "bias")
    if isinstance(weight, Value):
        return call.unbounded("weights that are constant")
    return call.add(linear_maps.dense(constant(call, weight), constant(call, bias)), x)


def matmul(call: Call) -> Value:
    """A product with a constant matrix on the right."""
    x, weight = call.arguments[:2]
    if isinstance(weight, Value) or not isinstance(x, Value) or weight.dim() != 2:
        return call.unbounded("a product of values with a constant matrix on their right")
    return call.add(linear_maps.dense(constant(call, weight.T), None), x)


def addmm(call: Call) -> Value:
    """A bias and a product with a constant matrix."""
    bias, x, weight = call.arguments[:3]
    if isinstance(weight, Value) or isinstance(bias, Value) or call.named:
        return call.unbounded("constant weights, without factors")
    return call.add(linear_maps.dense(constant(call, weight.T), constant(call, bias)), x)


def conv2d(call: Call) -> Value:
    """A convolution."""
    x, weight, bias = call.arguments[0], call.arguments[1], call.option(2, "bias")
    options = [call.option(place, name, 1) for place, name in ((3, "stride"), (4, "padding"), (5, "dilation"))]
    if len(call.arguments) <= 4 and "padding" not in call.named:
        options[1] = 0
    groups = call.option(6, "groups", 1)
    if isinstance(options[1], str):
        kernel, dilation = weight.shape[2:], pair(options[2])
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        if options[1] == "same" and any(t % 2 for t in total):
            return call.unbounded("the same padding on both sides")
        options[1] = [t // 2 for t in total] if options[1] == "same" else 0
    linear_map = linear_maps.convolution(x.shape, constant(call, weight), constant(call, bias), (*options, groups))
    return call.add(linear_map, x)


def batch_norm(call: Call) -> Value:
    """Batch normalisation by running statistics."""
    x, weight, bias, mean, variance = call.arguments[:5]
    eps = call.arguments[6]
    return normalised(call, x, weight, bias, mean, variance, eps)


def batch_norm_training(call: Call) -> Value:
    """Batch normalisation that may be in training mode."""
    x, weight, bias, mean, variance, training, _, eps = call.arguments[:8]
    if training:
        return call.unbounded("batch normalisation in evaluation mode")
    return normalised(call, x, weight, bias, mean, variance, eps)


def normalised(call: Call, x: Value, weight: Any, bias: Any, mean: Any, variance: Any, eps: float) -> Value:
    """Batch normalisation as a factor and a bias for each channel."""
    if mean is None or variance is None:
        return call.unbounded("batch normalisation with running statistics")
    factor = (constant(call, variance) + eps).rsqrt()
    factor = factor if weight is None else factor * constant(call, weight)
    shift = -constant(call, mean) * factor
    shift = shift if bias is None else shift + constant(call, bias)
    shape = (1, -1, *(1,) * (len(call.shape) - 1))
    return call.add(linear_maps.diagonal(factor.view(shape), shift.view(shape), terms=6), x)


def constant(call: Call, value: Tensor | None) -> Any:
    """A constant in the format of the bounds; None for none."""
    return None if value is None else call.draft.constant(value)
