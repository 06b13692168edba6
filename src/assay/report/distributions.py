"""Accuracy per class, and histograms over samples."""

from typing import Any

import torch
from torch import Tensor

from assay.core.outcome import Outcome, Status
from assay.report.table import columns
from assay.store.results import Study
from assay.store.verdict import Share, Verdict, clean_right, survived_share
from assay.util.text import compact, levels, percent

_BINS = 28
_CLASSES = 40
_HEIGHT = 24


def by_class(study: Study, verdicts: tuple[Verdict, ...]) -> dict[str, Any]:
    """Clean and worst-case accuracy of each class that occurs.

    Args:
        study: the study, texts cleaned.
        verdicts: its verdicts.

    Returns:
        ``models``: their names; ``rows``: a class each, with its name, how many, and one point a model (``clean`` and
        ``robust`` in percent, None without samples); ``hidden``: how many classes in the middle are left out.
    """
    y = study.y.cpu()
    labels = torch.unique(y).tolist()
    parts = [(*clean_right(v.cells, len(study)), v.status) for v in verdicts]
    rows = []
    for label in labels:
        in_class = y == label
        points = [_point(in_class, *part) for part in parts]
        rows.append({"name": study.class_name(label), "n": int(in_class.sum()), "points": points})
    hidden = max(0, len(rows) - _CLASSES)
    if hidden:
        rows.sort(key=_strength)
        rows = rows[: _CLASSES // 2] + rows[-_CLASSES // 2 :]
    return {"models": [v.model for v in verdicts], "rows": rows, "hidden": hidden}


def _strength(row: dict[str, Any]) -> float:
    values = [point["robust"] for point in row["points"] if point["robust"] is not None]
    return sum(values) / len(values) if values else 0.0


def _point(here: Tensor, right: Tensor, known: Tensor, status: Tensor) -> dict[str, Any]:
    clean = Share(int((right & here).sum()), int((known & here).sum()))
    robust = survived_share(status[here])
    low, high = robust.interval
    text = f"clean {percent(clean.value)}, worst case {percent(robust.value)}, {robust.count} of {robust.n}"
    return {
        "clean": None if clean.value is None else 100 * clean.value,
        "robust": None if robust.value is None else 100 * robust.value,
        "low": 100 * low,
        "high": 100 * high,
        "tooltip": text,
    }


def distributions(study: Study) -> list[dict[str, Any]]:
    """Histograms over samples of each attack: the perturbations found, steps and passes.

    Args:
        study: the study, texts cleaned.

    Returns:
        A panel an attack: ``title`` and ``measures``; a measure has a ``name``, what it is ``of``, the ``ends`` of its
        axis and one row a model (``series``, ``path`` of the histogram in a 100 × 24 box, ``median``, ``told``).
    """
    models = study.models
    panels = []
    for column in columns(study):
        chosen = [(models.index(model), study.cells[i].outcome) for model, i in column.cells.items()]
        measures = [_measure(name, what, chosen) for name, what in _MEASURES]
        if any(row["n"] for measure in measures for row in measure["rows"]):
            panels.append({"title": column.title, "models": list(column.cells), "measures": measures})
    return panels


_MEASURES = (("ℓ∞", "linf"), ("ℓ2", "l2"), ("steps", "steps"), ("passes", "passes"))


def _measure(name: str, measure: str, chosen: list[tuple[int, Outcome]]) -> dict[str, Any]:
    values = [(series, _values(outcome, measure)) for series, outcome in chosen]
    top = max((float(v.max()) for _, v in values if len(v)), default=0.0)
    format_value = levels if measure == "linf" else compact
    rows = []
    for series, v in values:
        median = float(v.median()) if len(v) else None
        text = f"{len(v)} samples" + (
            f", median {format_value(median)}, largest {format_value(float(v.max()))}" if len(v) else ""
        )
        rows.append(
            {"series": series, "n": len(v), "path": _steps(v, top), "tooltip": text, "median": format_value(median)}
            | {"at": 100 * median / top if median is not None and top > 0 else None}
        )
    of = "broken samples" if measure in ("linf", "l2") else "attacked samples"
    return {"name": name, "of": of, "ends": ("0", format_value(top)), "rows": rows}


def _values(outcome: Outcome, measure: str) -> Tensor:
    broken = outcome.status == int(Status.BROKEN)
    attacked = broken | (outcome.status == int(Status.SURVIVED))
    if measure in ("linf", "l2"):
        values = outcome.norm(measure)[broken]
    elif measure == "steps":
        values = outcome.steps[attacked].double()
    else:
        values = (outcome.forwards + outcome.backwards)[attacked].double()
    values = values.double().cpu()
    return values[torch.isfinite(values)]


def _steps(values: Tensor, top: float) -> str:
    """Outline of a histogram over [0, top], in a box 100 wide and 24 high, as an SVG path."""
    if not len(values):
        return ""
    place = (values / top * _BINS).long().clamp(0, _BINS - 1) if top > 0 else torch.zeros(len(values), dtype=torch.long)
    counts = torch.bincount(place, minlength=_BINS).double()
    tops = (_HEIGHT - (_HEIGHT - 1) * counts / counts.max()).tolist()
    width = 100 / _BINS
    return f"M0 {_HEIGHT}" + "".join(f"V{y:.3g}h{width:.4g}" for y in tops) + f"V{_HEIGHT}Z"
