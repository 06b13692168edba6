"""Run the trust checks of a run after its attacks, and store their results in the ledger.

Static checks run in this process; checks that rerun attacks go to the executor, like the attacks.
"""

import hashlib
import sqlite3
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from assay.runs.check_report import build_report, from_json, is_complete, report_grade, to_json
from assay.runs.check_tasks import CheckTask, PlannedCells, build_context, clear_evidence, load_evidence
from assay.runs.executors import Executor
from assay.runs.fault_injection import fault_point
from assay.runs.interrupts import StopRequest
from assay.runs.plan import AttackedModel, Workload
from assay.runs.retry_queue import ATTEMPTS, QueuedTask, run_queue
from assay.runs.scheduler import utc_now
from assay.runs.settings import Settings
from assay.store.ledger import Ledger
from assay.trust.answer import CheckResult, failed
from assay.trust.context import CheckContext
from assay.trust.forecast import forecast
from assay.trust.running import CheckRequest, check_requests, settled
from assay.util.code_digest import code_digest
from assay.util.packages import package_version
from assay.util.progress import SILENT, NoteCallback, Reporter, WorkCallback


@dataclass(frozen=True, eq=False)
class _ModelChecks:
    """A model whose results are checked.

    Attributes:
        model: the model.
        workload: data.
        own_cells: attacks on it.
        other_cells: attacks on other models, on the same data.
        settings: how to run.
    """

    model: AttackedModel
    workload: Workload
    own_cells: PlannedCells
    other_cells: PlannedCells
    settings: Settings

    @property
    def name(self) -> str:
        """Data and model."""
        return f"{self.workload.name}/{self.model.name}"

    @property
    def title(self) -> str:
        """Model and data, for a sentence."""
        return f"{self.model.name} on {self.workload.name}"

    @property
    def ending(self) -> str:
        """When its checks end, for a sentence."""
        return "" if self.settings.checks == "all" else "; they end when the grade is decided"

    @property
    def fast(self) -> bool:
        """Whether checks that rerun attacks are skipped."""
        return self.settings.checks == "fast"

    @property
    def requests(self) -> tuple[CheckRequest, ...]:
        """The checks to run."""
        return check_requests(sum(cell.names.curve is None for cell, _ in self.own_cells), fast=self.fast)

    def context(self, ledger: Ledger, out: Path) -> CheckContext:
        """What its checks read; loads the model."""
        samples = self.settings.check_samples
        return build_context(self.model, self.workload.data, self.own_cells, self.other_cells, ledger, out, samples)

    def key(self, kind: str, *more: str) -> str:
        """The ledger key of a result: a digest of all that it depends on, the order of attacks too, and ``more``."""
        parts = [
            self.model.identity,
            self.workload.digest,
            str(self.settings.check_samples),
            code_digest("assay.trust.*", "assay.models", alone=(__name__,)),
            torch.__version__,
            *(package_version(name) for name in ("torchattacks", "foolbox")),
            *(f"{ledger_cell.key} {planned_cell.names.curve or ''}" for planned_cell, ledger_cell in self.own_cells),
            *more,
        ]
        return f"{kind}-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]

    def key_of(self, request: CheckRequest) -> str:
        """The ledger key of a check that reruns attacks. It does not depend on other models."""
        claims = [entry.key for cell, entry in self.own_cells if cell.names.curve is None]
        return self.key("check", request.check, "" if request.of is None else claims[request.of])

    @property
    def static_inputs(self) -> tuple[str, ...]:
        """Further inputs of the static checks: the reference accuracy and the other models' cells."""
        return str(self.model.reference), *(f"{entry.key} {cell.names.curve or ''}" for cell, entry in self.other_cells)


def check_models(
    workloads: Sequence[Workload],
    cells: PlannedCells,
    ledger: Ledger,
    out: Path,
    settings: Settings,
    executor: Executor,
    stop: StopRequest,
    *,
    reporter: Reporter = SILENT,
) -> dict[str, str]:
    """Check and grade every model of a run; results of an earlier call are reused.

    Args:
        workloads: data and models.
        cells: planned cells, each with its cell in the ledger.
        ledger: of the run.
        out: its folder.
        settings: how much is checked, on how many samples, and where models run.
        executor: runs the checks that rerun attacks.
        stop: whether the user has asked to stop.
        reporter: receives each grade, and progress.

    Returns:
        The grade of each model, by ``data/model``; ``none`` for one that could not be checked.
    """
    cases = list(_cases(workloads, cells, settings)) if settings.checks != "none" else []
    keys = {case: case.key("checks", *case.static_inputs, settings.checks) for case in cases}
    reports = {case: kept for case, key in keys.items() if is_complete(kept := ledger.answer(key))}
    for case, kept in reports.items():
        report_grade(case.title, kept, reporter.note)
    static_results = _run_static_checks([case for case in cases if case not in reports], ledger, out, stop, reporter)
    try:
        for case, answers in _run_attack_checks(static_results, ledger, executor, stop, reporter.work):
            reports[case] = build_report({request: answers[request] for request in case.requests}, fast=case.fast)
            ledger.add_answer(keys[case], "checks", reports[case])
            report_grade(case.title, reports[case], reporter.note)
    finally:
        clear_evidence()
    graded = [case for case in cases if case in reports]
    ledger.set_meta(checks={case.name: keys[case] for case in graded})
    return {case.name: reports[case]["grade"] if case in reports else "none" for case in cases}


def _cases(workloads: Sequence[Workload], cells: PlannedCells, settings: Settings) -> Iterator[_ModelChecks]:
    for workload in workloads:
        data_cells = [(cell, entry) for cell, entry in cells if cell.names.data == workload.name]
        for attacked_model in workload.models:
            own = [(cell, entry) for cell, entry in data_cells if cell.names.model == attacked_model.name]
            others = [(cell, entry) for cell, entry in data_cells if cell.names.model != attacked_model.name]
            if own:
                yield _ModelChecks(attacked_model, workload, own, others, settings)


def _run_static_checks(
    cases: Sequence[_ModelChecks],
    ledger: Ledger,
    out: Path,
    stop: StopRequest,
    reporter: Reporter,
) -> dict[_ModelChecks, dict[CheckRequest, CheckResult]]:
    """Static check results per model; models that fail to load are reported and skipped."""
    results: dict[_ModelChecks, dict[CheckRequest, CheckResult]] = {}
    for number, case in enumerate(cases):
        if stop.signal:
            break
        reporter.work(f"static checks: {case.name}", number, len(cases))
        try:
            results[case] = _looked_at(case, ledger, out, reporter.note)
        except (OSError, sqlite3.Error):
            raise
        except Exception as error:  # raised by the model; the tables and the report must still be written
            reporter.note(f"{case.title}: cannot be checked: {type(error).__name__}: {error}")
    reporter.work("static checks", len(cases), len(cases))
    return results


def _looked_at(case: _ModelChecks, ledger: Ledger, out: Path, note: NoteCallback) -> dict[CheckRequest, CheckResult]:
    """All answers about a model that are there without an attack; says what those that rerun attacks will cost."""
    static_requests = [request for request in case.requests if not request.slow]
    key, context = case.key("looked", *case.static_inputs), None
    stored = ledger.answer(key)
    if stored is None:
        context = case.context(ledger, out)
        stored = [to_json(request.answer(context)) for request in static_requests]
        if not any(answer["failed"] for answer in stored):
            ledger.add_answer(key, "looked", stored)
    answers = {request: from_json(answer) for request, answer in zip(static_requests, stored, strict=True)}
    _add_stored(case, answers, ledger)
    missing = _missing(case, answers)
    if missing:
        cost = forecast(context or case.context(ledger, out), missing)
        note(f"{case.title}: {cost.describe()}{case.ending}")
    return answers


def _run_attack_checks(
    static_results: Mapping[_ModelChecks, dict[CheckRequest, CheckResult]],
    ledger: Ledger,
    executor: Executor,
    stop: StopRequest,
    progress: WorkCallback,
) -> Iterator[tuple[_ModelChecks, dict[CheckRequest, CheckResult]]]:
    """Run the checks that rerun attacks; yield each model as soon as all its results are in."""
    todo: deque[QueuedTask[_ModelChecks, CheckTask]] = deque()
    unanswered: dict[_ModelChecks, int] = {}
    for case, answers in static_results.items():
        missing = _missing(case, answers)
        unanswered[case] = len(missing)
        todo.extend(QueuedTask(case, task) for task in _check_tasks(case, missing, ledger))
        if not missing:
            yield case, _settled(case, answers)
    total = len(todo)
    if todo:
        progress(f"{todo[0].owner.name}, {todo[0].task.request.title}", 0, total)
    for queued, result in run_queue(todo, executor, stop):
        request, case = queued.task.request, queued.owner
        if result is None:
            ledger.add_event(utc_now(), f"{case.name}, {request.title}: the worker was lost, time {queued.losses}")
            if not queued.is_exhausted:
                continue
        static_results[case][request] = answer = _as_check_result(result)
        if not answer.failed:
            ledger.add_answer(case.key_of(request), "check", to_json(answer))
            fault_point("check-committed")
        unanswered[case] -= 1 + _withdraw(todo, case, static_results[case])
        following = todo[0] if todo else queued
        title = f"{following.owner.name}, {following.task.request.title}"
        progress(title, total - sum(unanswered.values()), total)
        if not unanswered[case]:
            yield case, _settled(case, static_results[case])


def _add_stored(case: _ModelChecks, answers: dict[CheckRequest, CheckResult], ledger: Ledger) -> None:
    """Add what the ledger has of the checks that rerun attacks."""
    for request in (request for request in case.requests if request.slow):
        stored = ledger.answer(case.key_of(request))
        if stored is not None:
            answers[request] = from_json(stored)


def _settled(case: _ModelChecks, answers: Mapping[CheckRequest, CheckResult]) -> dict[CheckRequest, CheckResult]:
    return settled(case.requests, answers, everything=case.settings.checks == "all")


def _missing(case: _ModelChecks, answers: Mapping[CheckRequest, CheckResult]) -> list[CheckRequest]:
    """The checks that may still count and have no answer, the gravest first."""
    known = _settled(case, answers)
    return sorted((r for r in case.requests if r not in known), key=lambda request: not request.condemns)


def _withdraw(
    todo: deque[QueuedTask[_ModelChecks, CheckTask]], case: _ModelChecks, answers: Mapping[CheckRequest, CheckResult]
) -> int:
    """Take checks of a model that cannot change its grade any more out of the queue; how many that are."""
    needed = _missing(case, answers)
    kept = [waiting for waiting in todo if waiting.owner is not case or waiting.task.request in needed]
    count = len(todo) - len(kept)
    todo.clear()
    todo.extend(kept)
    return count


def _check_tasks(case: _ModelChecks, missing: Sequence[CheckRequest], ledger: Ledger) -> Iterator[CheckTask]:
    if not missing:
        return
    evidence, task, context_key = load_evidence(case.own_cells, ledger), case.own_cells[0][0].task, case.key("exam")
    for request in missing:
        yield CheckTask(
            context_key,
            task.model,
            task.data,
            evidence,
            case.model.identity,
            case.settings.device,
            case.settings.check_samples,
            request,
        )


def _as_check_result(value: Any) -> CheckResult:
    if value is None:
        return failed(f"its process ended {ATTEMPTS} times (killed, out of memory?)")
    if isinstance(value, Exception):
        return failed(f"{type(value).__name__}: {str(value)[:200]}")
    answer: CheckResult = value
    return answer
