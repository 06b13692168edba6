"""Rotations and translations: the worst of many."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.core.attack import Step
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.types import Count, Images
from assay.parts.counts import scaled_count
from assay.parts.losses import objective
from assay.parts.unmeasured_set import UnmeasuredSet
from assay.parts.variation import check_variation
from assay.util.hints import with_hints
from assay.util.validate import number, whole


class PoseState(NamedTuple):
    """How many poses a row has tried."""

    step: Count


@dataclass(frozen=True)
class Pose:
    """Rotations and shifts up to some limits.

    Args:
        degrees: largest rotation, either way.
        pixels: largest shift in pixels, each way.
    """

    degrees: float
    pixels: float

    def scaled(self, factor: float) -> "Pose":
        """With both limits times a factor."""
        return Pose(factor * self.degrees, factor * self.pixels)

    def describe(self) -> str:
        """The limits."""
        return f"rotation ≤ {self.degrees:g}°, shift ≤ {self.pixels:g} px"


@with_hints
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
    def geometry(self) -> UnmeasuredSet:
        """The limits."""
        return UnmeasuredSet.of(Pose(self.degrees, self.pixels))

    @property
    def needs(self) -> tuple[str, ...]:
        """What the objective reads."""
        return objective(self.loss).needs

    @property
    def traits(self) -> Traits:
        """Random poses, one pass forward each."""
        return Traits("none", self.k, randomised=True)

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "RotationTranslation | None":
        """With more poses, other limits or another loss."""
        check_variation(geometry, objective)
        pose = Pose(self.degrees, self.pixels)
        if geometry is not None:
            limits = geometry.limits if isinstance(geometry, UnmeasuredSet) else None
            if not isinstance(limits, Pose):
                return None
            pose = limits
        if step_size != 1:
            return None
        loss = objective or self.loss
        return RotationTranslation(scaled_count(self.k, effort), pose.degrees, pose.pixels, loss)

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
