"""Judge claims of papers by the numbers in the ledger: our number, its interval, and whether the claim holds."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from assay.core.outcome import Status
from assay.store.claims import Claim, Quantity
from assay.store.results import CellResult, Study
from assay.store.verdict import clean_right, verdict
from assay.util.statistics import (
    Interval,
    difference_interval,
    exact_interval,
    mean_interval,
    median_interval,
    ratio_interval,
)
from assay.util.text import percent

HOLDS, HOLDS_NOT, CANNOT_TELL = "holds", "does not hold", "cannot tell"
"""Verdicts: the whole interval agrees with the claim, or contradicts it, or it reaches across the claim's threshold."""
_AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = MappingProxyType(
    {"mean": fmean, "first": lambda v: v[0], "last": lambda v: v[-1], "least": min, "most": max}
)
_UNKNOWN: Interval = (-math.inf, math.inf)

AttackNames = Mapping[str, Sequence[tuple[str, str, bool]]]
"""By the attack as a study writes it, its cells: family, budget, and whether it is only a point of a curve."""


@dataclass(frozen=True)
class ClaimResult:
    """What a paper says, and what was measured here.

    Attributes:
        says: the claim.
        source: where the paper makes it.
        theirs: the paper's number.
        ours: ours.
        interval: the 95 % interval of ours, in words; empty where there is none.
        verdict: ``holds``, ``does not hold`` or ``cannot tell`` (at this size: the interval reaches across the
            threshold); empty for a claim without a threshold, or one that could not be measured.
        threshold: from where on it holds, in words, and whose number that is.
        note: why they may differ.
    """

    says: str
    source: str
    theirs: str
    ours: str
    interval: str = ""
    verdict: str = ""
    threshold: str = ""
    note: str = ""


@dataclass(frozen=True)
class _Estimate:
    """A number with its interval.

    Attributes:
        value: the number.
        interval: its 95 % interval.
        samples: what each sample contributes to it, ``(n,)``; None where that is not known.
        data: name of the data that these are of.
    """

    value: float
    interval: Interval = _UNKNOWN
    samples: Tensor | None = None
    data: str = ""


def judge_claims(
    claims: Sequence[Mapping[str, Any]],
    studies: Mapping[str, Study],
    answers: Sequence[Mapping[str, Any]],
    attacks: AttackNames | None = None,
) -> tuple[ClaimResult, ...]:
    """Each claim with our number.

    Args:
        claims: as in the study file.
        studies: by name of the data.
        answers: of the diagnostics, with ``name`` and ``frame``, and ``over``, the one model that they are about.
        attacks: the cells of each attack that a claim may name; None in ledgers of before, whose claims have a part of
            its name.
    """
    return tuple(_judge(Claim.model_validate(claim), studies, answers, attacks) for claim in claims)


def _judge(
    claim: Claim, studies: Mapping[str, Study], answers: Sequence[Mapping[str, Any]], attacks: AttackNames | None
) -> ClaimResult:
    scale = 100 if claim.unit == "percent" else 1
    estimate = _estimate(claim.ours, studies, answers, attacks, scale)
    for other, combine in ((claim.less, _difference), (claim.over, _ratio)):
        if other is not None and estimate is not None:
            second = _estimate(other, studies, answers, attacks, scale)
            estimate = None if second is None else combine(estimate, second)
    has_threshold = claim.least is not None or claim.most is not None
    return ClaimResult(
        claim.says,
        ", ".join(part for part in (claim.figure, claim.source) if part),
        claim.theirs,
        "not measured" if estimate is None else _format_value(estimate.value, claim.unit),
        "" if estimate is None else _format_interval(estimate.interval, claim.unit),
        _verdict(estimate, claim) if estimate is not None and has_threshold else "",
        threshold_of(claim),
        claim.note,
    )


def threshold_of(claim: Claim) -> str:
    """From where on a claim holds, and whose number that is; empty where it says nothing of the kind."""
    bounds = [
        f"{word} {_format_value(bound, claim.unit)}"
        for word, bound in (("at least", claim.least), ("at most", claim.most))
        if bound is not None
    ]
    whose = "as the paper says" if claim.threshold == "paper" else "our threshold"
    return f"{' and '.join(bounds)} ({whose})" if bounds else ""


def _verdict(estimate: _Estimate, claim: Claim) -> str:
    """Whether the whole interval is within the claim's bounds, or outside; without an interval, the number."""
    low, high = estimate.interval if estimate.interval != _UNKNOWN else (estimate.value, estimate.value)
    least = -math.inf if claim.least is None else claim.least
    most = math.inf if claim.most is None else claim.most
    if least <= low and high <= most:
        return HOLDS
    return HOLDS_NOT if high < least or low > most else CANNOT_TELL


def _difference(first: _Estimate, second: _Estimate) -> _Estimate:
    correlation = _correlation(first.samples, second.samples) if first.data == second.data else 0.0
    ends = difference_interval(first.value, first.interval, second.value, second.interval, correlation)
    return _Estimate(first.value - second.value, ends)


def _ratio(first: _Estimate, second: _Estimate) -> _Estimate | None:
    if second.value <= 0:
        return None
    return _Estimate(
        first.value / second.value, ratio_interval(first.value, first.interval, second.value, second.interval)
    )


def _correlation(first: Tensor | None, second: Tensor | None) -> float:
    """Pearson's, over the same samples; 0 where they are not known, or one side does not vary."""
    if first is None or second is None:
        return 0.0
    both = ~(first.isnan() | second.isnan())
    if int(both.sum()) < 2:
        return 0.0
    value = float(torch.corrcoef(torch.stack((first[both], second[both])))[0, 1])
    return 0.0 if math.isnan(value) else value


def _estimate(
    quantity: Quantity,
    studies: Mapping[str, Study],
    answers: Sequence[Mapping[str, Any]],
    attacks: AttackNames | None,
    scale: float,
) -> _Estimate | None:
    if quantity.answer is not None:
        return _of_answer(quantity, answers, scale)
    model = quantity.clean or quantity.robust or ""
    for name, study in studies.items():
        if quantity.data not in (None, name) or model not in study.models:
            continue
        cells = tuple(cell for cell in study.of(model) if _chosen(cell, quantity, study.headline, attacks))
        if not cells:
            return None
        estimate = (
            _of_cells(cells, len(study), clean=quantity.clean is not None)
            if quantity.size is None
            else _of_sizes(cells, quantity)
        )
        return None if estimate is None else replace(estimate, data=name)
    return None


def _of_cells(cells: tuple[CellResult, ...], n: int, *, clean: bool) -> _Estimate | None:
    """Clean or robust accuracy, with its exact interval."""
    result = verdict("", cells, n)
    share = result.clean if clean else result.robust
    if share.value is None:
        return None
    right, known = clean_right(result.cells, n)
    if not clean:
        right, known = result.status == int(Status.SURVIVED), result.status != int(Status.NOT_RUN)
    return _Estimate(share.value, share.interval, torch.where(known, right.double(), torch.nan))


def _chosen(cell: CellResult, quantity: Quantity, headline: Sequence[str], attacks: AttackNames | None) -> bool:
    """Whether a cell counts for a quantity: by attack and budget where it has them, else as in the verdict."""
    if quantity.attack is None and quantity.budget is None and headline and cell.budget not in headline:
        return False
    if quantity.budget is not None and not is_budget(quantity.budget, cell.budget):
        return False
    if quantity.attack is None:
        return cell.curve is None or quantity.budget is not None
    if attacks is None:
        on_curve = cell.curve is not None and quantity.budget is None
        return quantity.attack.lower() in cell.attack.lower() and not on_curve
    return any(
        (cell.plain_family, cell.budget) == (family, budget) and (quantity.budget is not None or not on_curve)
        for family, budget, on_curve in attacks.get(quantity.attack, ())
    )


def _of_sizes(cells: Sequence[CellResult], quantity: Quantity) -> _Estimate | None:
    """The mean or median size of the perturbations that broke the model."""
    norm, counted = quantity.size or "", []
    for cell in cells:
        sizes = cell.outcome.norm(norm).double()
        counted.append(torch.where(cell.outcome.status == int(Status.BROKEN), sizes, torch.nan))
    values = [v for v in torch.cat(counted).tolist() if v == v]
    if not values:
        return None
    samples = counted[0] if len(counted) == 1 else None
    if quantity.statistic == "mean":
        return _Estimate(fmean(values), mean_interval(values), samples)
    return _Estimate(float(median(values)), median_interval(values))


def _of_answer(quantity: Quantity, answers: Sequence[Mapping[str, Any]], scale: float) -> _Estimate | None:
    """A number of a diagnostic's table.

    Its interval: that of the table's own columns (``accuracy from``, ``accuracy to``), of a mean over several rows, or
    of a share of ``n`` images (``scale`` times the share). A mean of numbers from 0 to 1 varies at most as a share.
    """
    column = quantity.column or ""
    tables = [
        answer["frame"]
        for answer in answers
        if answer["name"] == quantity.answer and quantity.over in (None, answer.get("over"))
    ]
    rows = [row for table in tables for row in table]
    rows = [row for row in rows if all(_same(row.get(key), value) for key, value in quantity.where.items())]
    rows = [row for row in rows if isinstance(row.get(column), int | float)]
    if not rows:
        return None
    values = [float(row[column]) for row in rows]
    value = float(_AGGREGATES[quantity.take](values))
    if len(rows) > 1 and quantity.take == "mean":
        return _Estimate(value, mean_interval(values))
    return _Estimate(value, _interval_of(next(row for row in rows if float(row[column]) == value), column, scale))


def _interval_of(row: Mapping[str, Any], column: str, scale: float) -> Interval:
    low, high, n = row.get(f"{column} from"), row.get(f"{column} to"), row.get("n")
    if low is not None and high is not None:
        return float(low), float(high)
    if isinstance(n, int) and 0 <= row[column] <= scale:
        ends = exact_interval(round(row[column] / scale * n), n)
        return scale * ends[0], scale * ends[1]
    return _UNKNOWN


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(value, float) and isinstance(wanted, int | float):
        return abs(value - wanted) < 1e-9
    return bool(value == wanted)


def _format_value(value: float, unit: str) -> str:
    if unit == "share":
        return percent(value)
    return {"points": f"{100 * value:+.1f} points", "times": f"{value:.2f} ×", "percent": percent(value / 100)}.get(
        unit, f"{value:.4g}"
    )


def _format_interval(interval: Interval, unit: str) -> str:
    if interval == _UNKNOWN:
        return ""
    return " to ".join(_format_value(end, unit) if math.isfinite(end) else "any" for end in interval)


def is_budget(requested: str, budget: str) -> bool:
    """Whether a budget is the one that is asked for, with its norm or without.

    Example:
        >>> is_budget("8/255", "linf 8/255"), is_budget("l2 0.5", "l2 0.5"), is_budget("0.5", "l2 1.5")
        (True, True, False)
    """
    return requested == budget or requested == budget.partition(" ")[2]
