"""Run the checks of an evaluation: which there are, what each answers, and which count."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from assay.core.call_context import in_neutral_context
from assay.core.model_state import seeded
from assay.trust.again import NonFiniteOutput
from assay.trust.answer import DECIDED, SKIPPED, CheckResult, Level, failed, inconclusive, not_applicable
from assay.trust.context import CheckContext
from assay.trust.registry import CHECKS, Check
from assay.util.progress import WorkCallback, no_progress
from assay.util.text import plain


@dataclass(frozen=True)
class CheckRequest:
    """One check of a context.

    Attributes:
        check: a name of `CHECKS`.
        of: which of the results whose budgets are claimed it is about; None for all of them, or the model.
    """

    check: str
    of: int | None = None

    @property
    def slow(self) -> bool:
        """Whether it reruns attacks."""
        return CHECKS[self.check].slow

    @property
    def condemns(self) -> bool:
        """Whether it can find a number unusable that those which rerun nothing have let pass."""
        return CHECKS[self.check].condemns

    @property
    def title(self) -> str:
        """Name and a few words."""
        return f"{self.check}: {CHECKS[self.check].title}"

    @in_neutral_context
    def rehearse(self, context: CheckContext) -> None:
        """Run the attacks that the check runs at most; what a model raises is left to `answer`."""
        rehearse = CHECKS[self.check].rehearse
        if rehearse is None:
            self.answer(context)
        elif len(context.x):
            with suppress(Exception), seeded(context.seed, {context.device}):
                rehearse(context, *([] if self.of is None else [context.claims[self.of]]))

    @in_neutral_context
    def answer(self, context: CheckContext) -> CheckResult:
        """Run the check; an exception becomes a failed result, so that the other results are not lost."""
        check = CHECKS[self.check]
        if not len(context.x):
            return not_applicable("there are no samples")
        attack_result = None if self.of is None else context.claims[self.of]
        try:
            with seeded(context.seed, {context.device}):  # a random model answers alike in every process
                check_result = check.ask(context) if attack_result is None else check.ask(context, attack_result)
        except NonFiniteOutput as error:
            check_result = inconclusive(str(error))
        except Exception as error:  # whatever a model raises
            check_result = failed(f"{type(error).__name__}: {plain(str(error), 200)}")
        return (
            check_result
            if attack_result is None or check_result.about
            else replace(check_result, about=attack_result.label)
        )


def check_requests(
    claims: int, *, before: bool = False, fast: bool = False, only: tuple[str, ...] = ()
) -> tuple[CheckRequest, ...]:
    """The checks to run, in order: each once, or once per claimed result.

    Args:
        claims: how many such results there are.
        before: only what can be asked before anything is attacked.
        fast: skip checks that rerun attacks.
        only: names of `CHECKS`; all by default.
    """
    return tuple(
        CheckRequest(name, at)
        for name, check in _chosen(before, only).items()
        if not (check.slow and fast) and not check.of_answers
        for at in (range(claims) if check.each else (None,))
    )


def settled(
    requests: Iterable[CheckRequest], answers: Mapping[CheckRequest, CheckResult], *, everything: bool = False
) -> dict[CheckRequest, CheckResult]:
    """The answers that count, as if the checks were asked one after another until the grade is decided.

    First comes what reruns nothing, which is always asked; then what may find the number unusable; then the rest. Once
    the number is found unusable nothing else matters; once there is a doubt, only what may find it unusable.

    Args:
        requests: all checks of a model.
        answers: those that are known; some may have been asked before it was clear that they do not count.
        everything: whether to go on when the grade is decided.

    Returns:
        Answers of checks that count, and of those that are left out; what is not in it has to be asked.
    """
    levels: set[Level] = set()
    result = {}
    for request in sorted(requests, key=_order):
        doubtful = Level.WARNING in levels and not request.condemns
        if not everything and request.slow and (Level.ISSUE in levels or doubtful):
            result[request] = inconclusive(DECIDED)
        elif request in answers:
            result[request] = answers[request]
            levels.add(answers[request].level)
    return result


def _order(request: CheckRequest) -> tuple[bool, bool]:
    return request.slow, not request.condemns


def by_check(
    answers: Mapping[CheckRequest, CheckResult], *, before: bool = False, fast: bool = False, only: tuple[str, ...] = ()
) -> dict[str, tuple[CheckResult, ...]]:
    """Answers by name of the check; a check without any request, or one left out, has an answer that says so.

    Args:
        answers: to all `check_requests`, in their order.
        before: as in `check_requests`.
        fast: as in `check_requests`.
        only: as in `check_requests`.
    """
    chosen = _chosen(before, only)
    by_name: dict[str, tuple[CheckResult, ...]] = {}
    for name, check in chosen.items():
        mine = tuple(answer for request, answer in answers.items() if request.check == name)
        placeholder = inconclusive(SKIPPED) if check.slow and fast else not_applicable("nothing was attacked")
        by_name[name] = mine or (placeholder,)
    for name, check in chosen.items():  # when all others are there
        if check.of_answers and not (check.slow and fast):
            by_name[name] = (check.ask(by_name),)
    return by_name


def run_checks(
    context: CheckContext,
    *,
    fast: bool = False,
    only: tuple[str, ...] = (),
    everything: bool = True,
    progress: WorkCallback = no_progress,
) -> dict[str, tuple[CheckResult, ...]]:
    """Run the checks.

    Args:
        context: a model, images and attack results.
        fast: leave out those that rerun attacks.
        only: names of `CHECKS`; all by default.
        everything: whether to ask also what cannot change the grade any more (`settled`).
        progress: progress.

    Returns:
        By name of the check: one answer, or one for each result. What cannot be carried out says why.
    """
    before = not context.results
    by_request: dict[CheckRequest, CheckResult] = {}
    requests = check_requests(len(context.claims), before=before, fast=fast, only=only)
    for number, request in enumerate(sorted(requests, key=_order)):
        if request not in settled(requests, by_request, everything=everything):
            progress(request.title, number, len(requests))
            by_request[request] = request.answer(context)
    by_request = settled(requests, by_request, everything=everything)
    by_request = {request: by_request[request] for request in requests}
    progress("checks", len(requests), len(requests))
    return by_check(by_request, before=before, fast=fast, only=only)


def _chosen(before: bool, only: tuple[str, ...]) -> dict[str, Check]:
    return {
        name: check for name, check in CHECKS.items() if (not only or name in only) and (check.before or not before)
    }
