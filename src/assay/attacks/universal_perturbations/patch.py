"""A universal patch: one square that works wherever it is put."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from assay.attacks.universal_perturbations.perturbation import Batch, Tally, rows_of
from assay.core.model_calls import Classifier
from assay.core.objective import Objective
from assay.core.rng import Rng
from assay.core.types import Images, Mask
from assay.parts.balls import Ball
from assay.parts.losses import objective
from assay.util.hints import with_hints
from assay.util.validate import number, whole


@with_hints
@dataclass(frozen=True)
class UniversalPatch:
    """Gradient ascent on a square in expectation over images and places.

    δ of the result holds the patch in its top left corner; `paste` puts it anywhere.

    Args:
        side: of the patch in pixels.
        updates: number of updates, one batch each.
        step_size: length of an update of each value, in input units.
        loss: objective or its name.
        target: a class to push all images towards; None to push them away from their labels.

    Example:
        >>> UniversalPatch(8, target=3).describe()
        'universal patch-500 →3 8×8'

    Source: Brown, Mané, Roy, Abadi & Gilmer, "Adversarial patch", 2017, equation 1 (expectation over images and
    locations). Deviation: sign steps; no scaling or rotation.
    """

    side: int
    updates: int = 500
    step_size: float = 0.02
    loss: str | Objective = "ce"
    target: int | None = None

    def __post_init__(self) -> None:
        whole("side", self.side, least=1)
        whole("updates", self.updates)
        number("step_size", self.step_size, least=0, above=True)
        object.__setattr__(self, "loss", objective(self.loss))

    @property
    def geometry(self) -> Ball:
        """Any colour will do."""
        return Ball("linf", 1.0)

    def update(self, model: Classifier, delta: Tensor, batches: Iterator[Batch], seed: int) -> tuple[Tensor, Tally]:
        """One batch, each image with the patch at a place of its own."""
        oracle, rows = rows_of(model, next(batches), self.target)
        patch = delta[:, :, : self.side, : self.side]
        if not bool(patch.any()):
            patch = torch.full_like(patch, 0.5)
        image, region = paste(rows.x, patch, Rng(seed).uniform(rows.key, (2,), "place").to(rows.x))
        clean = oracle.logits(rows.x, rows).argmax(1)
        result = oracle.evaluate(objective(self.loss), image, rows)
        grad = _gather(result.grad, region, self.side).mean(0, keepdim=True)
        moved = (patch + self.step_size * grad.sign()).clamp(0, 1)
        after = torch.zeros_like(delta)
        after[:, :, : self.side, : self.side] = moved
        now = result.logits.argmax(1)
        right = int((now == (rows.y if self.target is None else rows.goal.aim)).sum())
        return after, Tally(int((now != clean).sum()), right, len(rows))

    def describe(self) -> str:
        """Name, updates, target and side."""
        towards = "" if self.target is None else f" →{self.target}"
        return f"universal patch-{self.updates}{towards} {self.side}×{self.side}"


def paste(x: Images, patch: Tensor, place: Tensor) -> tuple[Images, Mask]:
    """Put a patch into images.

    Args:
        x: images, ``(b, c, h, w)``.
        patch: ``(1, c, s, s)`` in [0, 1].
        place: where, two numbers in [0, 1) a row from top and left, ``(b, 2)``.

    Returns:
        The images, and the mask of the patch, ``(b, 1, h, w)``.
    """
    (h, w), side = x.shape[2:], patch.shape[2]
    top, left = (place[:, 0] * (h - side + 1)).long(), (place[:, 1] * (w - side + 1)).long()
    down = torch.arange(h, device=x.device)[None] - top[:, None]
    across = torch.arange(w, device=x.device)[None] - left[:, None]
    inside = ((down >= 0) & (down < side))[:, :, None] & ((across >= 0) & (across < side))[:, None, :]
    rows_at = down.clamp(0, side - 1)[:, None, :, None].expand(-1, x.shape[1], -1, side)
    tall = patch.expand(len(x), -1, -1, -1).gather(2, rows_at)
    wide = tall.gather(3, across.clamp(0, side - 1)[:, None, None, :].expand(-1, x.shape[1], h, -1))
    return torch.where(inside[:, None], wide, x), inside[:, None].to(x)


def _gather(grad: Images, region: Mask, side: int) -> Tensor:
    """The part of each gradient that lies on the patch, ``(b, c, s, s)``."""
    on = (region > 0).expand_as(grad)
    return grad[on].view(*grad.shape[:2], side, side)
