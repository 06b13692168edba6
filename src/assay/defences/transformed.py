"""A classifier behind a change of its input, and its gradient where the change has none."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.model_calls import classify
from assay.core.types import Images, Logits
from assay.defences.adaptation import Adaptation

Change = Callable[[Images], Images]


class Transformed(nn.Module):
    """``model(change(x))``.

    Args:
        model: maps images in [0, 1] to logits.
        change: maps images to images of the same shape.
        through: whether its gradient is what an attacker can use; otherwise the adaptive attack takes the
            identity's (BPDA).

    Example:
        >>> from assay.defences import BitDepth
        >>> defended = Transformed(nn.Flatten(), BitDepth(1))
        >>> defended(torch.full((1, 1, 1, 2), 0.6)).tolist()
        [[1.0, 1.0]]

    Source: for the adaptive attack, Athalye, Carlini & Wagner, "Obfuscated gradients give a false sense of security",
    ICML 2018, section 4.1 (backward pass differentiable approximation).
    """

    def __init__(self, model: nn.Module, change: Change, *, through: bool = False) -> None:
        super().__init__()
        self.model, self.change, self.through = model, change, through

    def extra_repr(self) -> str:
        """The change, so that two defences never look the same in a record."""
        return "" if isinstance(self.change, nn.Module) else f"change={self.change}"

    def forward(self, x: Images) -> Logits:
        """Logits of the changed images."""
        return classify(self.model, self.change(x))

    def adaptation(self) -> Adaptation:
        """Through the change, or straight past it."""
        named = self.change.__class__.__name__ if isinstance(self.change, nn.Module) else str(self.change)
        if self.through:
            return Adaptation(f"gradients pass through {named}")
        return Adaptation(
            f"BPDA: forward through {named}, backward as if it were the identity",
            surrogate=StraightThrough(self.model, self.change),
            methods=("BPDA",),
        )


class StraightThrough(nn.Module):
    """``model(change(x))`` with the gradient of ``model`` at the changed image.

    Args:
        model: maps images to logits.
        change: maps images to images of the same shape.
    """

    def __init__(self, model: nn.Module, change: Change) -> None:
        super().__init__()
        self.model, self.change = model, change

    def forward(self, x: Images) -> Logits:
        """The logits of `Transformed`."""
        return classify(self.model, _Straight.apply(x, self.change))  # type: ignore[no-untyped-call]


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Change) -> Tensor:
        with torch.no_grad():
            return change(x).view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
