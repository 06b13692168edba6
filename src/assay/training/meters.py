"""Meters of an epoch: passes, loss, accuracy."""

import torch
from torch import Tensor, nn

from assay.core.model_calls import classify


class Tally:
    """Loss and hits so far."""

    def __init__(self) -> None:
        self.loss, self.hits, self.seen = 0.0, 0, 0

    def add(self, loss: float, hits: int, count: int) -> None:
        """Add a step: its summed loss, how many were right, of how many."""
        self.loss, self.hits, self.seen = self.loss + loss, self.hits + hits, self.seen + count

    def means(self) -> tuple[float, float]:
        """Mean loss and share right."""
        return self.loss / max(self.seen, 1), self.hits / max(self.seen, 1)


class Recorder(nn.Module):
    """The model, counting images and remembering the logits of its last pass in training mode (those of the loss).

    Attributes:
        passes: images that went forward.
        backwards: images whose gradients went back.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.logits: Tensor | None = None
        self.passes = self.backwards = 0
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        """The model's logits, ``(b, k)``, of images ``(b, c, h, w)``."""
        logits = classify(self.model, x)
        self.passes += len(x)
        if logits.requires_grad:
            logits.register_hook(self._count)
        if self.model.training:
            self.logits = logits.detach()
        return logits

    def _count(self, slope: Tensor) -> None:
        self.backwards += len(slope)

    def right(self, y: Tensor) -> Tensor:
        """How many of the last logits were right."""
        if self.logits is None or len(self.logits) != len(y):
            return torch.zeros((), device=y.device)
        return (self.logits.argmax(1) == y).sum()
