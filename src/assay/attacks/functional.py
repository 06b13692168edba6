"""Attacks that deform an image by a function, by Adam on its parameters; stAdv, which bends it by a flow."""

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, Self, runtime_checkable

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
from assay.core.types import Count, Images, PerRow
from assay.parts.counts import scaled_count
from assay.parts.losses import objective
from assay.parts.step_rules import Adam, AdamState, Move
from assay.parts.unmeasured_set import UnmeasuredSet
from assay.parts.variation import check_variation
from assay.util.hints import with_hints
from assay.util.validate import number, whole


@runtime_checkable
class Deformation(Protocol):
    """A way to change an image by parameters, zero for no change; differentiable."""

    def start(self, rows: Rows) -> Tensor:
        """Parameters of no change, rows first."""
        ...

    def image(self, rows: Rows, parameters: Tensor) -> Images:
        """The changed image, in [0, 1]."""
        ...

    def sample(self, rows: Rows, rng: Rng, purpose: str) -> Images:
        """The image changed by parameters drawn within the limit, ``(b, c, h, w)`` in [0, 1]."""
        ...

    def roughness(self, parameters: Tensor) -> PerRow:
        """What is to stay small: how much neighbours differ."""
        ...

    def project(self, parameters: Tensor) -> Tensor:
        """The nearest parameters within the limit."""
        ...

    @property
    def extent(self) -> float:
        """The limit as a number."""
        ...

    def scaled(self, factor: float) -> Self:
        """With the limit times a factor."""
        ...

    def describe(self) -> str:
        """The limit in words."""
        ...


class FunctionalState(NamedTuple):
    """Parameters of each row, their optimiser and the clock."""

    parameters: Tensor
    adam: AdamState
    step: Count


@dataclass(frozen=True)
class Functional:
    """Ascent on ``objective − weight·roughness`` by Adam on the parameters of a deformation.

    Args:
        name: for tables.
        deformation: how parameters change an image.
        objective: what is maximised.
        steps: Adam steps.
        rate: learning rate.
        weight: of the roughness.
    """

    name: str
    deformation: Deformation
    objective: Objective
    steps: int
    rate: float
    weight: float

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        number("rate", self.rate, least=0, above=True)
        number("weight", self.weight, least=0)

    @property
    def geometry(self) -> UnmeasuredSet:
        """The limit of the deformation."""
        return UnmeasuredSet.of(self.deformation)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the objective reads."""
        return self.objective.needs

    @property
    def traits(self) -> Traits:
        """One pass forward and backward a step."""
        return Traits("gradient", max(self.steps, 1), objective=self.objective)

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "Functional | None":
        """With another effort, step size, limit or loss.

        The step size grows with the limit: steps that do not reach it would make nothing of a larger one.
        """
        check_variation(geometry, objective)
        deformation, rate = self.deformation, step_size * self.rate
        if geometry is not None:
            limits = geometry.limits if isinstance(geometry, UnmeasuredSet) else None
            if not isinstance(limits, type(deformation)):
                return None
            if limits.extent > 0 and deformation.extent > 0:
                rate *= limits.extent / deformation.extent
            deformation = limits
        return replace(
            self,
            deformation=deformation,
            objective=objective or self.objective,
            steps=scaled_count(self.steps, effort),
            rate=rate,
        )

    def init(self, rows: Rows, rng: Rng) -> FunctionalState:
        """No change."""
        parameters = self.deformation.start(rows)
        count = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        return FunctionalState(parameters, Adam(self.rate).init(parameters), count)

    def step(self, rows: Rows, state: FunctionalState, oracle: Oracle, rng: Rng) -> Step[FunctionalState]:
        """One Adam step."""
        with torch.enable_grad():
            parameters = state.parameters.detach().requires_grad_()
            image = self.deformation.image(rows, parameters)
            roughness = self.deformation.roughness(parameters)
        seen = oracle.evaluate(self.objective, image.detach(), rows)
        pulled = (image * seen.grad).sum() - self.weight * roughness.sum()
        grad = torch.autograd.grad(pulled, parameters)[0].nan_to_num(0, 0, 0)
        value = seen.value - self.weight * roughness.detach()
        move = Move(rows, state.parameters, grad, lambda: value, state.step, self.deformation.project)
        moved, adam = Adam(self.rate).update(move, state.adam)
        after = FunctionalState(moved, adam, state.step + 1)
        hit = rows.goal.reached(seen.logits, image)
        with torch.no_grad():
            pending = self.deformation.image(rows, moved)
        return Step(
            after, image.detach(), hit, -value, after.step >= self.steps, pending=pending if self.steps else None
        )

    def describe(self) -> str:
        """Name, steps and limit."""
        return f"{self.name}-{self.steps} {self.deformation.describe()}"


@dataclass(frozen=True)
class Flow:
    """Every pixel is taken from a place nearby, by bilinear interpolation.

    Args:
        pixels: the furthest a pixel may come from, each way.
    """

    pixels: float

    def __post_init__(self) -> None:
        number("pixels", self.pixels, least=0)

    @property
    def extent(self) -> float:
        """The limit."""
        return self.pixels

    def scaled(self, factor: float) -> "Flow":
        """With the limit times a factor."""
        return replace(self, pixels=factor * self.pixels)

    def start(self, rows: Rows) -> Tensor:
        """A flow of zero, ``(b, 2, h, w)`` in pixels."""
        return torch.zeros_like(rows.x[:, :1]).expand(-1, 2, -1, -1).clone()

    def image(self, rows: Rows, parameters: Tensor) -> Images:
        """The image seen through the flow; what would come from outside is the nearest pixel of the border."""
        b, _, h, w = rows.x.shape
        down, across = (torch.arange(side, device=rows.x.device, dtype=rows.x.dtype) for side in (h, w))
        x = (across[None, None] + parameters[:, 0]) * (2 / max(w - 1, 1)) - 1
        y = (down[None, :, None] + parameters[:, 1]) * (2 / max(h - 1, 1)) - 1
        grid = torch.stack([x.expand(b, h, w), y.expand(b, h, w)], 3)
        return F.grid_sample(rows.x, grid, mode="bilinear", padding_mode="border", align_corners=True).clamp(0, 1)

    def sample(self, rows: Rows, rng: Rng, purpose: str) -> Images:
        """The image through a flow drawn uniformly within the limit, each pixel's on its own."""
        return self.image(rows, self.pixels * signed(self.start(rows), rows, rng, purpose))

    def roughness(self, parameters: Tensor) -> PerRow:
        """Sum over neighbours of the length of the difference of their flows (paper's equation 4)."""
        across = parameters[:, :, :, 1:] - parameters[:, :, :, :-1]
        down = parameters[:, :, 1:] - parameters[:, :, :-1]
        lengths = [(d.square().sum(1) + 1e-10).sqrt().flatten(1).sum(1) for d in (across, down)]
        return lengths[0] + lengths[1]

    def project(self, parameters: Tensor) -> Tensor:
        """Each way within the limit."""
        return parameters.clamp(-self.pixels, self.pixels)

    def describe(self) -> str:
        """The limit."""
        return f"flow ≤ {self.pixels:g} px"


@with_hints
def SpatialFlow(
    pixels: float = 3.0, *, steps: int = 100, rate: float = 0.1, weight: float = 0.005, loss: str | Objective = "margin"
) -> Functional:
    """stAdv: a flow field that bends the image, kept smooth.

    Args:
        pixels: the furthest a pixel may come from, each way.
        steps: Adam steps.
        rate: learning rate in pixels.
        weight: of the roughness of the flow (τ).
        loss: objective or its name.

    Example:
        >>> SpatialFlow(2.0).describe()
        'stAdv-100 flow ≤ 2 px'

    Source: Xiao, Zhu, Li, He, Liu & Song, "Spatially transformed adversarial examples", ICLR 2018, equations 1–4; paper
    003. Deviations: Adam for L-BFGS, so that rows are independent; a limit on the flow, so that it is a threat model.
    """
    return Functional("stAdv", Flow(pixels), objective(loss), steps, rate, weight)


def signed(like: Tensor, rows: Rows, rng: Rng, purpose: str) -> Tensor:
    """Numbers drawn uniformly from [-1, 1), in the shape of the parameters."""
    return 2 * rng.uniform(rows.key, tuple(like.shape[1:]), purpose).to(like) - 1
