"""Claims of papers, compared with the numbers in the ledger."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from types import MappingProxyType
from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from assay.core.outcome import Status
from assay.store.results import CellResult, Study
from assay.store.verdict import verdict
from assay.util.fields import Name, Number, Strict, Written
from assay.util.text import percent

_AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = MappingProxyType(
    {"mean": fmean, "first": lambda v: v[0], "last": lambda v: v[-1], "least": min, "most": max}
)


class Quantity(Strict):
    """A number of the study: an accuracy of a model, or a value in a diagnostic's table."""

    clean: Name | None = Field(None, description="clean accuracy of this model")
    robust: Name | None = Field(None, description="robust accuracy of this model, worst case over the attacks chosen")
    attack: str | None = Field(None, description="only attacks whose name has this in it")
    budget: Written | None = Field(None, description="only this budget, as the report writes it")
    data: Name | None = None
    size: Literal["linf", "l2", "l1", "l0", "pixels"] | None = Field(
        None, description="the median size of the perturbations that broke the model named by robust"
    )
    answer: str | None = Field(None, description="a diagnostic")
    column: str | None = Field(None, description="of its table")
    where: dict[str, Any] = Field(default_factory=dict, description="rows of its table: column and value")
    take: Literal["mean", "first", "last", "least", "most"] = "mean"

    @model_validator(mode="after")
    def _one_kind(self) -> "Quantity":
        named = [name for name in ("clean", "robust", "answer") if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError("expected exactly one of clean, robust and answer")
        if self.answer is not None and self.column is None:
            raise ValueError("expected column, of the answer's table")
        return self


class Claim(Strict):
    """A claim of a paper and the number of this study to compare it with."""

    says: str
    source: str = Field("", description="where it is said: section, table, figure")
    theirs: str = Field("", description="the paper's number, as it writes it")
    ours: Quantity
    less: Quantity | None = Field(None, description="subtracted; the number is a difference")
    over: Quantity | None = Field(None, description="divided by: the number is a ratio")
    unit: Literal["share", "points", "percent", "plain", "times"] = Field(
        "share", description="share and points of a number from 0 to 1; percent of one from 0 to 100"
    )
    least: Number | None = Field(None, description="the claim holds here from this value on")
    most: Number | None = Field(None, description="the claim holds here up to this value")
    note: str = Field("", description="why the numbers may differ")


@dataclass(frozen=True)
class ClaimResult:
    """What a paper says, and what was measured here.

    Attributes:
        says: the claim.
        source: where the paper makes it.
        theirs: the paper's number.
        ours: ours.
        holds: whether it holds here; None if that was not asked, or could not be measured.
        note: why they may differ.
    """

    says: str
    source: str
    theirs: str
    ours: str
    holds: bool | None
    note: str = ""


def judge_claims(
    claims: Sequence[Mapping[str, Any]], studies: Mapping[str, Study], answers: Sequence[Mapping[str, Any]]
) -> tuple[ClaimResult, ...]:
    """Each claim with our number.

    Args:
        claims: as in the study file.
        studies: by name of the data.
        answers: of the diagnostics, with ``name`` and ``frame``.
    """
    return tuple(_judge(Claim.model_validate(claim), studies, answers) for claim in claims)


def _judge(claim: Claim, studies: Mapping[str, Study], answers: Sequence[Mapping[str, Any]]) -> ClaimResult:
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
    return ClaimResult(claim.says, claim.source, claim.theirs, _format_value(value, claim.unit), holds, claim.note)


def _format_value(value: float | None, unit: str) -> str:
    if value is None:
        return "not measured"
    if unit == "share":
        return percent(value)
    return {"points": f"{100 * value:+.1f} points", "times": f"{value:.2f} ×", "percent": percent(value / 100)}.get(
        unit, f"{value:.4g}"
    )


def _value(quantity: Quantity, studies: Mapping[str, Study], answers: Sequence[Mapping[str, Any]]) -> float | None:
    if quantity.answer is not None:
        return _of_answer(quantity, answers)
    model = quantity.clean or quantity.robust or ""
    for name, study in studies.items():
        if quantity.data not in (None, name) or model not in study.models:
            continue
        cells = tuple(cell for cell in study.of(model) if _chosen(cell, quantity, study.headline))
        if not cells:
            return None
        model_verdict = verdict(model, cells, len(study))
        if quantity.size is not None:
            return _size(cells, quantity.size)
        return (model_verdict.clean if quantity.clean is not None else model_verdict.robust).value
    return None


def _chosen(cell: CellResult, quantity: Quantity, headline: Sequence[str]) -> bool:
    """Whether a cell counts for a quantity: by its attack and budget if given, as in the verdict otherwise."""
    if quantity.attack is None and quantity.budget is None and headline and cell.budget not in headline:
        return False
    matches_attack = quantity.attack is None or quantity.attack.lower() in cell.attack.lower()
    on_curve = cell.curve is not None and quantity.budget is None
    return matches_attack and not on_curve and (quantity.budget is None or is_budget(quantity.budget, cell.budget))


def _size(cells: Sequence[CellResult], norm: str) -> float | None:
    sizes = torch.cat([cell.outcome.norm(norm)[cell.outcome.status == int(Status.BROKEN)] for cell in cells])
    return float(median(sizes.tolist())) if len(sizes) else None


def _of_answer(quantity: Quantity, answers: Sequence[Mapping[str, Any]]) -> float | None:
    rows = [row for answer in answers if answer["name"] == quantity.answer for row in answer["frame"]]
    rows = [row for row in rows if all(_same(row.get(key), value) for key, value in quantity.where.items())]
    values = [float(row[quantity.column]) for row in rows if isinstance(row.get(quantity.column or ""), int | float)]
    return float(_AGGREGATES[quantity.take](values)) if values else None


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(value, float) and isinstance(wanted, int | float):
        return abs(value - wanted) < 1e-9
    return bool(value == wanted)


def is_budget(requested: str, budget: str) -> bool:
    """Whether a budget is the one that is asked for, with its norm or without.

    Example:
        >>> is_budget("8/255", "linf 8/255"), is_budget("l2 0.5", "l2 0.5"), is_budget("0.5", "l2 1.5")
        (True, True, False)
    """
    return requested == budget or requested == budget.partition(" ")[2]
