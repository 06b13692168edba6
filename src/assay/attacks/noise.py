"""Random noise: the baseline that every attack must beat."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from assay.core.attack import Step
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.types import Count, Eps
from assay.parts.balls import as_ball
from assay.parts.counts import scaled_count
from assay.parts.losses import Margin
from assay.parts.variation import check_variation
from assay.util.hints import with_hints
from assay.util.validate import number, whole


class NoiseState(NamedTuple):
    """How many draws a row has had."""

    step: Count


@dataclass(frozen=True)
class Noise:
    """Independent random members of a set; one forward pass a draw.

    Args:
        geometry: the set.
        draws: number of draws, at least 1.
        edge: draw from the surface of the set.
        sigma: Gaussian noise of this standard deviation instead, projected on the set; None for none.
    """

    geometry: Geometry
    draws: int = 100
    edge: bool = False
    sigma: float | None = None

    def __post_init__(self) -> None:
        whole("draws", self.draws, least=1)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the geometry reads."""
        return self.geometry.needs

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        return Traits("none", self.draws, randomised=True)

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "Noise | None":
        """With another effort, step size, budget or loss."""
        check_variation(geometry, objective)
        if step_size != 1 or objective is not None:
            return None
        return replace(self, draws=scaled_count(self.draws, effort), geometry=geometry or self.geometry)

    def init(self, rows: Rows, rng: Rng) -> NoiseState:
        """No draw yet."""
        return NoiseState(torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device))

    def step(self, rows: Rows, state: NoiseState, oracle: Oracle, rng: Rng) -> Step[NoiseState]:
        """One draw."""
        fresh = _readdressed(rows, state.step)
        if self.sigma is None:
            delta = self.geometry.sample(fresh, rng, "noise", edge=self.edge)
        else:
            normal = rng.normal(fresh.key, tuple(rows.x.shape[1:]), "noise").to(rows.x)
            delta = self.geometry.project(self.sigma * normal, rows)
        image = (rows.x + delta).clamp(0, 1)
        logits = oracle.logits(image, rows)
        cost = -Margin()(logits, image, rows)
        step = state.step + 1
        return Step(NoiseState(step), image, rows.goal.reached(logits, image), cost, step >= self.draws)

    def describe(self) -> str:
        """Kind, draws and set."""
        kind = "Gaussian noise" if self.sigma is not None else "uniform noise"
        return f"{kind} ×{self.draws} {self.geometry.describe()}"


@with_hints
def UniformNoise(eps: Eps, *, norm: str = "linf", draws: int = 100, edge: bool = False) -> Noise:
    """Uniform draws from a ball.

    Args:
        eps: radius in input units.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        draws: number of draws a sample.
        edge: draw from the surface.

    Example:
        >>> UniformNoise(8/255, draws=10).describe()
        'uniform noise ×10 linf 8/255'
    """
    return Noise(as_ball("eps", eps, norm), draws, edge)


@with_hints
def GaussianNoise(eps: Eps, *, norm: str = "l2", sigma: float | None = None, draws: int = 100) -> Noise:
    """Gaussian draws, projected on a ball.

    Args:
        eps: radius in input units.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        sigma: standard deviation in input units; by default ``eps`` (large: most draws end on the surface).
        draws: number of draws a sample.
    """
    ball = as_ball("eps", eps, norm)
    return Noise(ball, draws, sigma=ball.eps if sigma is None else number("sigma", sigma, least=0))


def _readdressed(rows: Rows, step: Count) -> Rows:
    """The rows with a fresh address for each draw."""
    from dataclasses import replace

    return replace(rows, key=rows.key * 1_000_003 + step)
