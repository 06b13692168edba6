"""Rotations and translations: the worst of many."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.core.arguments import number, whole
from assay.core.attack import Step
from assay.core.described import Described
from assay.core.objectives import Objective, objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.types import Count, Images


class PoseState(NamedTuple):
    """How many poses a row has tried."""

    step: Count


@dataclass(frozen=True)
class RotationTranslation:
    """Worst of k random rotations and shifts, within limits; pixels that come from outside are black.

    Args:
        k: poses tried.
        degrees: largest rotation, either way.
        pixels: largest shift in pixels, each way.
        loss: objective or its name, for which image to keep where none is adversarial.

    Example:
        >>> RotationTranslation().describe()
        'worst of 10: rotation ≤ 30°, shift ≤ 3 px'

    Source: Engstrom, Tran, Tsipras, Schmidt & Madry, "Exploring the landscape of spatial robustness", ICML 2019,
    section 3 (worst-of-10; 30° and 3 pixels for MNIST and CIFAR-10, with zero padding and bilinear interpolation).
    """

    k: int = 10
    degrees: float = 30.0
    pixels: float = 3.0
    loss: str | Objective = "ce"

    def __post_init__(self) -> None:
        whole("k", self.k, least=1)
        number("degrees", self.degrees, least=0, most=180)
        number("pixels", self.pixels, least=0)
        object.__setattr__(self, "loss", objective(self.loss))

    @property
    def geometry(self) -> Described:
        """The limits."""
        return Described(f"rotation ≤ {self.degrees:g}°, shift ≤ {self.pixels:g} px")

    @property
    def needs(self) -> tuple[str, ...]:
        """What the objective reads."""
        return objective(self.loss).needs

    def init(self, rows: Rows, rng: Rng) -> PoseState:
        """No pose yet."""
        return PoseState(torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device))

    def step(self, rows: Rows, state: PoseState, oracle: Oracle, rng: Rng) -> Step[PoseState]:
        """One pose."""
        draw = 2 * rng.uniform(rows.key, (3,), "pose", state.step).to(rows.x) - 1
        image = posed(rows.x, self.degrees * draw[:, 0], self.pixels * draw[:, 1:])
        logits = oracle.logits(image, rows)
        cost = -objective(self.loss)(logits, image, rows)
        step = state.step + 1
        return Step(PoseState(step), image, rows.goal.reached(logits, image), cost, step >= self.k)

    def describe(self) -> str:
        """Number of poses and limits."""
        return f"worst of {self.k}: {self.geometry.words}"


def posed(x: Images, degrees: Tensor, shift: Tensor) -> Images:
    """Images turned about their middle and shifted, by bilinear interpolation, black outside.

    Args:
        x: ``(b, c, h, w)``.
        degrees: counter-clockwise, ``(b,)``.
        shift: to the right and down, in pixels, ``(b, 2)``.
    """
    h, w = x.shape[2:]
    angle = degrees * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    dx, dy = -2 * shift[:, 0] / w, -2 * shift[:, 1] / h
    first = torch.stack([cos, -sin * (h / w), cos * dx - sin * (h / w) * dy], 1)
    second = torch.stack([sin * (w / h), cos, sin * (w / h) * dx + cos * dy], 1)
    grid = F.affine_grid(torch.stack([first, second], 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False).clamp(0, 1)
