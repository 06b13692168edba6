"""Layers that are rectifiers and maxima, or sums of such."""

from typing import Any

from torch import Tensor

import assay.certify.linear_maps as linear_maps
from assay.certify.affine_layers import constant, expanded, scaled
from assay.certify.draft import Call, Value
from assay.certify.linear_maps import pair
from assay.certify.network import MaxPool, Rectifier, Sum


def relu(call: Call) -> Value:
    """ReLU."""
    return call.add(Rectifier(0.0), call.arguments[0])


def leaky_relu(call: Call) -> Value:
    """Leaky ReLU."""
    slope = float(call.option(1, "negative_slope", 0.01))
    if not 0 <= slope <= 1:
        return call.unbounded("a slope from 0 to 1")
    return call.add(Rectifier(slope), call.arguments[0])


def prelu(call: Call) -> Value:
    """Parametric ReLU."""
    slope = constant(call, call.arguments[1])
    if not bool(((slope >= 0) & (slope <= 1)).all()):
        return call.unbounded("slopes from 0 to 1")
    shape = (1, -1, *(1,) * (len(call.shape) - 1)) if len(slope) > 1 else (1,) * (len(call.shape) + 1)
    return call.add(Rectifier(slope.view(shape)), call.arguments[0])


def clamp(call: Call) -> Value:
    """``clamp(x, a, b) = a + relu(x − a) − relu(x − b)``."""
    low, high = call.option(1, "min"), call.option(2, "max")
    return between(call, call.arguments[0], low, high)


def hardtanh(call: Call) -> Value:
    """A clamp by limits."""
    return between(call, call.arguments[0], call.option(1, "min_val", -1.0), call.option(2, "max_val", 1.0))


def relu6(call: Call) -> Value:
    """ReLU up to 6."""
    return between(call, call.arguments[0], 0.0, 6.0)


def between(call: Call, x: Value, low: Any, high: Any) -> Value:
    """A clamp by limits, either of which may be None: ``a + relu(x − a)``, then ``b − relu(b − x)``."""
    if isinstance(low, Value | Tensor) or isinstance(high, Value | Tensor):
        return call.unbounded("limits that are numbers")
    if low is not None:  # a + relu(x − a)
        up = call.add(Rectifier(0.0), scaled(call, x, 1.0, -float(low)))
        x = scaled(call, up, 1.0, float(low))
    if high is not None:  # b − relu(b − x)
        down = call.add(Rectifier(0.0), scaled(call, x, -1.0, float(high)))
        x = scaled(call, down, -1.0, float(high))
    return x


def abs_of(call: Call) -> Value:
    """``relu(x) + relu(−x)``."""
    x = call.arguments[0]
    down = call.add(Rectifier(0.0), scaled(call, x, -1.0, None))
    return call.add(Sum((1.0, 1.0)), call.add(Rectifier(0.0), x), down)


def maximum(call: Call) -> Value:
    """``max(a, b) = b + relu(a − b)``."""
    first, second = call.arguments[:2]
    if not (isinstance(first, Value) and isinstance(second, Value)):
        return call.unbounded("the maximum of two values (torch.clamp for a number)")
    first, second = expanded(call, first), expanded(call, second)
    return larger(call, first, second)


def larger(call: Call, first: Value, second: Value) -> Value:
    """``b + relu(a − b)``."""
    return call.add(Sum((1.0, 1.0)), second, call.add(Rectifier(0.0), call.add(Sum((1.0, -1.0)), first, second)))


def max_pool2d(call: Call) -> Value:
    """The maximum of windows."""
    kernel = pair(call.arguments[1])
    stride = call.option(2, "stride") or kernel
    rest = [pair(call.option(place, name, other)) for place, name, other in ((3, "padding", 0), (4, "dilation", 1))]
    pool = MaxPool(kernel, pair(stride), rest[0], rest[1], bool(call.option(5, "ceil_mode", False)))
    x = call.arguments[0]
    whole = pool.padding == (0, 0) and pool.dilation == (1, 1) and not pool.ceil
    return pairwise(call, x, pool) if whole and call.draft.rectifiers_alone else call.add(pool, x)


def pairwise(call: Call, x: Value, pool: MaxPool) -> Value:
    """The maximum of windows, two entries at a time: ``max(a, b) = b + relu(a − b)``."""
    (kh, kw), (sh, sw), (_, height, width) = pool.kernel, pool.stride, call.shape
    entries = []
    for i in range(kh):
        for j in range(kw):
            rows, columns = slice(i, i + (height - 1) * sh + 1, sh), slice(j, j + (width - 1) * sw + 1, sw)
            take = linear_maps.averaging(x.shape, lambda own, r=rows, c=columns: own[..., r, c], 0)  # type: ignore[misc]
            entries.append(call.add(take, x))
    while len(entries) > 1:
        pairs = [larger(call, a, b) for a, b in zip(entries[::2], entries[1::2], strict=False)]
        entries = [*pairs, *entries[len(entries) - len(entries) % 2 :]]
    return entries[0]
