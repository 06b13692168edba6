"""What checks will cost: they are gone through with attacks that run nothing and break nothing."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from assay.core.combinators import AnyAttack, Stage, unfold
from assay.core.model_calls import Classifier
from assay.core.outcome import Outcome
from assay.core.types import Images, Labels
from assay.engine.inputs import make_problem
from assay.engine.referee import Record
from assay.trust.context import CheckContext
from assay.trust.registry import CheckRequest

_LEAST = 1.0
"""Seconds of an evaluation from which its pace says something: below, most of it is what begins once."""


@dataclass(frozen=True)
class Forecast:
    """What checks cost at most.

    Attributes:
        reruns: how many of them rerun attacks.
        passes: passes of the model, forward and backward, where every sample survives what is run again.
        seconds: the time of so many passes, as fast as those of the evaluation were; None where that was too short to
            tell.
        unbounded: attacks among them whose steps no number limits; they are counted as what they took before.
    """

    reruns: int
    passes: int
    seconds: float | None
    unbounded: tuple[str, ...] = ()

    def describe(self) -> str:
        """One sentence.

        Example:
            >>> Forecast(12, 84_000, 71.4).describe()
            '12 checks rerun attacks, at most 84,000 passes of the model (71 s at the pace of the evaluation)'
        """
        pace = "" if self.seconds is None else f" ({self.seconds:,.0f} s at the pace of the evaluation)"
        most = "about" if self.unbounded else "at most"
        return f"{self.reruns} checks rerun attacks, {most} {self.passes:,} passes of the model{pace}"


@dataclass
class _Rehearsal:
    """Counts what attacks would cost on samples that survive them all."""

    took: dict[str, float]
    passes: int = 0
    unbounded: set[str] = field(default_factory=set)

    def __call__(self, model: Classifier, x: Images, y: Labels, attack: AnyAttack, **options: Any) -> Outcome:
        stages = unfold(attack)
        self.passes += round(len(x) * (1 + sum(self._price(stage) for stage in stages)))
        unused = {name: options.get(name) for name in ("target", "mask", "test", "ids")}
        record = Record.empty(make_problem(model, x, y, stages, start=None, **unused))
        record.predicted_clean = record.predicted = record.problem.y.clone()
        record.close(record.problem.y >= 0)
        return record.outcome(stages=tuple(s.attack.describe() for s in stages), name=attack.describe(), seconds=0.0)

    def _price(self, stage: Stage) -> float:
        traits, variants = stage.attack.traits, len(stage.variants)
        if traits.steps is None:
            self.unbounded.add(stage.attack.describe())
            return variants * self.took.get(stage.attack.describe(), 0.0)
        return variants * (traits.steps * (traits.price + (traits.access == "gradient")) + 1)


def forecast(context: CheckContext, requests: Iterable[CheckRequest]) -> Forecast:
    """What the checks that rerun attacks cost at most.

    Each is gone through as it will be, but for the attacks: those are counted, and break nothing. What checks ask of
    the model themselves they ask it here, too (C11: some hundred passes a budget).

    Args:
        context: what they will be asked about.
        requests: the checks; those that rerun nothing are left out.
    """
    slow = [request for request in requests if request.slow]
    spent = {r.label: (r.outcome.forwards + r.outcome.backwards).double() for r in context.results}
    rehearsal = _Rehearsal({label: float(passes.max()) for label, passes in spent.items() if len(passes)})
    rehearsed = replace(context, run=rehearsal, memory={})
    for request in slow:
        request.answer(rehearsed)
    total = float(sum(passes.sum() for passes in spent.values()))
    seconds = sum(result.outcome.seconds for result in context.results)
    pace = seconds / total if total and seconds >= _LEAST else None
    time = None if pace is None else pace * rehearsal.passes
    return Forecast(len(slow), rehearsal.passes, time, tuple(sorted(rehearsal.unbounded)))
