"""Load a run's studies (the input of reports) from its ledger and images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from assay.core.outcome import Status
from assay.data.dataset import Dataset
from assay.masks.saliency import SpectralResidual
from assay.store.certified import certificates_of, closed_models
from assay.store.columns import Cell, CellNames, Shard, outcome_of
from assay.store.image_store import image_reader, run_data
from assay.store.ledger import Ledger
from assay.store.results import CellResult, CheckAnswer, GradeReport, Study
from assay.trust.registry import CHECKS

_SALIENT = 512
"""Sides of images up to this many pixels get a saliency map in the gallery."""


CLOSED = MappingProxyType(
    {
        "grade": "closed",
        "why": (),
        "rests_on": "both ends: what is neither certified nor broken is less than the chance of the sample",
        "raised_by": "nothing more",
    }
)
"""What a model's grade is where its bracket is closed, whatever its checks say of the attacks."""


def studies_of(folder: Path, ledger: Ledger, known: Mapping[str, Dataset] = MappingProxyType({})) -> tuple[Study, ...]:
    """The studies of a run, one a data set.

    Args:
        folder: the run's.
        ledger: its ledger.
        known: data that this process has in memory, by digest; others are read from the run's copies.

    Raises:
        ValueError: results, or the copy of the data, are not as they were written.
    """
    ledger.require_rows()
    plan, shards = ledger.plan(), ledger.shards()
    return tuple(
        _study(folder, ledger, digest, about, known.get(digest), [(e, w) for e, w in plan if e.data == digest], shards)
        for digest, about in ledger.data().items()
        if any(cell.data == digest for cell, _ in plan)
    )


def load_cell_result(
    folder: Path, ledger: Ledger, cell: Cell, names: CellNames, shards: Sequence[Shard], shape: Sequence[int]
) -> CellResult:
    """One cell, its numbers from the ledger, its images when they are asked for."""
    outcome = outcome_of(
        ledger.columns(cell),
        shape,
        name=cell.name,
        stages=cell.stages,
        seconds=sum(part.seconds for part in shards),
        events=[event for part in shards for event in part.events],
        errors=ledger.errors(cell),
    )
    return CellResult(
        model=names.model,
        attack=names.attack,
        family=names.family,
        budget=names.budget,
        outcome=outcome,
        eps=names.eps,
        curve=names.curve,
        read_image=image_reader(folder, list(shards)),
    )


def _study(
    folder: Path,
    ledger: Ledger,
    digest: str,
    about: Mapping[str, Any],
    known: Dataset | None,
    plan: Sequence[tuple[Cell, CellNames]],
    shards: Mapping[int, list[Shard]],
) -> Study:
    data = run_data(folder, digest, about) if known is None else known
    shape = tuple(data.x.shape[1:])
    cells = [
        _with_labels(load_cell_result(folder, ledger, entry, names, shards.get(entry.id, []), shape), data.y)
        for entry, names in plan
    ]
    info: Mapping[str, Any] = ledger.meta("told") or {}
    present = {cell.budget for cell in cells}
    if present != {"none"}:  # what an attack breaks at any distance is no claim about a budget
        present.discard("none")
    return Study(
        title=about.get("title") or info.get("title", ""),
        dataset=f"{about['name']}, {len(data)} images" if about["name"] else f"{len(data)} images",
        classes=data.classes,
        x=data.x,
        y=data.y,
        masks=None if data.masks is None else data.masks.float(),
        saliency=_saliency if len(data) and max(shape[1:]) <= _SALIENT else None,
        cells=tuple(cells),
        command=info.get("command", ""),
        facts={**info.get("facts", {}), "data SHA-256": digest[:16], **info.get("settings", {})},
        warnings=(
            *info.get("notes", ()),
            *about.get("warnings", ()),
            *_events(cells),
            *dict.fromkeys(text for _, text in ledger.events()),
        ),
        headline=tuple(b for b in info.get("headline", ()) if b in present),
        grades=_grade_reports(ledger, about["name"], tuple(dict.fromkeys(cell.model for cell in cells))),
        certificates=certificates_of(ledger, about["name"]),
    )


def _grade_reports(ledger: Ledger, data: str, models: Sequence[str]) -> dict[str, GradeReport]:
    keys, reports, closed = ledger.meta("checks") or {}, {}, closed_models(ledger, data)
    for model in models:
        record = ledger.answer(keys.get(f"{data}/{model}", ""))
        if record is not None and model in closed and record["grade"] != "unusable":
            record = {**record, **CLOSED}
        if record is not None:
            answers = tuple(
                CheckAnswer(
                    a["check"],
                    CHECKS[a["check"]].title if a["check"] in CHECKS else "",
                    a["level"],
                    a["text"],
                    a["about"],
                )
                for a in record["checks"]
            )
            reports[model] = GradeReport(
                record["grade"],
                tuple(record["why"]),
                answers,
                record.get("rests_on", ""),
                record.get("raised_by", ""),
            )
    return reports


def _with_labels(cell: CellResult, y: Tensor) -> CellResult:
    """Fill in the labels of samples that were not run."""
    labels = torch.where(cell.outcome.status == int(Status.NOT_RUN), y, cell.outcome.y)
    return replace(cell, outcome=replace(cell.outcome, y=labels))


def _events(cells: Sequence[CellResult]) -> list[str]:
    return [f"{cell.model}, {cell.attack}: {text}" for cell in cells for text in cell.outcome.events]


def _saliency(x: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = SpectralResidual()(x)
    return result
