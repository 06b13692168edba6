"""Conducting a run: enter its cells, complete what is missing, keep everything, and write what is made from it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.core.outcome import Status
from assay.data import Dataset
from assay.runs.checks import check
from assay.runs.executors import Executor, Inline, ended
from assay.runs.interrupts import Asked, heeded
from assay.runs.plan import Area, Subject, Wanted, wanted
from assay.runs.scheduler import Failure, Job, drive, now, unfinished, unreached
from assay.runs.settings import Settings
from assay.store.cell_key import MEANINGS, differences
from assay.store.columns import Words
from assay.store.environment import facts
from assay.store.image_store import store_data
from assay.store.ledger import Entry, Ledger
from assay.store.load_report import cell_of
from assay.store.model_source import Source
from assay.store.repair import repair
from assay.store.sqlite import on_network
from assay.store.summary import errors_of
from assay.util.progress import Callback, Progress

Notice = Callable[[str], None]


@dataclass(frozen=True)
class Told:
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
class Conducted:
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


def conduct(
    areas: Sequence[Area],
    told: Told,
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
) -> Conducted:
    """Complete a run's cells.

    Args:
        areas: data, models and attacks.
        told: what the report tells besides.
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
    tidy(ledger, out, notice)
    for area in areas:
        _describe(ledger, out, area)
    _keep(ledger, told, settings)
    ledger.keep(sources={f"{area.name}/{subject.name}": subject.model.within(out) for area in areas
                         for subject in area.subjects if isinstance(subject.model, Source)})  # fmt: skip
    here = isinstance(executor, Inline)
    asked_for = [
        cell for area in areas
        for cell in wanted(area, settings, None if here else data_file(ledger, out, area.data))
    ]  # fmt: skip
    known = {entry.key: entry for entry in ledger.cells()}
    cells = [_entered(ledger, cell, known, notice if accept_stale else None) for cell in asked_for]
    ledger.keep(checks={})  # grades of another plan are none of this one, should it be interrupted
    ledger.arrange((job.entry.id, words) for job, words in cells)
    reused, failures, grades, ended_by_itself = 0, list[Failure](), dict[str, str](), False
    with heeded() as asked, suppress(KeyboardInterrupt), ended(executor):  # the second signal: what is there is kept
        reused, failures = _completed(cells, ledger, out, executor, asked, progress, notice, strict=strict)
        if not asked.signal:
            bad = {failure.label for failure in failures}  # what killed a worker is not tried here
            suspect = {(cell.words.data, cell.words.model) for cell in asked_for if cell.label in bad}
            entries = [(cell, job.entry) for cell, (job, _) in zip(asked_for, cells, strict=True)
                       if (cell.words.data, cell.words.model) not in suspect]  # fmt: skip
            grades = check(areas, entries, ledger, out, settings, executor, asked, notice=notice,
                           told=told_checks)  # fmt: skip
        ended_by_itself = not asked.signal
    complete = ended_by_itself and all(not unreached(ledger, job.entry) for job, _ in cells)
    return Conducted(complete, reused, tuple(failures), asked.signal, grades, *errors_of(ledger))


def tell(subjects: Sequence[Subject], notice: Notice) -> tuple[str, ...]:
    """Say what is odd about models, and how their defences are attacked; the latter is returned."""
    for subject in subjects:
        for finding in subject.findings:
            notice(f"{subject.name}: {finding.code}: {finding.text}")
    said = tuple(subject.said for subject in subjects if subject.said)
    for text in said:
        notice(text)
    return said


def tidy(ledger: Ledger, out: Path, notice: Notice) -> None:
    """Put right what a kill has left, and drop what is damaged, so that it is done again."""
    if on_network(out):
        notice(f"{out} is on a network file system: the ledger is slower there, and only one machine may use it")
    for text in repair(ledger, out):
        ledger.tell(now(), text)
        notice(text)


def _completed(
    cells: Sequence[tuple[Job, Words]],
    ledger: Ledger,
    out: Path,
    executor: Executor,
    asked: Asked,
    progress: Callback | None,
    notice: Notice,
    *,
    strict: bool,
) -> tuple[int, list[Failure]]:
    """Complete the cells, and say of each how it ended: how many were complete before, and those that failed."""
    words = {job.entry.id: told for job, told in cells}
    shape = {digest: tuple(about["shape"]) for digest, about in ledger.data().items()}

    def told(job: Job, *, before: bool = False) -> None:
        parts = ledger.parts(job.entry.id).get(job.entry.id, [])
        cell = cell_of(out, ledger, job.entry, words[job.entry.id], parts, shape[job.entry.data])
        failed = cell.outcome.count(Status.ERROR)
        if failed and failed == len(cell.outcome) - cell.outcome.count(Status.NOT_RUN):
            notice(f"{cell.model}: {cell.attack}: no result, as all {failed} samples raised an error")
        else:
            notice(f"{cell.model}: {cell.outcome}" + (" (kept from before)" if before else ""))

    def progressed(now: Progress) -> None:
        if progress is not None and not isinstance(executor, Inline):
            progress(now)

    left_of = unfinished(ledger)
    left: dict[int, Job] = {}  # by cell: what is asked for twice, as on a curve, is done once
    for job, _ in cells:
        if left_of(job.entry):
            left.setdefault(job.entry.id, job)
        else:
            told(job, before=True)
    failures: list[Failure] = []
    if left:
        failures = drive(list(left.values()), ledger, out, executor, asked, completed=told, progressed=progressed,
                         strict=strict)  # fmt: skip
    return sum(job.entry.id not in left for job, _ in cells), failures


VERSIONS = frozenset({"code", "torch"})
"""The fields of an identity in which a result may differ and be kept all the same, where that was asked for."""


def _entered(ledger: Ledger, cell: Wanted, known: dict[str, Entry], accept: Notice | None) -> tuple[Job, Words]:
    """A cell's place in the ledger: its own, or with ``accept`` that of one which only versions tell from it.

    ``known`` are the entries of the ledger by key; a new one is added.
    """
    entry = known.get(cell.key)
    if entry is None and accept is not None:
        near = [old for old in known.values() if set(differences(cell.fields, old.fields)) <= VERSIONS]
        entry = near[-1] if near else None
        if entry is not None:
            changed = " and ".join(MEANINGS[name] for name in differences(cell.fields, entry.fields))
            text = f"{cell.label}: a result is kept that was made before {changed} changed"
            ledger.tell(now(), text)
            accept(text)
    if entry is None:
        number = ledger.enter(cell.key, cell.data, cell.n, cell.fields, cell.name, cell.stages)
        entry = known[cell.key] = Entry(number, cell.key, cell.data, cell.n, cell.fields, cell.name, cell.stages)
    return Job(entry, cell.order, cell.label), cell.words


def data_file(ledger: Ledger, out: Path, data: Dataset) -> Path:
    """The run's copy of some data."""
    return out.resolve() / str(ledger.data()[data.digest]["file"])


def _describe(ledger: Ledger, out: Path, area: Area) -> None:
    data = area.data
    file = ledger.data().get(data.digest, {}).get("file")
    if file is not None and not (out / file).is_file():
        ledger.tell(now(), f"{file} was lost, and is written again")
    about = {"name": area.name, "file": store_data(out, data), "n": len(data), "shape": list(data.x.shape[1:]),
             "title": area.title, "warnings": list(area.warnings)}  # fmt: skip
    ledger.add_data(data.digest, about)


def _keep(ledger: Ledger, told: Told, settings: Settings) -> None:
    how: Mapping[str, Any] = {
        "seed": str(settings.seed), "search": settings.search, "stop": settings.stop,
        **({} if settings.budget is None else {"passes per sample": f"at most {settings.budget}"}),
    }  # fmt: skip
    ledger.keep(told={
        "title": told.title, "command": told.command, "notes": list(told.notes), "facts": facts(), "settings": how,
        "headline": list(told.headline),
    })  # fmt: skip
