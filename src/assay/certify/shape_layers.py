"""Layers that average, choose and arrange."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

import assay.certify.linear_maps as linear_maps
from assay.certify.affine_layers import scaled
from assay.certify.draft import Call, Value
from assay.certify.linear_maps import pair
from assay.certify.network import Concat


def averages(function: Callable[..., Tensor], terms: Callable[[Call], int]) -> Callable[[Call], Value]:
    """A layer without negative weights, as PyTorch computes it."""

    def write(call: Call) -> Value:
        x, rest, named = call.arguments[0], call.arguments[1:], call.named
        if not isinstance(x, Value):
            return call.unbounded("values in the first place")
        return call.add(linear_maps.averaging(x.shape, lambda own: function(own, *rest, **named), terms(call)), x)

    return write


def avg_pool2d(call: Call) -> Value:
    """A convolution of each channel where all windows are whole; else as PyTorch computes it."""
    x, kernel = call.arguments[0], pair(call.arguments[1])
    stride, padding = pair(call.option(2, "stride") or kernel), pair(call.option(3, "padding", 0))
    odd = call.option(4, "ceil_mode", False) or call.option(6, "divisor_override") is not None
    if odd or (padding != (0, 0) and not call.option(5, "count_include_pad", True)):
        return averages(torch.ops.aten.avg_pool2d.default, window_terms)(call)
    weight = torch.full((call.shape[0], 1, *kernel), 1 / (kernel[0] * kernel[1]), dtype=call.draft.dtype)
    options = (stride, padding, 1, call.shape[0])
    return call.add(linear_maps.convolution(x.shape, weight.to(call.draft.device), None, options), x)


def mean_of(call: Call) -> Value:
    """A mean along dimensions."""
    x = call.arguments[0]
    dims = [d % (len(x.shape) + 1) for d in call.option(1, "dim") or ()]
    if not dims or 0 in dims:
        return call.unbounded("a mean that keeps images apart")
    terms = int(torch.Size([x.shape[d - 1] for d in dims]).numel())
    keep = bool(call.option(2, "keepdim", False))
    return call.add(linear_maps.averaging(x.shape, lambda own: own.mean(dims, keep), terms), x)


def sum_of(call: Call) -> Value:
    """A sum along dimensions."""
    x = call.arguments[0]
    dims = [d % (len(x.shape) + 1) for d in call.option(1, "dim") or ()]
    if not dims or 0 in dims:
        return call.unbounded("a sum that keeps images apart")
    terms = int(torch.Size([x.shape[d - 1] for d in dims]).numel())
    keep = bool(call.option(2, "keepdim", False))
    return call.add(linear_maps.averaging(x.shape, lambda own: own.sum(dims, keep), terms), x)


def reshape(call: Call) -> Value:
    """The same numbers in another shape."""
    x = call.arguments[0]
    return x if x.shape == call.shape else call.add(linear_maps.reshaped(x.shape, call.shape), x)


def chosen(function: Callable[..., Tensor]) -> Callable[[Call], Value]:
    """Some of the entries, in some order; the rows are left alone."""

    def write(call: Call) -> Value:
        x, rest, named = call.arguments[0], call.arguments[1:], call.named
        return call.add(linear_maps.averaging(x.shape, lambda own: function(own, *rest, **named), 0), x)

    return write


def pad(call: Call, place: int = 2) -> Value:
    """Padding by a constant, the argument at a place."""
    x, sides, value = call.arguments[0], call.arguments[1], float(call.option(place, "value", 0) or 0)
    moved = call.add(linear_maps.averaging(x.shape, lambda own: F.pad(own, sides), 0), x)
    if not value:
        return moved
    edge = F.pad(torch.zeros(1, *x.shape, dtype=call.draft.dtype, device=call.draft.device), sides, value=value)
    return scaled(call, moved, 1.0, edge)


def pad_in_any_mode(call: Call) -> Value:
    """Padding by a constant, or with what is there: reflected, repeated, around."""
    constant = call.option(2, "mode", "constant") == "constant"
    return pad(call, 3) if constant else chosen(torch.ops.aten.pad.default)(call)


def cat(call: Call) -> Value:
    """Values side by side."""
    parts, dim = call.arguments[0], int(call.option(1, "dim", 0)) % (len(call.shape) + 1)
    if dim == 0 or not all(isinstance(part, Value) for part in parts):
        return call.unbounded("values side by side within an image")
    return call.add(Concat(dim - 1), *parts)


def same(call: Call) -> Value:
    """The value itself."""
    value: Value = call.arguments[0]
    return value


def as_type(call: Call) -> Value:
    """The value, if it stays in float32."""
    kind = call.named.get("dtype", next((own for own in call.arguments if isinstance(own, torch.dtype)), None))
    return same(call) if kind in (None, torch.float32) else call.unbounded("numbers in float32")


def dropout(call: Call) -> Value:
    """The value, as dropout does nothing in evaluation mode."""
    return call.unbounded("no dropout in evaluation mode") if call.option(2, "train") else same(call)


def window_terms(call: Call) -> int:
    """Entries of a window."""
    across, down = pair(call.arguments[1])
    return across * down


def adaptive_terms(call: Call) -> int:
    """Entries of an adaptive pooling's largest window."""
    before, after = call.arguments[0].shape[-2:], call.shape[-2:]
    return int((-(-before[0] // after[0]) + 1) * (-(-before[1] // after[1]) + 1))
