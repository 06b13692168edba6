"""The leaderboard of models, and the cost–strength plane of attacks."""

import math
from typing import Any

from markupsafe import Markup

from assay.report.svg import ink, series_colour
from assay.report.svg_figure import percent_axis, sketch
from assay.report.table import columns
from assay.store.results import Study
from assay.store.verdict import Verdict, certified_share, passes, robust_share
from assay.util.text import compact

_MARKERS = "osD^vPX*<>hd"


def leaderboard(study: Study, verdicts: tuple[Verdict, ...]) -> list[dict[str, Any]]:
    """The models of a study, the most robust first; those without a verdict last.

    Args:
        study: the study, texts cleaned.
        verdicts: its verdicts.

    Returns:
        Rows for the template; nothing for a single model. Overlapping intervals do not change the order: the
        order is that of the shares, the interval stands beside it.
    """
    if len(verdicts) < 2:
        return []
    places = {v.model: i for i, v in enumerate(verdicts)}
    order = sorted(verdicts, key=lambda v: (v.robust.value is None, -(v.robust.value or 0.0), -(v.clean.value or 0.0)))
    rows = []
    for rank, v in enumerate(order):
        shares = [
            (share.value, cell.attack) for cell in v.cells if (share := robust_share(cell.outcome)).value is not None
        ]
        low, high = v.robust.interval
        report = study.grades.get(v.model)
        rows.append(
            {
                "rank": rank + 1,
                "model": v.model,
                "series": places[v.model],
                "clean": v.clean.value,
                "robust": v.robust.value,
                "low": low,
                "high": high,
                "n": v.robust.n,
                "passes": v.passes,
                "grade": None if report is None else report.grade,
                "certified": certified_share(study, v.model),
                "by": min(shares, key=lambda pair: pair[0] or 0.0)[1] if shares else "–",
            }
        )
    return rows


def plane(study: Study, prefix: str) -> dict[str, Any] | None:
    """What each attack costs, and how many samples it leaves: a figure and its numbers.

    Args:
        study: the study, texts cleaned.
        prefix: of ids.

    Returns:
        ``svg``, ``attacks`` (name and marker) and ``rows``; None with fewer than two attacks that count.
    """
    points = []
    attacks = [column for column in columns(study) if any(study.cells[i].curve is None for i in column.cells.values())]
    for place, column in enumerate(attacks):
        for series, model in enumerate(study.models):
            cell = study.cells[column.cells[model]] if model in column.cells else None
            cost = None if cell is None else passes(cell.outcome)
            share = None if cell is None else robust_share(cell.outcome).value
            if cost and share is not None:
                points.append((place, series, cost, share))
    if len({point[0] for point in points}) < 2:
        return None
    rows = [
        {"attack": attacks[a].title, "model": study.models[m], "series": m, "cost": cost, "share": share}
        for a, m, cost, share in points
    ]
    label = "Cost and strength of attacks: " + ", ".join(column.title for column in attacks)
    return {
        "svg": Markup(_draw(points, prefix, label)),  # noqa: S704 (our own)
        "rows": rows,
        "attacks": [(column.title, _MARKERS[i % len(_MARKERS)]) for i, column in enumerate(attacks)],
    }


def _draw(points: list[tuple[int, int, float, float]], prefix: str, label: str) -> str:
    def draw_points(axes: Any) -> None:
        for attack, series, cost, share in points:
            axes.plot(
                [cost],
                [100 * share],
                color=series_colour(series),
                marker=_MARKERS[attack % len(_MARKERS)],
                markersize=8,
                linestyle="none",
                alpha=0.9,
            )
        _frame(axes, [cost for _, _, cost, _ in points])

    return sketch(draw_points, f"{prefix}plane", label)


def _frame(axes: Any, costs: list[float]) -> None:
    low, high = math.log10(min(costs)), math.log10(max(costs))
    room = 0.06 * max(high - low, 0.5)
    percent_axis(axes)
    axes.set_xscale("log")
    axes.set_xlim(10 ** (low - room), 10 ** (high + room))
    ticks = [t * 10**e for e in range(math.floor(low), math.ceil(high) + 1) for t in (1, 2, 5)]
    ticks = [t for t in ticks if 10 ** (low - room) <= t <= 10 ** (high + room)]
    axes.set_xticks(ticks)
    axes.set_xticks([], minor=True)
    axes.set_xticklabels([compact(tick) for tick in ticks])
    axes.set_xlabel("passes per sample, forward and backward", color=ink(), labelpad=9)
