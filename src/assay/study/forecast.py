"""Forecast a study: what is there, what is reused, why the rest is not, and what it will cost. Nothing is trained."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from assay.attacks.plan import Planned
from assay.core.passes import Passes
from assay.runs.certify import samples_left
from assay.runs.plan import PlannedCell, Workload, cell_names, plan_cells
from assay.runs.scheduler import unfinished_counter
from assay.store.cell_key import FIELD_LABELS, differences, made_by_other_versions
from assay.store.columns import Cell, CellNames
from assay.store.ledger import Ledger
from assay.store.lock import require_own_folder
from assay.store.sqlite import NAME
from assay.study.attack_plan import beside_plans, curve_plans, plans
from assay.study.certificate_costs import certificate_costs
from assay.study.costs import Estimates, PartForecast
from assay.study.plan import StudyPlan, UntrainedModel, plan_study
from assay.study.run import build_workload
from assay.study.schema import Config
from assay.util.output_folder import out_folder
from assay.util.progress import SILENT, Reporter

_TRIAL_SAMPLES = 4
UNTRAINED = "its model is not trained yet"


@dataclass(frozen=True)
class CellForecast:
    """One cell of a study.

    Attributes:
        names: what it is called.
        n: samples.
        done: samples that are there.
        state: ``kept``, ``new``, or why an earlier result is not kept.
        passes: forward and backward passes left: measured on a few images where the model is there, else at most; NaN
            if not estimated.
        seconds: the same in time, in one process.
    """

    names: CellNames
    n: int
    done: int
    state: str
    passes: float = float("nan")
    seconds: float = float("nan")


@dataclass(frozen=True)
class StudyForecast:
    """What a study would do.

    Attributes:
        cells: attacks on models, in the order of the report.
        parts: trainings, diagnostics, certificates and signatures.
        device: where costs are of.
        notes: what is not there, in sentences.
    """

    cells: tuple[CellForecast, ...]
    parts: tuple[PartForecast, ...]
    device: str
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """The time of all that is left and has an estimate, in one process."""
        left = [cell.seconds for cell in self.cells if cell.done < cell.n] + [part.seconds for part in self.parts]
        return sum(value for value in left if not math.isnan(value))


def forecast(
    config: Config,
    out: str | Path,
    *,
    costs: bool,
    accept_stale: bool = False,
    reporter: Reporter = SILENT,
) -> StudyForecast:
    """Say what a study would do. Nothing is trained or written; data and accelerator need not be there.

    Args:
        config: the study.
        out: the run's folder, which is only read.
        costs: estimate what is left: cells by running four images of each where the model is there; elsewhere, and for
            trainings, diagnostics and signatures, at most, by counting passes and timing networks with random weights.
        accept_stale: count results that only another version of assay or torch made.
        reporter: receives what is timed.
    """
    out = out_folder(out)
    require_own_folder(out)
    plan = plan_study(config, out)
    known, completed = _known(out)
    estimates = Estimates(plan, reporter)
    cells: list[CellForecast] = []
    uncertified: dict[tuple[str, str, str], int] = {}
    for name, data in plan.datasets.items():
        if data.there and not any(used == name for _, used in (*plan.untrained, *plan.unfitted)):
            workload = build_workload(plan.config, name, data.test, plan.models)
            cells += [
                _forecast_cell(cell, known, completed, costs=costs, accept_stale=accept_stale)
                for cell in plan_cells(workload, plan.settings)
            ]
            uncertified |= {(name, *key): count for key, count in _uncertified(workload, plan, out).items()}
        else:
            cells += _cells_at_most(plan, name, known, estimates if costs else None)
    parts = (*estimates.parts(out), *certificate_costs(plan, uncertified, reporter)) if costs else ()
    return StudyForecast(tuple(cells), parts, plan.settings.device, plan.notes)


def _known(out: Path) -> tuple[dict[str, Cell], dict[int, int]]:
    """The cells of the ledger by key, and how many samples of each have a result that is no error."""
    if not (out / NAME).is_file():
        return {}, {}
    with Ledger(out) as ledger:
        ledger.require_rows()
        left = unfinished_counter(ledger)
        return {entry.key: entry for entry in ledger.cells()}, {e.id: e.n - left(e) for e in ledger.cells()}


def _uncertified(workload: Workload, plan: StudyPlan, out: Path) -> Mapping[tuple[str, str], int]:
    """Samples without certificates, by names of model and budget; empty where there is no run yet."""
    if not workload.certify or not (out / NAME).is_file():
        return {}
    with Ledger(out) as ledger:
        return samples_left(workload, plan.settings, ledger)


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


def _cells_at_most(
    plan: StudyPlan, data: str, known: Mapping[str, Cell], estimates: Estimates | None
) -> Iterator[CellForecast]:
    """The cells of a data set of which a model, or the images, are not there."""
    config, there = plan.config, {stored.name for stored in known.values()}
    chosen = [(p, False) for p in plans(config)]
    chosen += [(p, True) for p in (*beside_plans(config), *curve_plans(config))]
    for (name, used), model in plan.described.items():
        if used != data:
            continue
        for planned, on_curve in chosen:
            cost = None if estimates is None else _cost(estimates, plan, data, model, planned)
            passes, seconds = (math.nan, math.nan) if cost is None else cost
            for seed in config.seeds:
                names = cell_names(
                    name,
                    data,
                    planned,
                    seed,
                    suffix=model.attack_suffix,
                    several_seeds=len(config.seeds) > 1,
                    on_curve=on_curve,
                )
                state = UNTRAINED
                if planned.attack.describe() in there:
                    state = f"changed: {FIELD_LABELS['model']} ({UNTRAINED})"
                yield CellForecast(names, len(plan.datasets[data].test), 0, state, passes, seconds)


def _cost(
    estimates: Estimates, plan: StudyPlan, data: str, model: UntrainedModel, planned: Planned
) -> tuple[float, float] | None:
    """Passes and seconds of one attack on all images of a data set."""
    attack = planned.attack if model.adaptation is None else model.adaptation.adapt(planned.attack)
    price = estimates.price(attack, data)
    if price is None:
        return None
    passes: Passes = len(plan.datasets[data].test) * model.draws * price
    return passes.total, estimates.pace(model, data).seconds(passes)
