"""Softplus in place of ReLU, which has no second derivative."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

SMOOTHNESS = 30.0
"""β of the softplus, unless said otherwise."""


class Softened(TorchFunctionMode):
    """While it lasts, softplus stands for ReLU, and its leaky form, in modules and in calls of the functions.

    Args:
        smoothness: β; the larger, the nearer to ReLU.

    Example:
        >>> with Softened():
        ...     round(float(torch.nn.ReLU()(torch.zeros(1))), 4)
        0.0231
    """

    def __init__(self, smoothness: float = SMOOTHNESS) -> None:
        super().__init__()
        self.smoothness = smoothness

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The call, or what stands for it."""
        kwargs = kwargs or {}
        if func in _RELU:
            return functional.softplus(args[0], beta=self.smoothness)
        if func in _LEAKY:
            slope = kwargs.get("negative_slope", args[1] if len(args) > 1 else 0.01)
            return slope * args[0] + (1 - slope) * functional.softplus(args[0], beta=self.smoothness)
        return func(*args, **kwargs)


_RELU = frozenset({functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_})
_LEAKY = frozenset({functional.leaky_relu, torch._C._nn.leaky_relu, torch._C._nn.leaky_relu_})
