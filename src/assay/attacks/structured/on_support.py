"""Any attack, held to the values that an adversarial image has changed already."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from assay.attacks.fmn import FMN
from assay.core.attack import Attack, Step
from assay.core.evaluation import Evaluation
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.tree import expand_rows
from assay.core.types import NORMS, Images, Logits
from assay.parts.min_distance import length_of
from assay.util.hints import with_hints
from assay.util.validate import number, reject


class HeldState(NamedTuple):
    """The attack's own state, and the values that may change."""

    inner: Any
    support: Tensor


@with_hints
@dataclass(frozen=True)
class OnSupport:
    """An attack whose gradients are zero wherever the image it starts from is clean: smaller, and as sparse.

    It follows any attack that leaves few values changed, ``Then(SigmaZero(), OnSupport())``, and claims only images
    that are nearer than what it started from, in the norm that the attack minimises.

    Args:
        attack: one that starts at the clean image and moves along `Oracle.evaluate`'s gradients, such as `FMN`, `DDN`.
        quantile: share of the changed values, the smallest, that are put back first (σ).

    Example:
        >>> OnSupport(FMN(50)).describe()
        'FMN-50 l2 on its support'

    Source: Xu et al., "Structured adversarial attack", ICLR 2019, section 4.2, equation 20: what
    `Refine` solves by ADMM is left to an attack that comes nearer with fewer passes.
    """

    attack: Attack[Any] = field(default_factory=lambda: FMN(100))
    quantile: float = 0.03

    def __post_init__(self) -> None:
        number("quantile", self.quantile, least=0, most=1)

    @property
    def geometry(self) -> Geometry | None:
        """That of the attack."""
        return self.attack.geometry

    @property
    def needs(self) -> tuple[str, ...]:
        """The image to start from, and what the attack reads."""
        return tuple(sorted({"start", *self.attack.needs}))

    @property
    def traits(self) -> Traits:
        """Those of the attack, which minimises on the support that it is given."""
        return replace(self.attack.traits, minimises=self._norm)

    @property
    def _norm(self) -> str:
        own = self.attack.traits.minimises
        return own if own in NORMS else "l2"

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "OnSupport | None":
        """With the attack varied."""
        inner = self.attack.vary(effort=effort, step_size=step_size, geometry=geometry, objective=objective)
        return None if inner is None else replace(self, attack=inner)

    def init(self, rows: Rows, rng: Rng) -> HeldState:
        """The attack's own start, and the support of the image found so far."""
        if rows.start is None:
            reject("rows.start", "images to refine, such as another attack leaves: Then(attack, OnSupport())", None)
        return HeldState(self.attack.init(rows, rng), support_of(rows.start - rows.x, self.quantile))

    def step(self, rows: Rows, state: HeldState, oracle: Oracle, rng: Rng) -> Step[HeldState]:
        """One step of the attack, with gradients that are zero outside."""
        masked_oracle = HeldOracle(oracle, state.support)
        step = self.attack.step(rows, state.inner, masked_oracle, rng)  # type: ignore[arg-type]
        start = rows.x if rows.start is None else rows.start
        nearer = length_of(step.candidate - rows.x, self._norm) < length_of(start - rows.x, self._norm)
        hit = step.hit & nearer
        cost = torch.where(hit, step.costs(), torch.inf)
        return Step(HeldState(step.state, state.support), step.candidate, hit, cost, step.done)

    def describe(self) -> str:
        """The attack's words."""
        return f"{self.attack.describe()} on its support"


@dataclass(frozen=True)
class HeldOracle:
    """An oracle whose gradients are zero outside the support."""

    oracle: Oracle
    support: Tensor

    def logits(self, x: Images, rows: Rows) -> Logits:
        """As the oracle's."""
        return self.oracle.logits(x, rows)

    def evaluate(self, objective: Objective, x: Images, rows: Rows, *, scaled: bool = True) -> Evaluation:
        """The oracle's, with the gradient on the support alone."""
        seen = self.oracle.evaluate(objective, x, rows, scaled=scaled)
        return Evaluation(seen.logits, seen.grad * self.support, seen.values)


def support_of(delta: Images, quantile: float) -> Tensor:
    """Where a perturbation is larger than the quantile of its own changed values (σ), row by row.

    Example:
        >>> support_of(torch.tensor([[[[0.0, 0.1, 0.2, 0.3]]]]), 0.5).tolist()
        [[[[False, False, False, True]]]]
    """
    size = delta.abs().flatten(1)
    changed = size > 0
    count = changed.sum(1)
    order = torch.where(changed, size, torch.inf).sort(dim=1).values
    at = (quantile * (count - 1).clamp_min(0)).floor().long()
    threshold = expand_rows(order.gather(1, at[:, None]).squeeze(1), size)
    return (changed & ((size > threshold) | (at[:, None] == 0))).view_as(delta)
