"""A run session: register cells, run the missing ones, check the results."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.core.outcome import Status
from assay.runs.certify import certify_models
from assay.runs.checks import check_models
from assay.runs.executors import Executor, Inline, closing
from assay.runs.interrupts import StopRequest, catch_signals
from assay.runs.plan import AttackedModel, PlannedCell, Workload, plan_cells
from assay.runs.scheduler import Failure, OpenCell, count_not_run, run_cells, unfinished_counter, utc_now
from assay.runs.settings import Settings
from assay.store.cell_key import FIELD_LABELS, differences, made_by_other_versions
from assay.store.certified import CERTIFICATES, closed_models
from assay.store.columns import Cell, CellNames
from assay.store.image_store import store_data
from assay.store.integrity.repair import repair
from assay.store.ledger import Ledger
from assay.store.load_report import load_cell_result
from assay.store.sqlite import on_network
from assay.store.summary import errors_of
from assay.util.environment import facts
from assay.util.progress import SILENT, NoteCallback, Progress, Reporter


class Contradiction(RuntimeError):
    """A sample that is certified, and broken by an attack."""


@dataclass(frozen=True)
class RunInfo:
    """What a report shows besides the numbers.

    Attributes:
        title: heading.
        command: the command that repeats the run.
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
    workloads: Sequence[Workload],
    info: RunInfo,
    out: Path,
    settings: Settings,
    ledger: Ledger,
    *,
    executor: Executor | None = None,
    reporter: Reporter = SILENT,
    strict: bool = False,
    accept_stale: bool = False,
) -> SessionResult:
    """Complete a run's cells.

    Args:
        workloads: data, models and attacks.
        info: what the report shows besides the numbers.
        out: the run's folder, which this process holds.
        settings: how to run.
        ledger: of the folder, to be written.
        executor: who does it; by default this process.
        reporter: receives events and progress.
        strict: raise what makes a cell fail, instead of going on with the others.
        accept_stale: reuse results that differ only in the version of assay or torch.

    Raises:
        OSError: the folder cannot be written to; what was done is kept.
    """
    executor = executor or Inline(reporter.samples)
    repair_folder(ledger, out, reporter.note)
    for workload in workloads:
        _register_data(ledger, out, workload)
    _store_info(ledger, info, settings)
    ledger.set_meta(
        sources={
            f"{workload.name}/{attacked_model.name}": attacked_model.source.to_json(out)
            for workload in workloads
            for attacked_model in workload.models
            if attacked_model.source is not None
        }
    )
    here = isinstance(executor, Inline)
    planned_cells = [
        cell
        for workload in workloads
        for cell in plan_cells(workload, settings, None if here else data_file(ledger, out, workload.digest))
    ]
    cells_by_key = {entry.key: entry for entry in ledger.cells()}
    if not accept_stale:
        _report_stale(planned_cells, cells_by_key, reporter.note)
    open_cells = [
        _register_cell(ledger, cell, cells_by_key, reporter.note if accept_stale else None) for cell in planned_cells
    ]
    ledger.set_meta(checks={}, **{CERTIFICATES: []})  # do not show grades of an earlier plan if this run is interrupted
    ledger.set_plan((open_cell.cell.id, names) for open_cell, names in open_cells)
    reused, failures, grades, ran_to_end = 0, list[Failure](), dict[str, str](), False
    with (
        catch_signals() as stop,
        suppress(KeyboardInterrupt),
        closing(executor),
    ):  # on the second signal, stored results are kept
        reused, failures = _run_open_cells(open_cells, ledger, out, executor, stop, reporter, strict=strict)
        if not stop.signal:
            files = {} if here else {each.digest: data_file(ledger, out, each.digest) for each in workloads}
            wrong = certify_models(workloads, files, ledger, out, settings, executor, stop, reporter=reporter)
            failures += [Failure(text, Contradiction(text)) for text in wrong]
        if not stop.signal:
            # a model that killed a worker is not checked in this process
            failed_labels = {failure.label for failure in failures}
            suspect = {(cell.names.data, cell.names.model) for cell in planned_cells if cell.label in failed_labels}
            checked_cells = [
                (cell, open_cell.cell)
                for cell, (open_cell, _) in zip(planned_cells, open_cells, strict=True)
                if (cell.names.data, cell.names.model) not in suspect
            ]
            grades = check_models(workloads, checked_cells, ledger, out, settings, executor, stop, reporter=reporter)
            grades |= _closed(workloads, grades, ledger, reporter.note)
        ran_to_end = not stop.signal
    complete = ran_to_end and all(not count_not_run(ledger, open_cell.cell) for open_cell, _ in open_cells)
    return SessionResult(complete, reused, tuple(failures), stop.signal, grades, *errors_of(ledger))


def _closed(
    workloads: Sequence[Workload], grades: Mapping[str, str], ledger: Ledger, note: NoteCallback
) -> dict[str, str]:
    """The models whose bracket is closed, with that grade; none that is unusable or was not checked."""
    names = [f"{workload.name}/{model}" for workload in workloads for model in closed_models(ledger, workload.name)]
    chosen = [name for name in names if grades.get(name, "none") not in ("none", "unusable")]
    for name in chosen:
        alone = f" (of the attacks alone: {grades[name]})"
        note(f"{name}: evidence closed: certified and attacked accuracy meet within the chance of the sample{alone}")
    return dict.fromkeys(chosen, "closed")


def report_findings(models: Sequence[AttackedModel], note: NoteCallback) -> tuple[str, ...]:
    """Report findings about models and how their defences are attacked; return the sentences about defences."""
    for model in models:
        for finding in model.findings:
            note(f"{model.name}: {finding.code}: {finding.text}")
    notes = tuple(model.defence_note for model in models if model.defence_note)
    for text in notes:
        note(text)
    return notes


def repair_folder(ledger: Ledger, out: Path, note: NoteCallback) -> None:
    """Repair the folder after a kill: drop damaged results, so that they are computed again."""
    if on_network(out):
        note(f"{out} is on a network file system: the ledger is slower there, and only one machine may use it")
    for text in repair(ledger, out):
        ledger.add_event(utc_now(), text)
        note(text)


def _run_open_cells(
    cells: Sequence[tuple[OpenCell, CellNames]],
    ledger: Ledger,
    out: Path,
    executor: Executor,
    stop: StopRequest,
    reporter: Reporter,
    *,
    strict: bool,
) -> tuple[int, list[Failure]]:
    """Run the open cells and report each; return how many were complete before, and the failures."""
    names_of = {open_cell.cell.id: names for open_cell, names in cells}
    shape = {digest: tuple(about["shape"]) for digest, about in ledger.data().items()}

    def report(open_cell: OpenCell, *, before: bool = False) -> None:
        shards = ledger.shards(open_cell.cell.id).get(open_cell.cell.id, [])
        cell = load_cell_result(
            out, ledger, open_cell.cell, names_of[open_cell.cell.id], shards, shape[open_cell.cell.data]
        )
        failed = cell.outcome.count(Status.ERROR)
        if failed and failed == len(cell.outcome) - cell.outcome.count(Status.NOT_RUN):
            reporter.note(f"{cell.model}: {cell.attack}: no result, as all {failed} samples raised an error")
        else:
            reporter.note(f"{cell.model}: {cell.outcome}" + (" (stored result)" if before else ""))

    def on_progress(update: Progress) -> None:
        if reporter.samples is not None and not isinstance(executor, Inline):
            reporter.samples(update)

    unfinished_samples = unfinished_counter(ledger)
    left: dict[int, OpenCell] = {}  # by cell: a cell planned twice, as on a curve, runs once
    for open_cell, _ in cells:
        if unfinished_samples(open_cell.cell):
            left.setdefault(open_cell.cell.id, open_cell)
        else:
            report(open_cell, before=True)
    failures: list[Failure] = []
    if left:
        failures = run_cells(
            list(left.values()), ledger, out, executor, stop, on_complete=report, on_progress=on_progress, strict=strict
        )
    return sum(open_cell.cell.id not in left for open_cell, _ in cells), failures


def _register_cell(
    ledger: Ledger, planned_cell: PlannedCell, cells_by_key: dict[str, Cell], accept: NoteCallback | None
) -> tuple[OpenCell, CellNames]:
    """Find or create a cell in the ledger; with ``accept``, a cell that differs only in versions will do.

    ``cells_by_key`` are the entries of the ledger by key; a new one is added.
    """
    ledger_cell = cells_by_key.get(planned_cell.key)
    if ledger_cell is None and accept is not None:
        ledger_cell = made_by_other_versions(planned_cell.fields, cells_by_key.values())
        if ledger_cell is not None:
            changed = " and ".join(FIELD_LABELS[name] for name in differences(planned_cell.fields, ledger_cell.fields))
            text = f"{planned_cell.label}: a result is kept that was made before {changed} changed"
            ledger.add_event(utc_now(), text)
            accept(text)
    if ledger_cell is None:
        cell = planned_cell
        columns = (cell.key, cell.data, cell.n, cell.fields, cell.name, cell.stages)
        ledger_cell = cells_by_key[cell.key] = Cell(ledger.add_cell(*columns), *columns)
    return OpenCell(ledger_cell, planned_cell.task, planned_cell.label), planned_cell.names


def _report_stale(cells: Sequence[PlannedCell], known: Mapping[str, Cell], note: NoteCallback) -> None:
    """Say that earlier results of the same attacks are not used, as other code or another torch made them."""
    missing = [cell for cell in cells if cell.key not in known]
    near = [(cell, made_by_other_versions(cell.fields, known.values())) for cell in missing]
    names = {name for cell, old in near if old is not None for name in differences(cell.fields, old.fields)}
    count = sum(old is not None for _, old in near)
    if count:
        changed = " and ".join(FIELD_LABELS[name] for name in FIELD_LABELS if name in names)
        which = "one result in this folder was" if count == 1 else f"{count} results in this folder were"
        note(f"{which} made before {changed} changed: attacked again")


def data_file(ledger: Ledger, out: Path, digest: str) -> Path:
    """The run's copy of some data."""
    return out.resolve() / str(ledger.data()[digest]["file"])


def _register_data(ledger: Ledger, out: Path, workload: Workload) -> None:
    data = workload.data
    file = ledger.data().get(workload.digest, {}).get("file")
    if file is not None and not (out / file).is_file():
        ledger.add_event(utc_now(), f"{file} was lost, and is written again")
    description = {
        "name": workload.name,
        "file": store_data(out, data, workload.digest),
        "n": len(data),
        "shape": list(data.x.shape[1:]),
        "title": workload.title,
        "warnings": list(workload.warnings),
    }
    ledger.add_data(workload.digest, description)


def _store_info(ledger: Ledger, info: RunInfo, settings: Settings) -> None:
    settings_info: Mapping[str, Any] = {
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
            "settings": settings_info,
            "headline": list(info.headline),
        }
    )
