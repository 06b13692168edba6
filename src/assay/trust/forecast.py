"""What checks will cost: they are gone through with attacks that run nothing and break nothing."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from assay.core.attack import Priced
from assay.core.combinators import AnyAttack, Stage, unfold
from assay.core.expectation import Expectation
from assay.core.model_calls import Classifier
from assay.core.model_parts import modules_in
from assay.core.outcome import Outcome
from assay.core.passes import stage_forwards
from assay.core.types import Images, Labels
from assay.engine.inputs import make_problem
from assay.engine.referee import Record
from assay.trust.context import CheckContext
from assay.trust.running import CheckRequest

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
        unbounded: attacks among them whose cost no number limits: what a sample took at most before stands for it.
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


class _Forgetful(dict[str, Any]):
    """What a check has learnt is not at hand where another one runs in another process."""

    def __setitem__(self, name: str, value: Any) -> None:
        """Learn nothing."""


@dataclass
class _Rehearsal:
    """Counts what attacks would cost on samples that survive them all.

    Attributes:
        own: addresses of the weights of the model and of what attacks see: a network without any of them is not it.
        most: passes that a sample took at most in the evaluation.
        slopes: backward passes to a forward one, at most.
        passes: counted so far.
        unbounded: see `Forecast`.
    """

    own: set[int]
    most: float
    slopes: float
    passes: int = 0
    unbounded: set[str] = field(default_factory=set)

    def __call__(self, model: Classifier, x: Images, y: Labels, attack: AnyAttack, **options: Any) -> Outcome:
        stages, seen = unfold(attack), options.get("surrogate") or model
        weights = _weights(model)
        if not weights or weights & self.own:
            draws = seen.draws if isinstance(seen, Expectation) else 1
            limit = options.get("max_forwards")
            self.passes += math.ceil(len(x) * draws * sum(limit or self._price(stage) for stage in stages))
        unused = {name: options.get(name) for name in ("target", "mask", "test", "ids")}
        record = Record.empty(make_problem(model, x, y, stages, start=None, **unused))
        record.predicted_clean = record.predicted = record.problem.y.clone()
        record.close(record.problem.y >= 0)
        return record.outcome(stages=tuple(s.attack.describe() for s in stages), name=attack.describe(), seconds=0.0)

    def _price(self, stage: Stage) -> float:
        """Passes of a sample that survives all variants of a stage."""
        traits, variants = stage.attack.traits, len(stage.variants)
        counted = (stage_forwards(stage) or 0) * (1 + self.slopes * (traits.access == "gradient"))
        if traits.passes is None and (traits.steps is None or isinstance(stage.attack, Priced)):
            self.unbounded.add(stage.attack.describe())
            counted = max(counted, self.most)
        return variants * (counted + 1)


def forecast(context: CheckContext, requests: Iterable[CheckRequest]) -> Forecast:
    """What the checks that rerun attacks cost at most.

    Each is gone through as it will be (or as its `Check.rehearse` does), but for the attacks: those are counted, and
    break nothing. Nothing that a check learns is told to another, for they may run in different processes. What checks
    ask of the model themselves, beside attacks, is not counted.

    Args:
        context: what they will be asked about.
        requests: the checks; those that rerun nothing are left out.
    """
    slow = [request for request in requests if request.slow]
    outcomes = [result.outcome for result in context.results]
    forwards, backwards = (_all([getattr(o, name) for o in outcomes]) for name in ("forwards", "backwards"))
    spent = forwards + backwards
    most = float(spent.max()) if len(spent) else 0.0
    slopes = float((backwards / forwards.clamp_min(1)).max()) if len(spent) else 1.0
    rehearsal = _Rehearsal(_weights(context.model) | _weights(context.attack_model), most, max(slopes, 1.0))
    rehearsed = replace(context, run=rehearsal, memory=_Forgetful())
    for request in slow:
        request.rehearse(rehearsed)
    seconds = sum(outcome.seconds for outcome in outcomes)
    pace = seconds / float(spent.sum()) if seconds >= _LEAST and bool(spent.any()) else None
    time = None if pace is None else pace * rehearsal.passes
    return Forecast(len(slow), rehearsal.passes, time, tuple(sorted(rehearsal.unbounded)))


def _all(columns: list[Tensor]) -> Tensor:
    return torch.cat(columns).double() if columns else torch.zeros(0, dtype=torch.float64)


def _weights(model: Classifier) -> set[int]:
    return {id(parameter) for root in modules_in(model) for parameter in root.parameters()}
