"""What a model's calls of some functions take and give, whether modules make them or not."""

from collections.abc import Callable, Set
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode


class RecordedCalls(TorchFunctionMode):
    """While this lasts calls of some functions are kept, each with its positional arguments and what it gives.

    Args:
        functions: such as ``{torch.nn.functional.linear}``.

    Example:
        >>> import torch
        >>> with RecordedCalls({torch.nn.functional.linear}) as recorded:
        ...     _ = torch.nn.Linear(4, 3)(torch.zeros(2, 4))
        >>> [tuple(output.shape) for _, output in recorded.calls]
        [(2, 3)]
    """

    def __init__(self, functions: Set[Callable[..., Any]]) -> None:
        super().__init__()
        self.functions = functions
        self.calls: list[tuple[tuple[Any, ...], Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call, and keep."""
        output = func(*args, **(kwargs or {}))
        if func in self.functions and isinstance(output, Tensor):
            self.calls.append((args, output))
        return output
