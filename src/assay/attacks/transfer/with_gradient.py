"""Any attack by gradients, with another source of gradients."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from assay.attacks.transfer.gradients import AveragedGradient, GradientSource, Look
from assay.attacks.transfer.input_transforms import InputTransform
from assay.core.attack import Attack, Step
from assay.core.evaluation import Evaluation
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.types import Count, Images, Logits
from assay.util.validate import reject


class WithGradientState(NamedTuple):
    """State of an attack and of its source of gradients, and the number of steps."""

    attack: Any
    source: Any
    step: Count


@dataclass(frozen=True)
class WithGradient:
    """An attack that takes its gradients from a source, such as averages over changed inputs.

    Args:
        attack: one that asks the model for nothing but `Oracle.evaluate`, once a step, such as PGD, MIM or APGD.
        source: where its gradients come from.
        words: what tables say behind the attack's own words.

    Example:
        >>> from assay import PGD
        >>> from assay.attacks.transfer import DiverseInput, through
        >>> through(PGD(8 / 255, steps=10), DiverseInput()).describe()
        'PGD-10 linf 8/255 through DiverseInput(p=0.5, smallest=0.9)'
    """

    attack: Attack[Any]
    source: GradientSource
    words: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.source, GradientSource):
            reject("source", "a source of gradients, such as AveragedGradient((DiverseInput(),))", self.source)
        if not isinstance(self.attack, Attack) or self.attack.traits.access != "gradient":
            reject("attack", "one single attack by gradients, such as MIM(8/255)", self.attack, error=TypeError)

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
        """Those of the attack, at the price of the source."""
        own = self.attack.traits
        return replace(
            own,
            price=own.price * (self.source.price + (0 if self.source.exact else 1)),
            randomised=own.randomised or self.source.randomised,
            passes=None,
        )

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "WithGradient | None":
        """With the attack varied; None for a budget or step size that the source depends on."""
        inner = self.attack.vary(effort=effort, step_size=step_size, geometry=geometry, objective=objective)
        source = self.source.vary(step_size=step_size, geometry=geometry)
        return None if inner is None or source is None else replace(self, attack=inner, source=source)

    def init(self, rows: Rows, rng: Rng) -> WithGradientState:
        """The attack's own start."""
        step = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        return WithGradientState(self.attack.init(rows, rng), self.source.init(rows.x), step)

    def step(self, rows: Rows, state: WithGradientState, oracle: Oracle, rng: Rng) -> Step[WithGradientState]:
        """One step of the attack, with the source's gradient."""
        seeing = _SourceOracle(oracle, self.source, rng, state.step, state.source)
        step = self.attack.step(rows, state.attack, seeing, rng)  # type: ignore[arg-type]
        after = WithGradientState(step.state, seeing.state, state.step + 1)
        return replace(step, state=after)

    def describe(self) -> str:
        """The attack's words, and those behind them."""
        return self.attack.describe() + self.words


@dataclass
class _SourceOracle:
    """An oracle whose gradients come from a source, for one step."""

    oracle: Oracle
    source: GradientSource
    rng: Rng
    step: Count
    state: Any

    def logits(self, x: Images, rows: Rows) -> Logits:
        """As the oracle's."""
        return self.oracle.logits(x, rows)

    def evaluate(self, objective: Objective, x: Images, rows: Rows, *, scaled: bool = True) -> Evaluation:
        """Logits and value at the image itself, and the source's gradient."""
        look = Look(self.oracle, objective, rows, self.rng, self.step)
        seen, self.state = self.source.evaluate(x, look, self.state)
        if self.source.exact:
            return seen
        logits = self.oracle.logits(x, rows)
        return Evaluation(logits, seen.grad, lambda: objective(logits, x, rows))


def through(attack: Attack[Any], *transforms: InputTransform) -> WithGradient:
    """An attack whose gradients are averages over changed copies of the image.

    Args:
        attack: one single attack by gradients.
        transforms: in the order in which they change the image.

    Example:
        >>> from assay import MIM
        >>> from assay.attacks.transfer import DiverseInput, ScaledCopies
        >>> through(MIM(8 / 255), DiverseInput(), ScaledCopies(3)).traits.price
        4
    """
    if isinstance(attack, WithGradient):
        reject("attack", "an attack without a source of gradients of its own", attack.describe())
    return WithGradient(attack, AveragedGradient(transforms), f" through {', '.join(map(repr, transforms))}")
