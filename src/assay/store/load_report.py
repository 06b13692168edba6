"""From a ledger to what a report shows. Nothing is computed anew: whoever has the folder can make it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.core.outcome import Status
from assay.masks import SpectralResidual
from assay.store.columns import Words, outcome_of
from assay.store.image_store import looker, run_data
from assay.store.ledger import Entry, Ledger, Part
from assay.store.results import Answered, Cell, Checked, Study
from assay.trust.registry import CHECKS

_SALIENT = 512
"""Sides of images up to this many pixels get a saliency map in the gallery."""


def studies_of(folder: Path, ledger: Ledger) -> tuple[Study, ...]:
    """The studies of a run, one a data set.

    Args:
        folder: the run's.
        ledger: its ledger.

    Raises:
        ValueError: results, or the copy of the data, are not as they were written.
    """
    ledger.require_rows()
    plan, parts = ledger.plan(), ledger.parts()
    return tuple(
        _study(folder, ledger, digest, about, [(e, w) for e, w in plan if e.data == digest], parts)
        for digest, about in ledger.data().items()
        if any(entry.data == digest for entry, _ in plan)
    )


def cell_of(
    folder: Path, ledger: Ledger, entry: Entry, words: Words, parts: Sequence[Part], shape: Sequence[int]
) -> Cell:
    """One cell, its numbers from the ledger, its images when they are asked for."""
    outcome = outcome_of(
        ledger.columns(entry),
        shape,
        name=entry.name,
        stages=entry.stages,
        seconds=sum(part.seconds for part in parts),
        events=[event for part in parts for event in part.events],
        errors=ledger.errors(entry),
    )
    return Cell(
        model=words.model,
        attack=words.attack,
        family=words.family,
        budget=words.budget,
        outcome=outcome,
        eps=words.eps,
        curve=words.curve,
        attacked=looker(folder, list(parts)),
    )


def _study(
    folder: Path,
    ledger: Ledger,
    digest: str,
    about: Mapping[str, Any],
    plan: Sequence[tuple[Entry, Words]],
    parts: Mapping[int, list[Part]],
) -> Study:
    data = run_data(folder, digest, about)
    shape = tuple(data.x.shape[1:])
    cells = [_with_labels(cell_of(folder, ledger, entry, words, parts.get(entry.id, []), shape), data.y)
             for entry, words in plan]  # fmt: skip
    told: Mapping[str, Any] = ledger.meta("told") or {}
    present = {cell.budget for cell in cells}
    if present != {"none"}:  # what an attack breaks at any distance is no claim about a budget
        present.discard("none")
    return Study(
        title=about.get("title") or told.get("title", ""),
        dataset=f"{about['name']}, {len(data)} images" if about["name"] else f"{len(data)} images",
        classes=data.classes,
        x=data.x,
        y=data.y,
        masks=None if data.masks is None else data.masks.float(),
        saliency=_saliency if len(data) and max(shape[1:]) <= _SALIENT else None,
        cells=tuple(cells),
        command=told.get("command", ""),
        facts={**told.get("facts", {}), "data SHA-256": data.digest[:16], **told.get("settings", {})},
        warnings=(
            *told.get("notes", ()),
            *about.get("warnings", ()),
            *_events(cells),
            *dict.fromkeys(text for _, text in ledger.told()),
        ),
        headline=tuple(b for b in told.get("headline", ()) if b in present),
        checked=_checked(ledger, about["name"], tuple(dict.fromkeys(cell.model for cell in cells))),
    )


def _checked(ledger: Ledger, data: str, models: Sequence[str]) -> dict[str, Checked]:
    keys, found = ledger.meta("checks") or {}, {}
    for model in models:
        told = ledger.answer(keys.get(f"{data}/{model}", ""))
        if told is not None:
            answers = tuple(
                Answered(a["check"], CHECKS[a["check"]].title if a["check"] in CHECKS else "", a["level"], a["text"],
                         a["about"])
                for a in told["checks"]
            )  # fmt: skip
            found[model] = Checked(told["grade"], tuple(told["why"]), answers)
    return found


def _with_labels(cell: Cell, y: Tensor) -> Cell:
    """Samples that were not run have labels, too; those that were keep what the ledger says."""
    labels = torch.where(cell.outcome.status == int(Status.NOT_RUN), y, cell.outcome.y)
    return replace(cell, outcome=replace(cell.outcome, y=labels))


def _events(cells: Sequence[Cell]) -> list[str]:
    return [f"{cell.model}, {cell.attack}: {text}" for cell in cells for text in cell.outcome.events]


def _saliency(x: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = SpectralResidual()(x)
    return found
