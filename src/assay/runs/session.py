"""Conducting a run: enter its cells, complete what is missing, keep everything, and write what is made from it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.core.outcome import Status
from assay.runs.checks import check
from assay.runs.executors import Executor, Inline, closing
from assay.runs.interrupts import StopRequest, catch_signals
from assay.runs.plan import AttackedModel, PlannedCell, Workload, plan_cells
from assay.runs.scheduler import Failure, OpenCell, count_not_run, run_cells, unfinished_counter, utc_now
from assay.runs.settings import Settings
from assay.store.cell_key import MEANINGS, differences, made_by_other_versions
from assay.store.columns import Cell, CellNames
from assay.store.environment import facts
from assay.store.image_store import store_data
from assay.store.ledger import Ledger
from assay.store.load_report import cell_of
from assay.store.repair import repair
from assay.store.sqlite import on_network
from assay.store.summary import errors_of
from assay.util.progress import Callback, Progress

Notice = Callable[[str], None]


@dataclass(frozen=True)
class RunInfo:
    """What a report tells beside the numbers.

    Attributes:
        title: heading.
        command: the command that asks it again.
        notes: sentences for the top.
        headline: the budgets that are claimed.
    """

    title: str
    command: str = ""
    notes: tuple[str, ...] = ()
    headline: tuple[str, ...] = ()


@dataclass(frozen=True)
class SessionResult:
    """How a run ended.

    Attributes:
        complete: whether every attack ran on every sample, and nothing was interrupted.
        reused: cells that were complete before.
        failures: cells that could not be completed.
        signal: that interrupted it, 0 for none.
        grades: how far the numbers of each model can be believed, by ``data/model``.
        errors: samples on which the model raised an exception, of all cells together.
        first_error: the text of the first of them; empty for none.
    """

    complete: bool
    reused: int
    failures: tuple[Failure, ...] = field(default_factory=tuple)
    signal: int = 0
    grades: Mapping[str, str] = field(default_factory=dict)
    errors: int = 0
    first_error: str = ""


def run_session(
    areas: Sequence[Workload],
    info: RunInfo,
    out: Path,
    settings: Settings,
    ledger: Ledger,
    *,
    executor: Executor | None = None,
    progress: Callback | None = None,
    notice: Notice = lambda _: None,
    strict: bool = False,
    accept_stale: bool = False,
    told_checks: Callable[[str, int, int], None] = lambda _what, _done, _of: None,
) -> SessionResult:
    """Complete a run's cells.

    Args:
        areas: data, models and attacks.
        info: what the report tells besides.
        out: the run's folder, which this process holds.
        settings: how to run.
        ledger: of the folder, to be written.
        executor: who does it; by default this process.
        progress: called as it goes on.
        notice: called with sentences.
        strict: raise what makes a cell fail, instead of going on with the others.
        accept_stale: keep results that only another version of assay or torch tells from what is wanted.
        told_checks: progress of the checks.

    Raises:
        OSError: the folder cannot be written to; what was done is kept.
    """
    executor = executor or Inline(progress)
    repair_folder(ledger, out, notice)
    for area in areas:
        _describe(ledger, out, area)
    _keep(ledger, info, settings)
    ledger.set_meta(
        sources={
            f"{area.name}/{subject.name}": subject.source.to_json(out)
            for area in areas
            for subject in area.subjects
            if subject.source is not None
        }
    )
    here = isinstance(executor, Inline)
    asked_for = [
        cell
        for area in areas
        for cell in plan_cells(area, settings, None if here else data_file(ledger, out, area.digest))
    ]
    known = {entry.key: entry for entry in ledger.cells()}
    if not accept_stale:
        _report_stale(asked_for, known, notice)
    cells = [_entered(ledger, cell, known, notice if accept_stale else None) for cell in asked_for]
    ledger.set_meta(checks={})  # grades of another plan are none of this one, should it be interrupted
    ledger.set_plan((job.entry.id, words) for job, words in cells)
    reused, failures, grades, ended_by_itself = 0, list[Failure](), dict[str, str](), False
    with (
        catch_signals() as stop,
        suppress(KeyboardInterrupt),
        closing(executor),
    ):  # the second signal: what is there is kept
        reused, failures = _completed(cells, ledger, out, executor, stop, progress, notice, strict=strict)
        if not stop.signal:
            bad = {failure.label for failure in failures}  # what killed a worker is not tried here
            suspect = {(cell.words.data, cell.words.model) for cell in asked_for if cell.label in bad}
            entries = [
                (cell, job.entry)
                for cell, (job, _) in zip(asked_for, cells, strict=True)
                if (cell.words.data, cell.words.model) not in suspect
            ]
            grades = check(areas, entries, ledger, out, settings, executor, stop, notice=notice, progress=told_checks)
        ended_by_itself = not stop.signal
    complete = ended_by_itself and all(not count_not_run(ledger, job.entry) for job, _ in cells)
    return SessionResult(complete, reused, tuple(failures), stop.signal, grades, *errors_of(ledger))


def report_findings(subjects: Sequence[AttackedModel], notice: Notice) -> tuple[str, ...]:
    """Say what is odd about models, and how their defences are attacked; the latter is returned."""
    for subject in subjects:
        for finding in subject.findings:
            notice(f"{subject.name}: {finding.code}: {finding.text}")
    said = tuple(subject.said for subject in subjects if subject.said)
    for text in said:
        notice(text)
    return said


def repair_folder(ledger: Ledger, out: Path, notice: Notice) -> None:
    """Put right what a kill has left, and drop what is damaged, so that it is done again."""
    if on_network(out):
        notice(f"{out} is on a network file system: the ledger is slower there, and only one machine may use it")
    for text in repair(ledger, out):
        ledger.add_event(utc_now(), text)
        notice(text)


def _completed(
    cells: Sequence[tuple[OpenCell, CellNames]],
    ledger: Ledger,
    out: Path,
    executor: Executor,
    stop: StopRequest,
    progress: Callback | None,
    notice: Notice,
    *,
    strict: bool,
) -> tuple[int, list[Failure]]:
    """Complete the cells, and say of each how it ended: how many were complete before, and those that failed."""
    words = {job.entry.id: report for job, report in cells}
    shape = {digest: tuple(about["shape"]) for digest, about in ledger.data().items()}

    def report(job: OpenCell, *, before: bool = False) -> None:
        parts = ledger.shards(job.entry.id).get(job.entry.id, [])
        cell = cell_of(out, ledger, job.entry, words[job.entry.id], parts, shape[job.entry.data])
        failed = cell.outcome.count(Status.ERROR)
        if failed and failed == len(cell.outcome) - cell.outcome.count(Status.NOT_RUN):
            notice(f"{cell.model}: {cell.attack}: no result, as all {failed} samples raised an error")
        else:
            notice(f"{cell.model}: {cell.outcome}" + (" (kept from before)" if before else ""))

    def progressed(utc_now: Progress) -> None:
        if progress is not None and not isinstance(executor, Inline):
            progress(utc_now)

    left_of = unfinished_counter(ledger)
    left: dict[int, OpenCell] = {}  # by cell: what is asked for twice, as on a curve, is done once
    for job, _ in cells:
        if left_of(job.entry):
            left.setdefault(job.entry.id, job)
        else:
            report(job, before=True)
    failures: list[Failure] = []
    if left:
        failures = run_cells(
            list(left.values()), ledger, out, executor, stop, completed=report, progressed=progressed, strict=strict
        )
    return sum(job.entry.id not in left for job, _ in cells), failures


def _entered(
    ledger: Ledger, cell: PlannedCell, known: dict[str, Cell], accept: Notice | None
) -> tuple[OpenCell, CellNames]:
    """A cell's place in the ledger: its own, or with ``accept`` that of one which only versions tell from it.

    ``known`` are the entries of the ledger by key; a new one is added.
    """
    entry = known.get(cell.key)
    if entry is None and accept is not None:
        entry = made_by_other_versions(cell.fields, known.values())
        if entry is not None:
            changed = " and ".join(MEANINGS[name] for name in differences(cell.fields, entry.fields))
            text = f"{cell.label}: a result is kept that was made before {changed} changed"
            ledger.add_event(utc_now(), text)
            accept(text)
    if entry is None:
        number = ledger.add_cell(cell.key, cell.data, cell.n, cell.fields, cell.name, cell.stages)
        entry = known[cell.key] = Cell(number, cell.key, cell.data, cell.n, cell.fields, cell.name, cell.stages)
    return OpenCell(entry, cell.order, cell.label), cell.words


def _report_stale(cells: Sequence[PlannedCell], known: Mapping[str, Cell], notice: Notice) -> None:
    """Say that earlier results of the same attacks are not used, as other code or another torch made them."""
    missing = [cell for cell in cells if cell.key not in known]
    near = [(cell, made_by_other_versions(cell.fields, known.values())) for cell in missing]
    names = {name for cell, old in near if old is not None for name in differences(cell.fields, old.fields)}
    count = sum(old is not None for _, old in near)
    if count:
        changed = " and ".join(MEANINGS[name] for name in MEANINGS if name in names)
        which = "one result in this folder was" if count == 1 else f"{count} results in this folder were"
        notice(f"{which} made before {changed} changed: attacked anew")


def data_file(ledger: Ledger, out: Path, digest: str) -> Path:
    """The run's copy of some data."""
    return out.resolve() / str(ledger.data()[digest]["file"])


def _describe(ledger: Ledger, out: Path, area: Workload) -> None:
    data = area.data
    file = ledger.data().get(area.digest, {}).get("file")
    if file is not None and not (out / file).is_file():
        ledger.add_event(utc_now(), f"{file} was lost, and is written again")
    about = {
        "name": area.name,
        "file": store_data(out, data, area.digest),
        "n": len(data),
        "shape": list(data.x.shape[1:]),
        "title": area.title,
        "warnings": list(area.warnings),
    }
    ledger.add_data(area.digest, about)


def _keep(ledger: Ledger, info: RunInfo, settings: Settings) -> None:
    how: Mapping[str, Any] = {
        "seed": str(settings.seed),
        "search": settings.search,
        "stop": settings.stop,
        **({} if settings.max_forwards is None else {"passes per sample": f"at most {settings.max_forwards}"}),
    }
    ledger.set_meta(
        told={
            "title": info.title,
            "command": info.command,
            "notes": list(info.notes),
            "facts": facts(),
            "settings": how,
            "headline": list(info.headline),
        }
    )
