"""Convolutions with channels last: the same numbers in an order that small networks on a processor run faster in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor, nn

from assay.core.model_calls import Classifier

P = ParamSpec("P")
T = TypeVar("T")


class Layout:
    """The weights of a model's convolutions, stored with channels last until `undo`."""

    def __init__(self, model: Classifier) -> None:
        self._weights: list[tuple[Tensor, Tensor, Tensor]] = []
        for part in model.modules() if isinstance(model, nn.Module) else ():
            weight = part._parameters.get("weight") if isinstance(part, nn.Conv2d) else None
            if weight is not None and type(weight) is nn.Parameter and weight.device.type == "cpu":
                fast = weight.data.clone(memory_format=torch.channels_last)
                self._weights.append((weight, weight.data, fast))
        self._use(2)

    @property
    def active(self) -> bool:
        """Whether any weight is stored so."""
        return bool(self._weights)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The model's own storage for a while: what is measured must not depend on the layout, not even by rounding."""
        self._use(1)
        try:
            yield
        finally:
            self._use(2)

    def undo(self) -> None:
        """Give every weight its own storage back."""
        self._use(1)
        self._weights = []

    def _use(self, which: int) -> None:
        for entry in self._weights:
            entry[0].data = entry[which]


class _HasLayout(Protocol):
    layout: Layout | None


S = TypeVar("S", bound=_HasLayout)


@contextmanager
def channels_last(model: Classifier, *, wanted: bool = True) -> Iterator[Layout | None]:
    """Store the weights of convolutions with channels last for a while; on the CPU only, where it was measured to pay.

    Args:
        model: a module; for any other callable nothing happens.
        wanted: False for doing nothing.
    """
    layout = Layout(model) if wanted else None
    try:
        yield layout
    finally:
        if layout is not None:
            layout.undo()


def tolerant(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Do it again in the model's own layout where code in it insists on that (``x.view`` after a convolution)."""

    @wraps(method)
    def either(self: S, /, *arguments: P.args, **named: P.kwargs) -> T:
        try:
            return method(self, *arguments, **named)
        except RuntimeError as error:
            if self.layout is None or not self.layout.active or "view size is not compatible" not in str(error):
                raise
            self.layout.undo()
        return method(self, *arguments, **named)

    return either
