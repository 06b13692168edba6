"""Patch-wise steps: what does not fit into the budget of a pixel goes to its neighbours."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from assay.core.geometry import Geometry
from assay.parts.balls import Ball
from assay.parts.step_rules import Move
from assay.util.validate import number, reject, whole


@dataclass(frozen=True)
class PatchWise:
    """Sign steps that are longer than the budget allows, with the excess spread over the pixels around.

    ``a ← a + βα·sign(g)``, ``C = max(|a| − eps, 0)·sign(a)``, ``p = βα·sign(W ∗ C)``, ``δ ← P(δ + βα·sign(g) + p)``,
    ``a ← a + p``, with W the mean of the neighbours.

    Args:
        geometry: a linf ball.
        rate: α, in budgets.
        amplification: β.
        kernel: side of W in pixels, odd, at least 3.

    Source: Gao et al., "Patch-wise attack for fooling deep neural network", ECCV 2020, algorithm 1, with the order of
    updates and the projection factor of the official code.
    """

    geometry: Ball
    rate: float
    amplification: float = 10.0
    kernel: int = 3

    def __post_init__(self) -> None:
        if not isinstance(self.geometry, Ball) or self.geometry.norm != "linf":
            reject("geometry", "a linf ball", self.geometry)
        number("rate", self.rate, least=0, above=True)
        number("amplification", self.amplification, least=0, above=True)
        if whole("kernel", self.kernel, least=3) % 2 == 0:
            reject("kernel", "an odd number of pixels", self.kernel)

    @property
    def scaled(self) -> bool:
        """Signs alone matter."""
        return False

    def vary(self, *, effort: float = 1, step_size: float = 1, geometry: Geometry | None = None) -> "PatchWise | None":
        """With another step size or linf ball."""
        if geometry is not None and not (isinstance(geometry, Ball) and geometry.norm == "linf"):
            return None
        return replace(self, rate=step_size * self.rate, geometry=geometry or self.geometry)

    def init(self, parameters: Tensor) -> Tensor:
        """No step was made."""
        return torch.zeros_like(parameters)

    def update(self, move: Move, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step, and where its excess goes."""
        length, channels = self.amplification * self.rate * self.geometry.eps, move.parameters.shape[1]
        step = length * move.grad.sign()
        total = state + step
        excess = (total.abs() - self.geometry.eps).clamp_min(0) * total.sign()
        around = torch.full((self.kernel, self.kernel), 1 / (self.kernel**2 - 1)).to(excess)
        around[self.kernel // 2, self.kernel // 2] = 0
        weights = around.expand(channels, 1, self.kernel, self.kernel)
        spread = length * functional.conv2d(excess, weights, padding=self.kernel // 2, groups=channels).sign()
        return move.project(move.parameters + step + spread), total + spread
