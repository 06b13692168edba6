"""What several planted failures use: shares that are true, and small functions of images and scores."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from assay.attacks.plan import plan
from assay.core.objective import Objective
from assay.core.outcome import Status
from assay.core.rows import Test
from assay.defences import Adaptation
from assay.engine.api import attack
from trust.failures.base import SETTINGS, STRONG, images

GRADIENTS = ("apgd:steps=50", "apgd:steps=30,loss=dlr,targets=5")


def share(
    model: nn.Module,
    setting: str = "digits",
    specs: tuple[str, ...] = STRONG,
    *,
    seen: nn.Module | None = None,
    test: Test | None = None,
    goal: Objective | None = None,
    masks: Tensor | None = None,
) -> float:
    """The share of the setting's test images that all of these attacks leave."""
    (x, y), chosen = images(setting), SETTINGS[setting]
    left = torch.ones(len(x), dtype=torch.bool)
    how = Adaptation("", objective=goal)
    for spec in specs:
        what = how.adapt(plan(spec, eps=chosen.eps, norm=chosen.norm).attack)
        more: dict[str, Any] = {"surrogate": seen, "test": test, "mask": masks}
        left &= attack(model, x, y, what, preflight=False, **more).status == int(Status.SURVIVED)
    return float(left.float().mean())


def hot(z: Tensor, height: float = 1.0) -> Tensor:
    """One number at the largest score, zeros elsewhere."""
    return torch.zeros_like(z).scatter(1, z.argmax(1, keepdim=True), height)


class Padded(nn.Module):
    """A network with one more class that is never the answer."""

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        z = self.model(x)
        return torch.cat([z, z.amin(1, keepdim=True) - 10], 1)
