"""Forecast a study: which cells are reused, why others are not, and what the rest will cost."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from assay.runs.plan import PlannedCell, plan_cells
from assay.runs.scheduler import unfinished_counter
from assay.store.cell_key import FIELD_LABELS, differences, made_by_other_versions
from assay.store.columns import Cell, CellNames
from assay.store.ledger import Ledger
from assay.store.lock import claim_run_folder, hold_run, require_own_folder
from assay.store.sqlite import NAME
from assay.study.run import require_packages, workloads_of
from assay.study.schema import Config
from assay.util.output_folder import out_folder
from assay.util.progress import SILENT, Reporter

_TRIAL_SAMPLES = 4


@dataclass(frozen=True)
class CellForecast:
    """One cell of a study.

    Attributes:
        names: what it is called.
        n: samples.
        done: samples that are there.
        state: ``kept``, ``new``, or why an earlier result is not kept.
        passes: estimated forward and backward passes left; NaN if not estimated.
        seconds: the same in time, in one process.
    """

    names: CellNames
    n: int
    done: int
    state: str
    passes: float = float("nan")
    seconds: float = float("nan")


def forecast(
    config: Config,
    out: str | Path,
    *,
    costs: bool,
    accept_stale: bool = False,
    reporter: Reporter = SILENT,
) -> list[CellForecast]:
    """Say what a study would do.

    Args:
        config: the study.
        out: the run's folder; what is in it is only read, but models that are to be trained are trained (they decide
            what the cells are), and meanwhile the folder is held.
        costs: estimate the cost of open cells by running four images of each.
        accept_stale: count results that only another version of assay or torch made.
        reporter: receives what is trained.
    """
    out, settings = out_folder(out), config.settings
    require_own_folder(out)
    require_packages(config)
    trains = any(model.train is not None for model in config.models.values())
    with hold_run(out) if trains else nullcontext():
        if trains:
            claim_run_folder(out, "models/*")
        workloads = workloads_of(config, out, reporter.note)
    known, completed = _known(out)
    return [
        _forecast_cell(cell, known, completed, costs=costs, accept_stale=accept_stale)
        for workload in workloads
        for cell in plan_cells(workload, settings)
    ]


def _known(out: Path) -> tuple[dict[str, Cell], dict[int, int]]:
    """The cells of the ledger by key, and how many samples of each have a result that is no error."""
    if not (out / NAME).is_file():
        return {}, {}
    with Ledger(out) as ledger:
        ledger.require_rows()
        left = unfinished_counter(ledger)
        return {entry.key: entry for entry in ledger.cells()}, {e.id: e.n - left(e) for e in ledger.cells()}


def _forecast_cell(
    cell: PlannedCell, known: Mapping[str, Cell], completed: Mapping[int, int], *, costs: bool, accept_stale: bool
) -> CellForecast:
    stored = known.get(cell.key)
    if stored is None and accept_stale:
        stored = made_by_other_versions(cell.fields, known.values())
    done = 0 if stored is None else completed.get(stored.id, 0)
    state = (
        _explain_state(cell, known)
        if stored is None
        else "kept"
        if done == cell.n
        else "incomplete"
        if done
        else "not started"
    )
    if done == cell.n or not costs:
        return CellForecast(cell.names, cell.n, done, state, 0.0 if done == cell.n else math.nan, 0.0)
    trial = replace(cell.task, count=min(_TRIAL_SAMPLES, cell.n)).run_task()
    share = (cell.n - done) / max(len(trial.columns["status"]), 1)
    passes = float(trial.columns["forwards"].sum() + trial.columns["backwards"].sum())
    return CellForecast(cell.names, cell.n, done, state, share * passes, share * trial.seconds)


def _explain_state(cell: PlannedCell, known: Mapping[str, Cell]) -> str:
    """Why nothing that is there can be kept: the fields in which the most similar result differs."""
    if not known:
        return "new"
    differing = min((differences(cell.fields, stored.fields) for stored in reversed(list(known.values()))), key=len)
    alike = "model" not in differing or "attack" not in differing
    return "changed: " + ", ".join(FIELD_LABELS.get(name, name) for name in differing) if alike else "new"
