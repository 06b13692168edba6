"""An exponential moving average of weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The average of a model's weights; its buffers are those of the model.

    Args:
        model: whose weights.
        decay: share of the old average that is kept at each step; 0 for no average at all.

    Source: Polyak & Juditsky, 1992; in adversarial training, Gowal et al., "Uncovering the limits of adversarial
    training", 2020, section 4.3.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay, self.steps = model, decay, 0
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()} if decay else {}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are; early on with less weight for the past (Adam's correction)."""
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 9))
        for name, weight in self.model.named_parameters() if self.decay else ():
            self.weights[name].lerp_(weight, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[nn.Module]:
        """The model with the average for weights, for a while."""
        if not self.decay:
            yield self.model
            return
        kept = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        try:
            self._put(self.weights)
            yield self.model
        finally:
            self._put(kept)

    def state(self) -> dict[str, Tensor | int]:
        """What a checkpoint keeps."""
        return {"steps": self.steps, **{f"weight/{name}": w for name, w in self.weights.items()}}

    def load(self, state: dict[str, Tensor | int]) -> None:
        """Take up a checkpoint."""
        self.steps = int(state["steps"])
        for name in self.weights:
            self.weights[name].copy_(state[f"weight/{name}"])  # type: ignore[arg-type]

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.copy_(weights[name])
