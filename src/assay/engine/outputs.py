"""Detect squeezed outputs (softmax, sigmoid, clamps) from their values."""

import torch
from torch import Tensor

from assay.core.types import Logits

_FEW = 16
"""Fewer values than this say nothing of how they are spread."""
_EDGE = 2e-3
"""How near to the least or greatest value, as a share of their range, a value counts as saturated."""
_NATURAL_EDGE = 0.02
"""Likewise where the range is that of tanh itself."""
_SATURATED = 0.3
_TIED = 0.05


def describe_squeeze(outputs: Logits) -> str:
    """What seems to squeeze the outputs of a classifier: gradients vanish where it saturates.

    Looked for are probabilities and softmax at any scale and offset (rows of one sum, whose greatest value is what is
    left of it), floors and ceilings (values that are exactly the least or greatest of all), and sigmoid, tanh and
    clamps at any scale and offset (values crowded at both ends). Columns that never change, such as masked classes, and
    repeated rows do not count; log-probabilities without a floor squeeze nothing.

    Args:
        outputs: of clean images, ``(n, k)``.

    Returns:
        A phrase such as ``"a softmax"``; empty where nothing is seen, or too few values are there to tell.

    Example:
        >>> logits = torch.randn(64, 10, generator=torch.Generator().manual_seed(0)) * 5
        >>> describe_squeeze(logits), describe_squeeze(3 * logits.clamp(-1, 1) + 1)
        ('', 'a floor: 41 % of the outputs are exactly -2')
    """
    values = outputs.detach().double().cpu()
    values = values[values.isfinite().all(1)].unique(dim=0)
    if not len(values) or values.shape[1] < 2:
        return ""
    sums = values.sum(1)
    if bool((values >= 0).all() and (values <= 1).all() and ((sums - 1).abs() < 1e-3).all()):
        return "probabilities"
    changing = values[:, (values != values[:1]).any(0)]
    if changing.numel() < _FEW:
        return ""
    logs = bool((values.logsumexp(1).abs() < 1e-3).all())  # log-probabilities: their ceiling is 0 by nature
    return _softmax(values) or _ties(changing, ceiling=not logs) or _crowds(changing, ceiling=not logs)


def _softmax(values: Tensor) -> str:
    """Rows of ``a·softmax + b`` have one sum, and the least value leaves the rest of it to the greatest."""
    low, high, sums = values.min(), values.max(), values.sum(1)
    span = high - low
    if float((sums - sums.mean()).abs().max()) > 1e-3 * float(span) * values.shape[1] ** 0.5:
        return ""
    rest = sums.mean() - (values.shape[1] - 1) * low
    return "a softmax, scaled or shifted" if values.shape[1] > 2 and abs(float((rest - high) / span)) < 0.05 else ""


def _ties(values: Tensor, *, ceiling: bool) -> str:
    for edge, word in ((values.min(), "floor"), (values.max(), "ceiling"))[: 1 + ceiling]:
        ties = values == edge
        if float(edge) == 0 and bool((ties.sum(1) == 1).all()):
            continue  # rows less their own least or greatest value
        tied = int(ties.sum())
        if tied >= 4 and tied >= _TIED * values.numel():
            return f"a {word}: {100 * tied / values.numel():.0f} % of the outputs are exactly {float(edge):.4g}"
    return ""


def _crowds(changing: Tensor, *, ceiling: bool) -> str:
    low, high = changing.min(), changing.max()
    if not ceiling:
        high = high + (high - low)
    if low >= 0 and low < 0.1 and 0.9 < high <= 1:
        return "a sigmoid: all outputs lie between 0 and 1, and do not sum to 1"
    share = _share(changing, low, high, _EDGE)
    if low >= -1 and high <= 1 and min(-float(low), float(high)) > 1 - 2 * _NATURAL_EDGE:
        share = max(share, _share(changing, -torch.ones(()), torch.ones(()), _NATURAL_EDGE))
    if share < _SATURATED or not _both_ends(changing, low, high):
        return ""
    return f"a clamp, sigmoid or tanh: {100 * share:.0f} % of the outputs are at {float(low):.4g} or {float(high):.4g}"


def _both_ends(values: Tensor, low: Tensor, high: Tensor) -> bool:
    """Whether some column goes from one end to the other: columns that only lie far apart squeeze nothing."""
    near = _NATURAL_EDGE * (high - low)
    ends = (values <= low + near).any(0) & (values >= high - near).any(0)
    return bool(ends.any())


def _share(values: Tensor, low: Tensor, high: Tensor, edge: float) -> float:
    """The share of values at either end, without the one at each end that has to be there."""
    near = edge * (high - low)
    at = int(((values <= low + near) | (values >= high - near)).sum())
    return max(at - 2, 0) / max(values.numel() - 2, 1)
