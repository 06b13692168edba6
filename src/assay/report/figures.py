"""Accuracy–budget curves as SVG figures."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from assay.report.svg import ink, series_colour
from assay.report.svg_figure import percent_axis, sketch
from assay.store.results import CellResult, Study
from assay.store.verdict import Share, clean_right, survived_share, worst_status
from assay.util.text import levels

_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)))
_MARKERS = "osD^vPX*"


@dataclass(frozen=True)
class Line:
    """The accuracy of one model over budgets.

    Attributes:
        model: its name.
        series: its position among the models, which gives its colour.
        points: budget in input units and share, ascending; budget 0 is the clean accuracy
            where no attack was run at it (on a curve over one of two budgets one is).
        certified: budget and share that is certified, ascending; empty where nothing was certified.
    """

    model: str
    series: int
    points: tuple[tuple[float, Share], ...]
    certified: tuple[tuple[float, Share], ...] = ()


@dataclass(frozen=True)
class Curve:
    """One accuracy–budget figure.

    Attributes:
        name: what varies.
        lines: one a model.
    """

    name: str
    lines: tuple[Line, ...]


def curves(study: Study) -> tuple[Curve, ...]:
    """The accuracy–budget curves of a study.

    Args:
        study: the study.

    Returns:
        One a name of a curve with at least one measured budget above 0. Several attacks at the same budget count
        together, worst case per sample.
    """
    names = dict.fromkeys(cell.curve for cell in study.cells if cell.curve is not None and cell.eps is not None)
    figures = []
    for name in names:
        lines = []
        for i, model in enumerate(study.models):
            cells = tuple(c for c in study.of(model) if c.curve == name and c.eps is not None)
            points = _points(cells, len(study))
            if len(points) > 1:
                lines.append(Line(model, i, points, _certified(study, model, cells, points)))
        if lines:
            figures.append(Curve(name, tuple(lines)))
    return tuple(figures)


def _points(cells: tuple[CellResult, ...], n: int) -> tuple[tuple[float, Share], ...]:
    right, known = clean_right(cells, n)
    points = {0.0: Share(int(right.sum()), int(known.sum()))} if known.any() else {}
    for eps in sorted({float(cell.eps) for cell in cells if cell.eps is not None}):
        status = worst_status(tuple(c.outcome for c in cells if c.eps == eps), n)
        if (share := survived_share(status)).n:
            points[eps] = share
    return tuple(points.items())


def _certified(
    study: Study, model: str, cells: tuple[CellResult, ...], points: tuple[tuple[float, Share], ...]
) -> tuple[tuple[float, Share], ...]:
    """The lower end at each budget of a curve; from the clean accuracy where the curve begins with it."""
    eps_of = {cell.budget: float(cell.eps) for cell in cells if cell.eps is not None}
    own = {
        eps_of[each.budget]: Share(int(each.certified.sum()), len(each.certified))
        for each in study.certificates
        if each.model == model and each.budget in eps_of and not each.fault
    }
    start = {eps: share for eps, share in points if not eps}
    return tuple(sorted((start | own).items())) if own else ()


def draw(curve: Curve, key: str) -> str:
    """Draw one curve: lines with exact 95 % intervals as bands; what is certified as a thin line below.

    Args:
        curve: what to draw.
        key: unique on the page, for ids.

    Returns:
        An ``<svg>`` element that follows the page's colours. It holds numbers only, no text from outside but the label,
        which is escaped.
    """

    def draw_lines(axes: Any) -> None:
        for line in curve.lines:
            _line(axes, line)
        _frame(axes, curve)

    models = ", ".join(line.model for line in curve.lines)
    return sketch(draw_lines, key, f"Accuracy against budget, {curve.name}: {models}")


def _line(axes: Any, line: Line) -> None:
    eps = [point[0] for point in line.points]
    shares = [100 * (point[1].value or 0.0) for point in line.points]
    low, high = zip(*(point[1].interval for point in line.points), strict=True)
    colour = series_colour(line.series)
    axes.fill_between(eps, [100 * v for v in low], [100 * v for v in high], color=colour, alpha=0.14, linewidth=0)
    dash = _DASHES[line.series // 8 % len(_DASHES)]
    marker = _MARKERS[line.series % len(_MARKERS)]
    axes.plot(eps, shares, color=colour, linewidth=1.8, linestyle=dash, marker=marker, markersize=4.5)
    if line.certified:
        sure = [(point[0], 100 * (point[1].value or 0.0)) for point in line.certified]
        axes.plot(*zip(*sure, strict=True), color=colour, linewidth=1.2, linestyle=dash, marker="_", markersize=7)


def _frame(axes: Any, curve: Curve) -> None:
    budgets = sorted({eps for line in curve.lines for eps, _ in line.points})
    percent_axis(axes)
    axes.set_xlim(-0.015 * budgets[-1], 1.03 * budgets[-1])
    ticks = _ticks(budgets)
    axes.set_xticks(ticks)
    axes.set_xticklabels([_tick(eps, budgets) for eps in ticks])
    axes.set_xlabel("budget ε", color=ink(), labelpad=9)


def _ticks(budgets: list[float]) -> list[float]:
    """The measured budgets that have room for a label, the largest always."""
    kept = [budgets[-1]]
    for eps in reversed(budgets[:-1]):
        if kept[-1] - eps >= 0.11 * budgets[-1]:
            kept.append(eps)
    return kept[::-1]


def _tick(eps: float, budgets: list[float]) -> str:
    """In grey levels if all budgets are near simple fractions of 255, else as a number."""
    grey = all(abs(255 * e - float(Fraction(255 * e).limit_denominator(4))) < 1e-3 for e in budgets)
    return levels(eps) if grey else f"{eps:.3g}"
