"""What the parts of a study cost at most: passes counted, networks timed here."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from assay.core.combinators import AnyAttack
from assay.core.passes import Passes
from assay.diagnostics.context import DiagnosticContext
from assay.diagnostics.registry import DIAGNOSTICS
from assay.diagnostics.trail import Trail
from assay.store.ledger import Ledger
from assay.store.sqlite import NAME
from assay.study.attack_plan import added_attack
from assay.study.diagnostics import build_context, chosen_epochs, data_of, train_limit
from assay.study.images import load_images, stand_in
from assay.study.pace import Pace, measure_pace, price_of, price_of_training
from assay.study.plan import PlannedModelTraining, StudyPlan, UntrainedModel, Use
from assay.study.schema import LEARNED, Diagnosis
from assay.study.signature_costs import signature_costs
from assay.util.progress import Reporter
from assay.util.validate import reject


@dataclass(frozen=True)
class PartForecast:
    """A training, a diagnostic, certificates or a part of the signatures.

    Attributes:
        kind: ``"training"``, ``"diagnostic"``, ``"certificates"`` or ``"signatures"``.
        name: of the model, the question, or what is done.
        data: name of the data.
        state: ``"kept"``, ``"to be done"``, or why it is not possible.
        passes: forward and backward passes, at most; NaN where nothing limits them.
        seconds: the same in time, in one process.
    """

    kind: str
    name: str
    data: str
    state: str
    passes: float
    seconds: float


class Estimates:
    """Prices and paces, each measured once.

    Args:
        plan: the study.
        reporter: receives what is timed.
    """

    def __init__(self, plan: StudyPlan, reporter: Reporter) -> None:
        self.plan, self.reporter = plan, reporter
        self._prices: dict[tuple[str, str], Passes | None] = {}
        self._paces: dict[tuple[object, ...], Pace] = {}

    def price(self, attack: AnyAttack, data: str) -> Passes | None:
        """What all steps of an attack on an image of a data set cost; None where no number limits them."""
        key = (repr(attack), data)
        if key not in self._prices:
            planned = self.plan.datasets[data]
            limit = self.plan.settings.max_forwards
            self._prices[key] = price_of(attack, planned.shape, len(planned.test.classes), limit)
        return self._prices[key]

    def pace(self, model: UntrainedModel, data: str) -> Pace:
        """How fast a network is on images of a data set."""
        planned = self.plan.datasets[data]
        key = (model.arch or id(model.network), planned.shape, len(planned.test.classes))
        if key not in self._paces:
            self.reporter.note(f"timing {model.arch or 'a network that is loaded'} on {data}")
            self._paces[key] = measure_pace(model.network, planned.shape, self.plan.settings.device)
        return self._paces[key]

    def parts(self, out: Path) -> Iterator[PartForecast]:
        """Trainings, diagnostics and signatures.

        Args:
            out: the run's folder, which is only read.
        """
        plan = self.plan
        for use, training in plan.untrained.items():
            yield self._training(use, training)
        for name, data in sorted(plan.unfitted):
            fit = plan.config.models[name].fit
            if fit is not None:
                yield PartForecast("training", f"{fit.defence} of {name}", data, "to be done", math.nan, math.nan)
        stored, open_models = _answers(out), bool(plan.untrained or plan.unfitted)
        for question in plan.config.diagnostics:
            for name in question.ask:
                kept = not open_models and name in stored
                if name == "suspicion" and question.saliency == LEARNED and not kept:
                    data = data_of(plan.config, question)
                    yield PartForecast("training", "a saliency model", data, "to be done", math.nan, math.nan)
                yield self._diagnostic(question, name, kept=kept)
        if plan.config.signatures is not None:
            kept = not open_models and any(name.startswith("recognition") for name in stored)
            for what, data, passes, seconds in signature_costs(plan, self.price, self.pace):
                yield PartForecast("signatures", what, data, *_left(kept, passes, seconds))

    def _training(self, use: Use, training: PlannedModelTraining) -> PartForecast:
        (name, data), recipe = use, training.recipe
        planned = self.plan.datasets[data]
        each = price_of_training(recipe, planned.shape, len(planned.test.classes))
        held_out = recipe.validate * Passes(12.0, 10.0)
        passes = recipe.epochs * training.images * ((1 - recipe.validate) * each + held_out)
        section = self.plan.config.models[name].train
        if section is not None and section.add is not None:
            count = section.add.limit * max(section.add.targets, 1)
            price = self.price(added_attack(self.plan.config, section.add), data) or Passes()
            passes += count * (price + recipe.epochs * each)
        seconds = self.pace(self.plan.described[use], data).seconds(passes)
        return PartForecast("training", name, data, "to be done", passes.total, seconds)

    def _diagnostic(self, question: Diagnosis, name: str, *, kept: bool) -> PartForecast:
        data = data_of(self.plan.config, question)
        label = f"{name} {'over' if question.over else 'of'} {question.about}" if question.about else name
        cost = DIAGNOSTICS[name].cost
        passes = None
        if cost is not None:
            try:
                passes = cost(self._context(question, data), lambda attack: self._priced(attack, data))
            except _Unlimited:
                passes = None
        if passes is None:
            return PartForecast("diagnostic", label, data, *_left(kept, math.nan, math.nan))
        uses = [(question.over, data)] if question.over is not None else self._uses(question, data)
        paces = [self.pace(self.plan.described[use], data) for use in uses if use in self.plan.described]
        seconds = sum(pace.seconds(passes) for pace in paces) / max(len(paces), 1)
        return PartForecast("diagnostic", label, data, *_left(kept, passes.total, seconds))

    def _priced(self, attack: AnyAttack, data: str) -> Passes:
        price = self.price(attack, data)
        if price is None:
            raise _Unlimited
        return price

    def _uses(self, question: Diagnosis, data: str) -> list[Use]:
        names = question.models or tuple(model for model, used in self.plan.described if used == data)
        return [(name, data) for name in names]

    def _context(self, question: Diagnosis, data: str) -> DiagnosticContext:
        """What the question asks about, with networks that are only counted."""
        plan, source = self.plan, self.plan.config.data[data]
        limit = train_limit(question, source)
        there = plan.datasets[data].there
        train = (
            load_images(source, "train", limit=limit, name=data) if there else stand_in(source, "train", limit=limit)
        )
        test = plan.datasets[data].test
        trail = None
        models: dict[str, nn.Module] = {}
        if question.over is not None:
            training = plan.config.models[question.over].train
            if training is None:
                reject("over", "a model that the study trains", question.over)
            epochs = training.recipe(teacher=training.teacher).epochs
            trail = chosen_epochs(question, Trail({epoch: nn.Identity() for epoch in range(epochs + 1)}))
        else:
            models = {name: nn.Identity() for name, _ in self._uses(question, data)}
        return build_context(question, trail, models, train, test.take(slice(0, question.limit)))


class _Unlimited(Exception):
    """No number limits an attack."""


def _left(kept: bool, passes: float, seconds: float) -> tuple[str, float, float]:
    return ("kept", 0.0, 0.0) if kept else ("to be done", passes, seconds)


def _answers(out: Path) -> set[str]:
    """Names of the answers that a run's folder has."""
    if not (out / NAME).is_file():
        return set()
    with Ledger(out) as ledger:
        answers = [ledger.answer(key) for key in ledger.meta("answers") or ()]
    return {answer["name"] for answer in answers if answer is not None and not answer.get("failed")}
