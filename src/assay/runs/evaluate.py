"""The main job: attack classifiers on labelled images, keep every result, write the report."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from assay.attacks.registry import Planned
from assay.core.combinators import unfold
from assay.core.files import atomic_write, sweep
from assay.core.outcome import Outcome, Status
from assay.core.preflight import Finding, inspect
from assay.core.progress import Callback
from assay.core.run import INTERRUPTED, attack
from assay.data import Dataset
from assay.defences import Adaptation, adaptation_of
from assay.masks import SpectralResidual
from assay.models import digest
from assay.report import Cell, Study, summary, write_report
from assay.runs.facts import code_digest, facts
from assay.runs.store import cell_key, load_outcome, modules_in, save_outcome


@dataclass(frozen=True)
class Settings:
    """How to run an evaluation.

    Attributes:
        slots: most rows in flight.
        search: ``"float32"`` or ``"bfloat16"``.
        stop: ``"hit"`` or ``"never"``.
        seed: of all random draws.
        device: where the models run, such as ``"cpu"`` or ``"cuda:0"``.
        errors: ``"raise"`` or ``"record"``.
        budget: most forward passes an attack may spend on a sample; None for no limit.
        adaptive: attack a defence in the way that it declares; False for attacks that do not know of it.
    """

    slots: int = 256
    search: str = "float32"
    stop: str = "hit"
    seed: int = 0
    device: str = "cpu"
    errors: str = "record"
    budget: int | None = None
    adaptive: bool = True


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        study: the cells and what they are about.
        report: the HTML file; None if it was interrupted before the end.
        summary: per model and attack, as in ``summary.json``.
        complete: whether every attack ran on every sample.
        findings: what was odd about each model.
        reused: cells that an earlier call had already finished.
    """

    study: Study
    report: Path | None
    summary: dict[str, Any]
    complete: bool
    findings: Mapping[str, tuple[Finding, ...]]
    reused: int


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        title: heading of the report.
        data: images, labels and, for dual attacks, masks.
        plans: the attacks whose budgets are claimed.
        curve: further budgets, for the accuracy–budget curves only.
        command: the command that asks it again.
        notes: sentences for the top of the report.
    """

    title: str
    data: Dataset
    plans: Sequence[Planned]
    curve: Sequence[Planned] = ()
    command: str = ""
    notes: tuple[str, ...] = field(default_factory=tuple)


def evaluate(
    models: Mapping[str, nn.Module],
    question: Question,
    out: str | Path,
    *,
    settings: Settings | None = None,
    progress: Callback | None = None,
    notice: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Attack each model with each attack; results are kept as they come, and reused by the same call.

    Args:
        models: classifiers by name.
        question: data and attacks.
        out: the run's folder: ``cells/``, ``samples.csv``, ``summary.json``, ``report.html``.
        settings: how to run.
        progress: called by the engine.
        notice: called with a sentence when something is worth telling.

    Returns:
        The result. After an interrupt ``complete`` is False, what was done is on disk, and the same call goes on.
    """
    out, settings = Path(out), settings or Settings()
    (out / "cells").mkdir(parents=True, exist_ok=True)
    sweep(out)
    sweep(out / "cells")
    x, y = question.data.images(), question.data.y
    findings = {name: inspect(model, x, y) for name, model in models.items()}
    for name, found in findings.items():
        for finding in found:
            notice(f"{name}: {finding.code}: {finding.text}")
    cells, reused, complete = [], 0, True
    said: list[str] = []
    for name, model in models.items():
        model = model.to(settings.device)
        how = adaptation_of(model)
        if how is not None:
            if settings.adaptive:
                said.append(f"{name}: attacked adaptively: {how.how}")
            else:
                said.append(f"{name}: not attacked adaptively, so the numbers flatter it. It asks for: {how.how}")
            notice(said[-1])
        identity = {"model": digest(model), "data": question.data.digest, "code": code_digest()}
        for planned in (*question.plans, *question.curve):
            if not complete:
                break
            outcome, fresh = _cell(model, question.data, planned, out, settings, identity, progress, how)
            reused += not fresh
            complete = complete and not outcome.count(Status.NOT_RUN)
            label = "" if how is None else " (adaptive)" if settings.adaptive else " (not adapted)"
            cells.append(_as_cell(name, planned, outcome, on_curve=planned in question.curve, label=label))
            notice(f"{name}: {outcome}" + ("" if fresh else " (kept from before)"))
    study = _study(replace(question, notes=(*question.notes, *said)), cells, findings, settings)
    if not complete:
        return Evaluation(study, None, summary(study), complete, findings, reused)
    return Evaluation(study, _write(study, out), summary(study), complete, findings, reused)


def _cell(
    model: nn.Module,
    data: Dataset,
    planned: Planned,
    out: Path,
    settings: Settings,
    identity: dict[str, str],
    progress: Callback | None,
    how: Adaptation | None = None,
) -> tuple[Outcome, bool]:
    """One attack on one model: from disk, completed from disk, or run."""
    how = how if settings.adaptive else None
    what = planned.attack if how is None else how.adapt(planned.attack)
    key = cell_key(
        **identity,
        attack=repr(what),
        parts=[digest(module) for module in modules_in(what)],
        stop=settings.stop,
        search=settings.search,
        seed=settings.seed,
        torch=torch.__version__,
        **({} if settings.budget is None else {"budget": settings.budget}),
        **({} if how is None else {"adaptation": how.how}),
    )
    path, x = out / "cells" / f"{key}.safetensors", data.images()
    known = load_outcome(path, x)
    missing = torch.arange(len(x)) if known is None else (known.status == int(Status.NOT_RUN)).nonzero().squeeze(1)
    if known is not None and not len(missing):
        return known, False
    needs = {need for stage in unfold(planned.attack) for need in stage.attack.needs}
    mask = data.masks[missing] if data.masks is not None and "mask" in needs else None
    found = attack(
        model,
        x[missing],
        data.y[missing],
        what,
        mask=mask,
        stop=settings.stop,
        slots=settings.slots,
        search=settings.search,
        seed=settings.seed,
        budget=settings.budget,
        surrogate=None if how is None else how.surrogate,
        test=None if how is None else how.test,
        errors=settings.errors,
        preflight=False,
        progress=progress,
    )
    outcome = found if known is None else known.merge(found, missing)
    save_outcome(outcome, path)
    return outcome, True


def _as_cell(model: str, planned: Planned, outcome: Outcome, *, on_curve: bool, label: str = "") -> Cell:
    return Cell(
        model=model,
        attack=planned.attack.describe() + label,
        family=planned.family + label,
        budget=planned.budget,
        outcome=outcome,
        eps=planned.eps,
        curve=planned.curve if on_curve else None,
    )


def _study(
    question: Question, cells: list[Cell], findings: Mapping[str, tuple[Finding, ...]], settings: Settings
) -> Study:
    data, x = question.data, question.data.images()
    with torch.no_grad():
        saliency = torch.cat([SpectralResidual()(part) for part in x.split(256)]) if len(x) else None
    warnings = [f"{name}: {finding.text}" for name, found in findings.items() for finding in found]
    events = [
        f"{cell.model}, {cell.attack}: {text}" for cell in cells for text in cell.outcome.events if text != INTERRUPTED
    ]
    present = {cell.budget for cell in cells}
    if present != {"none"}:  # what an attack breaks at any distance is no claim about a budget
        present.discard("none")
    return Study(
        title=question.title,
        dataset=f"{data.name}, {len(data)} images" if data.name else f"{len(data)} images",
        classes=data.classes,
        x=x,
        y=data.y,
        masks=None if data.masks is None else data.masks.float(),
        saliency=saliency,
        cells=tuple(cells),
        command=question.command,
        facts={
            **facts(),
            "data SHA-256": data.digest[:16],
            "seed": str(settings.seed),
            "search": settings.search,
            "stop": settings.stop,
            **({} if settings.budget is None else {"passes per sample": f"at most {settings.budget}"}),
        },
        warnings=(*question.notes, *warnings, *events),
        headline=tuple(b for b in dict.fromkeys(p.budget for p in question.plans) if b in present),
    )


def _write(study: Study, out: Path) -> Path:
    atomic_write(out / "summary.json", json.dumps(summary(study), indent=1, allow_nan=False))
    text = io.StringIO()
    writer = None
    for cell in study.cells:
        for record in cell.outcome.frame():
            row = {"model": _text_cell(cell.model), "attack": _text_cell(cell.attack), **record}
            if writer is None:
                writer = csv.DictWriter(text, fieldnames=list(row))
                writer.writeheader()
            writer.writerow({k: _text_cell(v) if isinstance(v, str) else v for k, v in row.items()})
    atomic_write(out / "samples.csv", text.getvalue())
    return write_report(study, out / "report.html")


def _text_cell(value: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{value}" if value.startswith(("=", "+", "-", "@")) else value
