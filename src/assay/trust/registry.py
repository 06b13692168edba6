"""The checks by name: a new one is a function and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from assay.core.call_context import in_neutral_context
from assay.core.model_state import seeded
from assay.trust import baselines, consistency, defence, gradients, model_state, outputs, reporting, results
from assay.trust.answer import LEFT_OUT, CheckResult, failed, inconclusive, not_applicable
from assay.trust.context import CheckContext, NoNumbers
from assay.trust.known_answers import known_model, other_library
from assay.trust.planted import planted


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        ask: the function: of an exam, or of an exam and one result.
        title: a few words.
        source: who asks for it.
        each: whether it is asked of every result.
        before: whether it can be asked before anything is attacked.
        slow: whether it attacks anew.
    """

    ask: Callable[..., CheckResult]
    title: str
    source: str
    each: bool = False
    before: bool = False
    slow: bool = False


def _model(ask: Callable[..., CheckResult], title: str, source: str) -> Check:
    return Check(ask, title, source, before=True)


def _each(ask: Callable[..., CheckResult], title: str, source: str, *, slow: bool = False) -> Check:
    return Check(ask, title, source, each=True, slow=slow)


def _all(ask: Callable[..., CheckResult], title: str, source: str, *, slow: bool = False) -> Check:
    return Check(ask, title, source, slow=slow)


_CARLINI = "Carlini et al. 2019"
_ATHALYE = "Athalye et al. 2018"
_PINTOR = "Pintor et al. 2022"
_AUTO = "Croce & Hein 2020, AutoAttack's checks"

CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "A1": _model(model_state.frozen, "evaluation mode, frozen state", "TRADES issue 3; foolbox issue 74"),
        "A2": _model(model_state.deterministic, "deterministic", _AUTO),
        "A3": _model(model_state.batch_invariant, "independent of the batch", "TRADES issue 3"),
        "A4": _model(outputs.logits, "logits", _AUTO),
        "A5": _model(gradients.differentiable, "differentiable", f"{_ATHALYE}; {_PINTOR}"),
        "A6": _model(gradients.vanishing, "gradients do not vanish", "Lee et al. 2020; AutoAttack issue 44"),
        "A7": _model(gradients.correct, "gradients are right", _ATHALYE),
        "A8": _model(gradients.rough, "smooth surface", _PINTOR),
        "A9": _model(model_state.no_optimisation, "no optimisation inside", f"{_AUTO}; RobustBench"),
        "A10": _model(outputs.pixels, "pixels as expected", "RobustBench issues 59, 105"),
        "A11": _model(outputs.labels, "labels in order", f"{_CARLINI}; ImageNetV2 issue 4"),
        "A12": _model(outputs.reference, "clean accuracy as known", _CARLINI),
        "B1": _each(results.reverified, "adversarial images verified", "nn_robust_attacks issue 22"),
        "B2": _each(results.inside, "inside the budget", "AttackBench 2025"),
        "B3": _each(results.as_bytes, "as 8-bit images", "our own"),
        "B4": _each(results.apart, "clean errors apart", _CARLINI),
        "B5": _each(results.best_kept, "best image kept", f"{_PINTOR}; AttackBench 2025"),
        "B6": _each(results.converged, "converged in steps", f"{_PINTOR}; {_CARLINI}", slow=True),
        "B7": _each(results.restarted, "converged in restarts", _CARLINI, slow=True),
        "B8": _each(results.step_size, "step size", _CARLINI, slow=True),
        "B9": _each(results.spent, "cost", "AttackBench 2025"),
        "B10": _each(results.complete, "nothing hidden", "AttackBench 2025"),
        "B11": _each(results.moved, "images were changed", "AutoAttack issue 64"),
        "C1": _each(consistency.no_budget, "no budget, no success", "torchattacks issues 124, 172", slow=True),
        "C2": _each(consistency.monotone, "grows with the budget", f"{_CARLINI}; ART issue 840", slow=True),
        "C3": _all(consistency.unbounded, "any image allowed", f"{_CARLINI}; {_PINTOR}", slow=True),
        "C4": _all(baselines.beats_one_step, "better than one step", _ATHALYE, slow=True),
        "C5": _all(baselines.beats_queries, "better than queries", _ATHALYE, slow=True),
        "C6": _all(baselines.beats_noise, "better than noise", _CARLINI, slow=True),
        "C7": _all(baselines.beats_transfer, "better than transfer", _CARLINI),
        "C8": _all(consistency.all_targets, "targets", _CARLINI),
        "C9": _all(consistency.per_sample, "worst case per sample", f"{_CARLINI}; AutoAttack issue 45"),
        "C10": _all(consistency.diverse, "attacks of several kinds", _CARLINI),
        "C11": _all(planted, "planted vulnerability found", "Zimmermann et al. 2022", slow=True),
        "C12": _each(known_model, "works where the answer is known", _CARLINI, slow=True),
        "C13": _all(other_library, "agrees with another library", "torchattacks issue 188", slow=True),
        "D1": _all(defence.enough_draws, "enough draws", _CARLINI, slow=True),
        "D1b": _all(defence.frozen_draws, "broken with its draws frozen", _CARLINI, slow=True),
        "D2": _all(defence.no_way_round, "past what has no gradient", _ATHALYE),
        "D3": _all(defence.detector_counts, "detector evaded, too", "Tramèr et al. 2020"),
        "D4": _all(defence.without_it, "defence taken off", _CARLINI, slow=True),
        "D5": _all(defence.declared, "knowledge declared", _CARLINI),
        "E1": _all(reporting.interval, "interval", "Miller 2024"),
        "E2": _all(reporting.seeds, "seeds", "AutoAttack issue 54"),
        "E3": _all(reporting.written_down, "written down", _CARLINI),
        "E3b": _each(reporting.units, "units of the budget", "AutoAttack issue 54"),
        "E4": _all(reporting.subset, "choice of samples", "our own"),
        "E5": _each(reporting.certified, "below certificates", _CARLINI, slow=True),
        "E6": _all(reporting.precision, "precision", "our own: half precision masks gradients"),
    }
)
"""Every check, in the order in which it is asked."""


@dataclass(frozen=True)
class CheckRequest:
    """One thing to be asked of an exam.

    Attributes:
        check: a name of `CHECKS`.
        of: which of the results whose budgets are claimed it is about; None for all of them, or the model.
    """

    check: str
    of: int | None = None

    @property
    def slow(self) -> bool:
        """Whether something is attacked anew."""
        return CHECKS[self.check].slow

    @property
    def title(self) -> str:
        """Name and a few words."""
        return f"{self.check}: {CHECKS[self.check].title}"

    @in_neutral_context
    def answer(self, exam: CheckContext) -> CheckResult:
        """Run the check; an exception becomes a failed result, so that the other results are not lost."""
        check = CHECKS[self.check]
        result = None if self.of is None else exam.claims[self.of]
        try:
            with seeded(exam.seed, {exam.device}):  # a random model answers alike in every process
                value = check.ask(exam) if result is None else check.ask(exam, result)
        except NoNumbers as error:
            value = inconclusive(str(error))
        except Exception as error:  # whatever a model raises
            value = failed(f"{type(error).__name__}: {str(error)[:200]}")
        return value if result is None or value.about else replace(value, about=result.label)


def check_requests(
    claims: int, *, before: bool = False, fast: bool = False, only: tuple[str, ...] = ()
) -> tuple[CheckRequest, ...]:
    """All that is asked, in order: each check once, or once for each result whose budget is claimed.

    Args:
        claims: how many such results there are.
        before: only what can be asked before anything is attacked.
        fast: leave out what attacks anew.
        only: names of `CHECKS`; all by default.
    """
    return tuple(
        CheckRequest(name, at)
        for name, check in _chosen(before, only).items()
        if not (check.slow and fast)
        for at in (range(claims) if check.each else (None,))
    )


def by_check(
    answers: Mapping[CheckRequest, CheckResult], *, before: bool = False, fast: bool = False, only: tuple[str, ...] = ()
) -> dict[str, tuple[CheckResult, ...]]:
    """Answers by name of the check; a check that had nothing to be asked of, or was left out, has one that says so.

    Args:
        answers: to all `check_requests`, in their order.
        before: as given there; so are the others.
        fast: see there.
        only: see there.
    """
    entries: dict[str, tuple[CheckResult, ...]] = {}
    for name, check in _chosen(before, only).items():
        mine = tuple(answer for asking, answer in answers.items() if asking.check == name)
        omitted = check.slow and fast
        none = inconclusive(LEFT_OUT) if omitted else not_applicable("nothing was attacked")
        entries[name] = mine or (none,)
    return entries


def run_checks(
    exam: CheckContext,
    *,
    fast: bool = False,
    only: tuple[str, ...] = (),
    progress: Callable[[str, int, int], None] = lambda _what, _done, _of: None,
) -> dict[str, tuple[CheckResult, ...]]:
    """Ask the checks.

    Args:
        exam: a model, images and results.
        fast: leave out those that attack anew.
        only: names of `CHECKS`; all by default.
        progress: progress.

    Returns:
        By name of the check: one answer, or one for each result. What cannot be carried out says why.
    """
    before, result = not exam.results, {}
    requests = check_requests(len(exam.claims), before=before, fast=fast, only=only)
    for number, request in enumerate(requests):
        progress(request.title, number, len(requests))
        result[request] = request.answer(exam)
    progress("checks", len(requests), len(requests))
    return by_check(result, before=before, fast=fast, only=only)


def _chosen(before: bool, only: tuple[str, ...]) -> dict[str, Check]:
    return {
        name: check for name, check in CHECKS.items() if (not only or name in only) and (check.before or not before)
    }
