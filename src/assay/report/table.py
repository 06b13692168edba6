"""The attacks of a study as columns, and the table of robust accuracies."""

import re
from dataclasses import dataclass
from typing import Any

from assay.core.outcome import Status
from assay.store.results import CellResult, Study
from assay.store.verdict import Share, Verdict, passes, robust_share
from assay.util.text import compact, percent

_HEATS = 20


@dataclass(frozen=True)
class Column:
    """One attack, on each model that it ran on.

    Attributes:
        label: what ran.
        note: what tells it from others of that label (a budget, a repetition); may be empty.
        cells: index into ``study.cells`` by name of the model.
    """

    label: str
    note: str
    cells: dict[str, int]

    @property
    def title(self) -> str:
        """Label and note in one line."""
        return f"{self.label} · {self.note}" if self.note else self.label


def columns(study: Study) -> tuple[Column, ...]:
    """The distinct attacks of a study, those of one family together.

    Args:
        study: the study.

    Returns:
        Columns in the order of the families, then of the cells. The same attack twice on one model makes two.
    """
    cells_by_attack: dict[tuple[str, str, int], dict[str, int]] = {}
    families: dict[tuple[str, str, int], int] = {}
    order = {family: i for i, family in enumerate(dict.fromkeys(cell.family for cell in study.cells))}
    for i, cell in enumerate(study.cells):
        repetition = 0
        while cell.model in cells_by_attack.get((cell.attack, cell.budget, repetition), {}):
            repetition += 1
        key = (cell.attack, cell.budget, repetition)
        cells_by_attack.setdefault(key, {})[cell.model] = i
        families.setdefault(key, order[cell.family])
    keys = sorted(cells_by_attack, key=families.__getitem__)
    return tuple(Column(key[0], _note(*key), cells_by_attack[key]) for key in keys)


def _note(attack: str, budget: str, turn: int) -> str:
    is_named = budget == "–" or re.search(rf"(?<!\w){re.escape(budget)}(?!\w)", attack)
    return ", ".join(([] if is_named else [budget]) + ([f"run {turn + 1}"] if turn else []))


def table(study: Study, verdicts: tuple[Verdict, ...]) -> dict[str, Any]:
    """The table of robust accuracies, ready for the template.

    The longer of models and attacks goes down the page.

    Args:
        study: the study, texts cleaned.
        verdicts: its verdicts.

    Returns:
        ``down``: whether attacks are rows; ``heads``: column heads; ``rows``: a head and entries each.
    """
    attacks = columns(study)
    heads: list[dict[str, Any]] = [{"label": "Clean", "note": "no attack", "kind": "clean"}]
    heads += [{"label": a.label, "note": a.note, "kind": "attack"} for a in attacks]
    heads += [
        {
            "label": "Worst case",
            "note": "per sample" + (", at the claimed budgets" if study.headline else ""),
            "kind": "worst",
        }
    ]
    entries = [[_entry(v.clean, "right before any attack")] for v in verdicts]
    for row, v in zip(entries, verdicts, strict=True):
        row += [_attacked(study.cells[a.cells[v.model]]) if v.model in a.cells else _empty() for a in attacks]
        over = "attack" if len(v.cells) == 1 else "attacks"
        row += [_entry(v.robust, f"survived {len(v.cells)} {over}")]
    _mark(entries)
    models: list[dict[str, Any]] = [
        {"label": v.model, "note": "", "kind": "model", "series": i} for i, v in enumerate(verdicts)
    ]
    down = len(attacks) >= len(models)
    across, sides = (models, heads) if down else (heads, models)
    lines = [list(column) for column in zip(*entries, strict=True)] if down else entries
    rows = [{"head": head, "entries": line} for head, line in zip(sides, lines, strict=False)]
    return {"down": down, "heads": across, "rows": rows}


def _entry(share: Share, what: str, more: str = "") -> dict[str, Any]:
    value = share.value
    if value is None:
        return _empty("not run")
    low, high = share.interval
    text = f"{share.count} of {share.n} {what}; 95 % interval {percent(low)} to {percent(high)}"
    return {
        "text": f"{100 * value:.1f}",
        "value": value,
        "heat": round(_HEATS * value),
        "tooltip": text + more,
        "mark": "",
    }


def _attacked(cell: CellResult) -> dict[str, Any]:
    outcome = cell.outcome
    counts = ", ".join(f"{n} {label}" for label, n in outcome.counts.items() if n)
    entry = _entry(robust_share(outcome), "survived", f"; {counts}; {compact(passes(outcome))} passes per sample")
    undecided = sum(outcome.count(s) for s in (Status.INVALID, Status.ERROR, Status.NOT_RUN))
    return {**entry, "odd": undecided}


def _empty(text: str = "–") -> dict[str, Any]:
    return {"text": text, "value": None, "heat": None, "tooltip": "not run", "mark": ""}


def _mark(entries: list[list[dict[str, Any]]]) -> None:
    """Mark the best and the worst model of each column, where they differ."""
    for column in zip(*entries, strict=True):
        values = [entry["value"] for entry in column if entry["value"] is not None]
        if len(values) < 2 or min(values) == max(values):
            continue
        for entry in column:
            if entry["value"] == max(values):
                entry["mark"] = "best"
            elif entry["value"] == min(values):
                entry["mark"] = "worst"
