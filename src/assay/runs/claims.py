"""The claims of a study: what a paper says, beside the number that is in the ledger."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from types import MappingProxyType
from typing import Any

import torch

from assay.core.outcome import Status
from assay.report import Cell, Claimed, Study
from assay.report.text import percent
from assay.report.verdict import verdict
from assay.runs.plans import is_budget
from assay.runs.schema import Claim, Quantity

_TAKEN: Mapping[str, Callable[[Sequence[float]], float]] = MappingProxyType(
    {"mean": fmean, "first": lambda v: v[0], "last": lambda v: v[-1], "least": min, "most": max}
)


def judged(
    claims: Sequence[Mapping[str, Any]], studies: Mapping[str, Study], answers: Sequence[Mapping[str, Any]]
) -> tuple[Claimed, ...]:
    """Each claim with our number.

    Args:
        claims: as in the study file.
        studies: by name of the data.
        answers: of the diagnostics, with ``name`` and ``frame``.
    """
    return tuple(_judged(Claim.model_validate(claim), studies, answers) for claim in claims)


def _judged(claim: Claim, studies: Mapping[str, Study], answers: Sequence[Mapping[str, Any]]) -> Claimed:
    value = _value(claim.ours, studies, answers)
    for other, sign in ((claim.less, "-"), (claim.over, "/")):
        if other is None or value is None:
            continue
        second = _value(other, studies, answers)
        if second is None or (sign == "/" and second == 0):
            value = None
        else:
            value = value - second if sign == "-" else value / second
    holds = None
    if value is not None and (claim.least is not None or claim.most is not None):
        holds = (claim.least is None or value >= claim.least) and (claim.most is None or value <= claim.most)
    return Claimed(claim.says, claim.source, claim.theirs, _words(value, claim.unit), holds, claim.note)


def _words(value: float | None, unit: str) -> str:
    if value is None:
        return "not measured"
    if unit == "share":
        return percent(value)
    return {"points": f"{100 * value:+.1f} points", "times": f"{value:.2f} ×", "percent": percent(value / 100)}.get(
        unit, f"{value:.4g}"
    )


def _value(asked: Quantity, studies: Mapping[str, Study], answers: Sequence[Mapping[str, Any]]) -> float | None:
    if asked.answer is not None:
        return _of_answer(asked, answers)
    model = asked.clean or asked.robust or ""
    for name, study in studies.items():
        if asked.data not in (None, name) or model not in study.models:
            continue
        cells = tuple(cell for cell in study.of(model) if _chosen(cell, asked, study.headline))
        if not cells:
            return None
        found = verdict(model, cells, len(study))
        if asked.size is not None:
            return _size(cells, asked.size)
        return (found.clean if asked.clean is not None else found.robust).value
    return None


def _chosen(cell: Cell, asked: Quantity, headline: Sequence[str]) -> bool:
    """Whether an attack counts: as asked for, else as in the verdict."""
    if asked.attack is None and asked.budget is None and headline and cell.budget not in headline:
        return False
    wanted = asked.attack is None or asked.attack.lower() in cell.attack.lower()
    on_curve = cell.curve is not None and asked.budget is None
    return wanted and not on_curve and (asked.budget is None or is_budget(asked.budget, cell.budget))


def _size(cells: Sequence[Cell], norm: str) -> float | None:
    sizes = torch.cat([cell.outcome.norm(norm)[cell.outcome.status == int(Status.BROKEN)] for cell in cells])
    return float(median(sizes.tolist())) if len(sizes) else None


def _of_answer(asked: Quantity, answers: Sequence[Mapping[str, Any]]) -> float | None:
    rows = [row for answer in answers if answer["name"] == asked.answer for row in answer["frame"]]
    rows = [row for row in rows if all(_same(row.get(key), value) for key, value in asked.where.items())]
    values = [float(row[asked.column]) for row in rows if isinstance(row.get(asked.column or ""), int | float)]
    return float(_TAKEN[asked.take](values)) if values else None


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, float) and isinstance(wanted, int | float):
        return abs(found - wanted) < 1e-9
    return bool(found == wanted)
