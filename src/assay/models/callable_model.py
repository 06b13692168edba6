"""Classifiers that are no modules, such as `assay.QueryModel`, in the form that a run works with."""

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.model_calls import classify
from assay.core.model_parts import modules_in
from assay.core.model_state import preserve_state
from assay.data.dataset import Dataset
from assay.util.validate import reject

_SHOWN = 64


class CallableModel(nn.Module):
    """A callable as a module: the modules that it holds belong to it, and its answers are part of its identity.

    Args:
        ask: from images ``(b, c, h, w)`` in [0, 1] to logits ``(b, k)``.
        answers: digest of its answers to some images.
    """

    def __init__(self, ask: Callable[[Tensor], Any], answers: str) -> None:
        super().__init__()
        self.ask, self.answers = ask, answers
        self.differentiable = bool(getattr(ask, "differentiable", True))
        self.held = nn.ModuleList(modules_in(ask))

    def forward(self, x: Tensor) -> Any:
        """What the callable returns."""
        return self.ask(x)

    @property
    def digest(self) -> str:
        """What tells this model from others: no attribute of a connection to a service does."""
        return self.extra_repr()

    def extra_repr(self) -> str:
        """What decides the answers, as far as it can be told."""
        inner = getattr(self.ask, "ask", self.ask)
        settings = [
            f"{name}={getattr(self.ask, name)!r}" for name in ("gives", "classes", "layout") if hasattr(self.ask, name)
        ]
        return ", ".join((getattr(inner, "__qualname__", type(inner).__qualname__), *settings, self.answers))


def as_module(name: str, model: Any, data: Dataset) -> nn.Module:
    """A classifier as a module.

    Two callables count as the same model if they have the same name and give the same answers to the first 64 images:
    nothing else can be known of them.

    Args:
        name: of the model, for the message.
        model: a module, or a callable such as `assay.QueryModel`.
        data: images to ask about.

    Raises:
        TypeError: neither.
    """
    if isinstance(model, nn.Module):
        return model
    if not callable(model):
        reject(f"models[{name!r}]", "a torch.nn.Module, or a callable such as assay.QueryModel", model, error=TypeError)
    with preserve_state(model), torch.no_grad():
        logits = classify(model, data.images(slice(0, _SHOWN)))
    rounded = logits.double().cpu().round(decimals=4) + 0.0
    return CallableModel(model, hashlib.sha256(rounded.numpy().tobytes()).hexdigest()[:16])
