"""Gradients from queries: any attack that uses gradients becomes one that needs only scores."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from assay.core.attack import Attack, Step
from assay.core.evaluation import Evaluation
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.types import Count, Images, Logits
from assay.util.validate import number, whole


@dataclass(frozen=True)
class Estimated:
    """An attack whose gradients are estimated from scores at random points nearby, in antithetic pairs.

    ``∇ ≈ 1/(2 m σ) Σ (f(x + σu_i) − f(x − σu_i)) u_i`` with m standard normal directions u_i.

    Args:
        attack: an attack that asks for nothing but `Oracle.evaluate`.
        pairs: number of directions (m), two queries each.
        sigma: how far the points are (σ), in input units.

    Source: Ilyas, Engstrom, Athalye & Lin, "Black-box adversarial attacks with limited queries and information", ICML
    2018, algorithm 1 (natural evolution strategies with antithetic sampling).
    """

    attack: Attack[Any]
    pairs: int = 25
    sigma: float = 1e-3

    def __post_init__(self) -> None:
        whole("pairs", self.pairs, least=1)
        number("sigma", self.sigma, least=0, above=True)

    @property
    def geometry(self) -> Geometry | None:
        """That of the attack."""
        return self.attack.geometry

    @property
    def needs(self) -> tuple[str, ...]:
        """What the attack reads."""
        return self.attack.needs

    @property
    def traits(self) -> Traits:
        """Those of the attack, by scores instead of gradients."""
        return replace(self.attack.traits, access="scores", price=1 + 2 * self.pairs, randomised=True)

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "Estimated | None":
        """With the attack varied."""
        inner = self.attack.vary(effort=effort, step_size=step_size, geometry=geometry, objective=objective)
        return None if inner is None else replace(self, attack=inner)

    def init(self, rows: Rows, rng: Rng) -> tuple[Any, Count]:
        """The attack's own state, and the number of steps."""
        return self.attack.init(rows, rng), torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)

    def step(self, rows: Rows, state: tuple[Any, Count], oracle: Oracle, rng: Rng) -> Step[tuple[Any, Count]]:
        """One step of the attack, with estimated gradients."""
        inner, count = state
        estimating = EstimatingOracle(oracle, self.pairs, self.sigma, rng, count)
        step = self.attack.step(rows, inner, estimating, rng)  # type: ignore[arg-type]
        return Step((step.state, count + 1), step.candidate, step.hit, step.cost, step.done, step.pending)

    def describe(self) -> str:
        """The attack's words."""
        return self.attack.describe()


@dataclass(frozen=True)
class EstimatingOracle:
    """An oracle whose gradients are estimates."""

    oracle: Oracle
    pairs: int
    sigma: float
    rng: Rng
    step: Count

    def logits(self, x: Images, rows: Rows) -> Logits:
        """As the oracle's."""
        return self.oracle.logits(x, rows)

    def evaluate(self, objective: Objective, x: Images, rows: Rows, *, scaled: bool = True) -> Evaluation:
        """Value and logits at x, and the estimated gradient; ``1 + 2·pairs`` queries a row.

        Deviation from Ilyas et al., 2018: the points that are asked are clipped to the box, and the estimate is divided
        by the share of draws that stay in it, so that it is as large at the border of the box as inside.
        """
        logits = self.oracle.logits(x, rows)
        grad = torch.zeros_like(x)
        for pair in range(self.pairs):
            u = self.rng.normal(rows.key, tuple(x.shape[1:]), f"direction {pair}", self.step).to(x)
            ends = [(x + self.sigma * u).clamp(0, 1), (x - self.sigma * u).clamp(0, 1)]
            up, down = (objective(self.oracle.logits(end, rows), end, rows) for end in ends)
            slope = (up - down).nan_to_num(0, 0, 0)
            grad = grad + slope.reshape(-1, 1, 1, 1) * u
        # By Stein's lemma E[(up - down)·u] of a linear function is 2σ times its slope times that share.
        inside = torch.special.ndtr((1 - x) / self.sigma) - torch.special.ndtr(-x / self.sigma)
        estimate = grad / (2 * self.sigma * self.pairs * inside)
        return Evaluation(logits, estimate, lambda: objective(logits, x, rows))
