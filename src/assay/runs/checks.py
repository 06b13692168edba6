"""The checks of a run: asked once all attacks are done, each answer kept in the ledger, shown beside the numbers.

What only looks is asked in this process; what attacks anew is work for the executor, like the attacks.
"""

import hashlib
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from assay.runs.check_tasks import Cells, CheckTask, build_context, clear_evidence, load_evidence
from assay.runs.executors import Executor
from assay.runs.fault_injection import fault_point
from assay.runs.interrupts import StopRequest
from assay.runs.plan import AttackedModel, Workload
from assay.runs.retry_queue import ATTEMPTS, QueuedTask, run_queue
from assay.runs.scheduler import utc_now
from assay.runs.settings import Settings
from assay.store.ledger import Ledger
from assay.trust import CheckRequest, CheckResult, Level, by_check, check_requests, grade
from assay.trust.answer import LEFT_OUT, failed
from assay.util.code_digest import code_digest
from assay.util.packages import package_version

Told = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class _Case:
    """A model whose results are checked.

    Attributes:
        subject: the model.
        area: data.
        own: attacks on it.
        others: attacks on other models, on the same data.
        settings: how to run.
    """

    subject: AttackedModel
    area: Workload
    own: Cells
    others: Cells
    settings: Settings

    @property
    def name(self) -> str:
        """Data and model."""
        return f"{self.area.name}/{self.subject.name}"

    @property
    def fast(self) -> bool:
        """Whether nothing is attacked anew."""
        return self.settings.checks == "fast"

    @property
    def requests(self) -> tuple[CheckRequest, ...]:
        """All that is asked."""
        return check_requests(sum(cell.words.curve is None for cell, _ in self.own), fast=self.fast)

    def key(self, kind: str, *more: str) -> str:
        """A name for all that an answer depends on (the order of attacks, too), and ``more``."""
        parts = [
            self.subject.identity,
            self.area.digest,
            str(self.settings.checked),
            code_digest("assay.trust.*", "assay.models", alone=(__name__,)),
            torch.__version__,
            *(package_version(name) for name in ("torchattacks", "foolbox")),
            *(f"{entry.key} {cell.words.curve or ''}" for cell, entry in self.own),
            *more,
        ]
        return f"{kind}-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]

    def key_of(self, asking: CheckRequest) -> str:
        """The name of one answer of a check that attacks anew: other models have no part in it."""
        claims = [entry.key for cell, entry in self.own if cell.words.curve is None]
        return self.key("check", asking.check, "" if asking.of is None else claims[asking.of])

    @property
    def surroundings(self) -> tuple[str, ...]:
        """What else decides the answers of those that only look: what is known, and other models' images."""
        return str(self.subject.reference), *(f"{entry.key} {cell.words.curve or ''}" for cell, entry in self.others)


def check(
    areas: Sequence[Workload],
    cells: Cells,
    ledger: Ledger,
    out: Path,
    settings: Settings,
    executor: Executor,
    stop: StopRequest,
    *,
    notice: Callable[[str], None] = lambda _: None,
    progress: Told = lambda _what, _done, _of: None,
) -> dict[str, str]:
    """Examine every model of a run; what was asked before of the same results is kept.

    Args:
        areas: data and models.
        cells: what was wanted, and where it is in the ledger.
        ledger: of the run.
        out: its folder.
        settings: how much is checked, on how many samples, and where models run.
        executor: who attacks anew.
        stop: whether an end was asked for.
        notice: called with a line for each model.
        progress: progress.

    Returns:
        The grade of each model, by ``data/model``; ``none`` for one that could not be checked.
    """
    cases = list(_cases(areas, cells, settings)) if settings.checks != "none" else []
    keys = {case: case.key("checks", *case.surroundings, settings.checks) for case in cases}
    there = {case: kept for case, key in keys.items() if _whole(kept := ledger.answer(key))}
    for case, kept in there.items():
        _tell(case, kept, notice)
    looked = _looked([case for case in cases if case not in there], ledger, out, stop, notice, progress)
    try:
        for case, answers in _completed(looked, ledger, executor, stop, progress):
            there[case] = _judged({asking: answers[asking] for asking in case.requests}, fast=case.fast)
            ledger.add_answer(keys[case], "checks", there[case])
            _tell(case, there[case], notice)
    finally:
        clear_evidence()
    known = [case for case in cases if case in there]
    ledger.set_meta(checks={case.name: keys[case] for case in known})
    return {case.name: there[case]["grade"] if case in there else "none" for case in cases}


def _cases(areas: Sequence[Workload], cells: Cells, settings: Settings) -> Iterator[_Case]:
    for area in areas:
        mine = [(cell, entry) for cell, entry in cells if cell.words.data == area.name]
        for subject in area.subjects:
            own = [(cell, entry) for cell, entry in mine if cell.words.model == subject.name]
            others = [(cell, entry) for cell, entry in mine if cell.words.model != subject.name]
            if own:
                yield _Case(subject, area, own, others, settings)


def _looked(
    cases: Sequence[_Case], ledger: Ledger, out: Path, stop: StopRequest, notice: Callable[[str], None], progress: Told
) -> dict[_Case, dict[CheckRequest, CheckResult]]:
    """Static check results per model; models that fail to load are reported and skipped."""
    results: dict[_Case, dict[CheckRequest, CheckResult]] = {}
    for number, case in enumerate(cases):
        if stop.signal:
            break
        progress(f"looking at {case.name}", number, len(cases))
        key, quick = case.key("looked", *case.surroundings), [asking for asking in case.requests if not asking.slow]
        kept = ledger.answer(key)
        if kept is None:
            try:
                exam = build_context(
                    case.subject, case.area.data, case.own, case.others, ledger, out, case.settings.checked
                )
            except (OSError, sqlite3.Error):
                raise
            except Exception as error:  # of the model: no reason to lose tables and report
                notice(f"{case.subject.name} on {case.area.name}: cannot be checked: {type(error).__name__}: {error}")
                continue
            kept = [_plain(asking.answer(exam)) for asking in quick]
            if not any(answer["failed"] for answer in kept):
                ledger.add_answer(key, "looked", kept)
        results[case] = {asking: _read(answer) for asking, answer in zip(quick, kept, strict=True)}
    progress("looked at all models", len(cases), len(cases))
    return results


def _completed(
    looked: Mapping[_Case, dict[CheckRequest, CheckResult]],
    ledger: Ledger,
    executor: Executor,
    stop: StopRequest,
    progress: Told,
) -> Iterator[tuple[_Case, dict[CheckRequest, CheckResult]]]:
    """Each case with all its answers, as soon as they are there."""
    todo: deque[QueuedTask[_Case, CheckTask]] = deque()
    left: dict[_Case, int] = {}
    for case, answers in looked.items():
        missing = _missing(case, answers, ledger)
        left[case] = len(missing)
        todo.extend(QueuedTask(case, order) for order in _orders(case, missing, ledger))
        if not missing:
            yield case, answers
    total = len(todo)
    if todo:
        progress(f"{todo[0].job.name}, {todo[0].work.asking.title}", 0, total)
    for ticket, result in run_queue(todo, executor, stop):
        asking, case = ticket.work.asking, ticket.job
        if result is None:
            ledger.add_event(utc_now(), f"{case.name}, {asking.title}: the worker was lost, time {ticket.lost}")
            if not ticket.given_up:
                continue
        looked[case][asking] = answer = _answer(result)
        if not answer.failed:
            ledger.add_answer(case.key_of(asking), "check", _plain(answer))
            fault_point("check-committed")
        left[case] -= 1
        progress(f"{case.name}, {asking.title}", total - sum(left.values()), total)
        if not left[case]:
            yield case, looked[case]


def _missing(case: _Case, answers: dict[CheckRequest, CheckResult], ledger: Ledger) -> list[CheckRequest]:
    """The checks that rerun attacks and have no result yet; stored results are added to the others."""
    missing = []
    for asking in (asking for asking in case.requests if asking.slow):
        kept = ledger.answer(case.key_of(asking))
        if kept is None:
            missing.append(asking)
        else:
            answers[asking] = _read(kept)
    return missing


def _orders(case: _Case, missing: Sequence[CheckRequest], ledger: Ledger) -> Iterator[CheckTask]:
    if not missing:
        return
    evidence, first, exam = load_evidence(case.own, ledger), case.own[0][0].order, case.key("exam")
    for asking in missing:
        yield CheckTask(
            exam,
            first.model,
            first.data,
            evidence,
            case.subject.identity,
            case.settings.device,
            case.settings.checked,
            asking,
        )


def _answer(value: Any) -> CheckResult:
    if value is None:
        return failed(f"its process ended {ATTEMPTS} times (killed, out of memory?)")
    if isinstance(value, Exception):
        return failed(f"{type(value).__name__}: {str(value)[:200]}")
    answer: CheckResult = value
    return answer


def _judged(answers: Mapping[CheckRequest, CheckResult], *, fast: bool) -> dict[str, Any]:
    """Grade, reasons and answers, as the ledger keeps them."""
    result = by_check(answers, fast=fast)
    verdict = grade(result)
    checks = [{"check": name, **_plain(answer)} for name, arguments in result.items() for answer in arguments]
    return {"grade": verdict.grade, "why": list(verdict.why), "checks": checks}


def _whole(value: Any) -> bool:
    """Whether all answers are there: what could not be carried out is asked again."""
    return value is not None and not any(answer.get("failed") for answer in value["checks"])


def _tell(case: _Case, results: Mapping[str, Any], notice: Callable[[str], None]) -> None:
    why = f": {', '.join(results['why'])}" if results["why"] else ""
    notice(f"{case.subject.name} on {case.area.name}: grade {results['grade']}{why}")
    for text in _reasons(results):
        notice(f"  {text}")


def _reasons(results: Mapping[str, Any]) -> list[str]:
    """Of each check that lowers a grade below standard the first of its worst answers; not what was to be left out."""
    worst: dict[str, str] = {}
    for level in ("issue", "warning", "open"):
        for answer in results["checks"]:
            if answer["level"] == level and answer["check"] in results["why"] and answer["text"] != LEFT_OUT:
                worst.setdefault(answer["check"], f"{answer['check']}: {answer['text']}")
    return list(worst.values()) if results["grade"] in ("unusable", "weak") else []


def _plain(result: CheckResult) -> dict[str, Any]:
    """An answer as JSON can hold it."""
    finite = result.value is None or abs(result.value) < float("inf")
    return {
        **asdict(result),
        "level": str(result.level),
        "samples": list(result.samples)[:50],
        "value": result.value if finite else None,
    }


def _read(kept: Mapping[str, Any]) -> CheckResult:
    return CheckResult(**{**kept, "level": Level(kept["level"]), "samples": tuple(kept["samples"])})
