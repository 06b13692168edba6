"""A classifier behind a change of its input, and its gradient where the change has none."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.model_calls import classify
from assay.core.types import Images, Logits
from assay.defences.adaptation import Adaptation, around, attackable
from assay.util.validate import described, reject

Change = Callable[[Images], Images]


class Transformed(nn.Module):
    """``model(change(x))``.

    Args:
        model: maps images in [0, 1] to logits.
        change: maps images to images of the same shape.
        through: whether its gradient is what an attacker can use; otherwise the adaptive attack takes that of the
            stand-in, or the identity's (BPDA).
        stand_in: a differentiable approximation of the change, images to images, whose gradient the adaptive attack
            takes. With neither argument both are the change's own attributes of these names: `Jpeg` has a ``stand_in``,
            `Median` has ``through``.

    Example:
        >>> from assay.defences import BitDepth
        >>> defended = Transformed(nn.Flatten(), BitDepth(1))
        >>> defended(torch.full((1, 1, 1, 2), 0.6)).tolist()
        [[1.0, 1.0]]

    Source: for the adaptive attack, Athalye, Carlini & Wagner, "Obfuscated gradients give a false sense of security",
    ICML 2018, section 4.1 (backward pass differentiable approximation).
    """

    def __init__(
        self, model: nn.Module, change: Change, *, through: bool | None = None, stand_in: Change | None = None
    ) -> None:
        super().__init__()
        for name, value in (("change", change), ("stand_in", stand_in)):
            if not callable(value) and not (name == "stand_in" and value is None):
                reject(name, "a function from images to images", value, error=TypeError)
        if through is not None and not isinstance(through, bool):
            reject("through", "True, False or None", through, error=TypeError)
        declared = through is None and stand_in is None
        self.model, self.change = model, change
        self.through = bool(getattr(change, "through", False) if declared else through)
        self.stand_in: Change | None = getattr(change, "stand_in", None) if declared else stand_in

    def extra_repr(self) -> str:
        """The change, so that two defences never look the same in a record."""
        own = "" if isinstance(self.change, nn.Module) else f"change={self.change}"
        stand_in = getattr(self.change, "stand_in", None)
        if self.stand_in == stand_in:  # the change says so itself
            return own
        return f"{own}, stand_in={self.stand_in}"

    def forward(self, x: Images) -> Logits:
        """Logits of the changed images."""
        return classify(self.model, self.change(x))

    def adaptation(self) -> Adaptation:
        """Through the change, or straight past it; then as the classifier behind it declares, if that is defended."""
        named = self.change.__class__.__name__ if isinstance(self.change, nn.Module) else str(self.change)
        model = attackable(self.model)
        surrogate: nn.Module | None
        methods: tuple[str, ...]
        if self.through:
            how, methods = f"gradients pass through {named}", ()
            surrogate = None if model is self.model else Transformed(model, self.change, through=True)
        else:
            backward = "as if it were the identity" if self.stand_in is None else f"through {self.stand_in}"
            how, methods = f"BPDA: forward through {named}, backward {backward}", ("BPDA",)
            surrogate = StraightThrough(model, self.change, self.stand_in)
        return around(self.model, Adaptation(how, surrogate, methods=methods))


class StraightThrough(nn.Module):
    """``model(change(x))`` with the gradient of ``model`` at the changed image.

    Args:
        model: maps images to logits.
        change: maps images to images of the same shape.
        stand_in: what the gradient goes through instead of the identity.
    """

    def __init__(self, model: nn.Module, change: Change, stand_in: Change | None = None) -> None:
        super().__init__()
        self.model, self.change, self.stand_in = model, change, stand_in

    def forward(self, x: Images) -> Logits:
        """The logits of `Transformed`."""
        if self.stand_in is not None:
            near = self.stand_in(x)
            with torch.no_grad():
                apart = _like("change and stand_in", self.change(x), near) - near
            return classify(self.model, near + apart)
        return classify(self.model, _Straight.apply(x, self.change))  # type: ignore[no-untyped-call]


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Change) -> Tensor:
        with torch.no_grad():
            return _like("change without a stand_in", change(x), x).view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def _like(name: str, changed: Tensor, x: Images) -> Tensor:
    """Changed images, if they have the shape whose gradient is to be theirs."""
    if changed.shape != x.shape:
        reject(name, f"images of the same shape, {tuple(x.shape)}", described(f"shape {tuple(changed.shape)}"))
    return changed
