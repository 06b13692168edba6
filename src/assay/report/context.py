"""One study, ready for the templates."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from assay.core.outcome import Status
from assay.report.distributions import by_class, distributions
from assay.report.figures import Curve, curves, draw
from assay.report.gallery import gallery, slug
from assay.report.leaderboard import leaderboard, plane
from assay.report.table import table
from assay.store.results import Study
from assay.store.verdict import Verdict, by_budget, verdicts


@dataclass(frozen=True)
class Chapter:
    """What a page tells of one study.

    Attributes:
        number: its place on the page, from 1.
        prefix: of every id in it; empty on a page about one study.
        level: of its sections' headings.
        study: the study, texts cleaned.
        n: how many samples.
        shape: of an image, ``(c, h, w)``.
        judged: a verdict each model.
        table: robust accuracy of each attack on each model.
        events: what the engine had to do besides, as model, attack and sentence.
        curves: accuracy against budget.
        by_class: clean and worst-case accuracy of each class.
        distributions: histograms over samples.
        gallery: cards and filters.
        board: the models in order, where there are several.
        plane: cost and strength of the attacks, where there are several.
    """

    number: int
    prefix: str
    level: int
    study: Study
    n: int
    shape: tuple[int, ...]
    judged: list[dict[str, Any]]
    table: dict[str, Any]
    events: list[tuple[str, str, str]]
    curves: list[dict[str, Any]]
    by_class: dict[str, Any]
    distributions: list[dict[str, Any]]
    gallery: dict[str, Any]
    board: list[dict[str, Any]]
    plane: dict[str, Any] | None


def chapters(studies: tuple[Study, ...], cards: int | None = None) -> list[Chapter]:
    """The studies of a page.

    Args:
        studies: the studies, texts cleaned.
        cards: most images in the gallery of each; see `assay.report.choose`.

    Returns:
        One a study, with ids that differ between them.
    """
    return [_chapter(study, i + 1, len(studies), cards) for i, study in enumerate(studies)]


def _chapter(study: Study, number: int, total: int, cards: int | None) -> Chapter:
    judged = verdicts(study)
    prefix = f"chapter-{number}-" if total > 1 else ""
    return Chapter(
        number=number,
        prefix=prefix,
        level=3 if total > 1 else 2,
        study=study,
        n=len(study),
        shape=tuple(study.x.shape[1:]),
        judged=[_judged(study, v, i) for i, v in enumerate(judged)],
        table=table(study, judged),
        events=[(cell.model, cell.attack, event) for cell in study.cells for event in cell.outcome.events],
        curves=[_drawn(curve, f"{prefix}curve{i}") for i, curve in enumerate(curves(study))],
        by_class=by_class(study, judged),
        distributions=distributions(study),
        gallery=gallery(study, cards, among=total),
        board=leaderboard(study, judged),
        plane=plane(study, prefix),
    )


def _judged(study: Study, result: Verdict, series: int) -> dict[str, Any]:
    """One verdict, ready for the template."""
    total = len(study)
    counts = [(slug(s), s.label, result.counts[s.label]) for s in Status]
    starts = [sum(count for _, _, count in counts[:i]) for i in range(len(counts))]
    low, high = result.robust.interval
    return {
        "model": result.model,
        "series": series,
        "sentence": _sentence(result),
        "robust": result.robust.value,
        "low": low,
        "high": high,
        "n": result.robust.n,
        "clean": result.clean.value,
        "at": " and ".join(dict.fromkeys(cell.budget for cell in result.cells if cell.budget != "none")),
        "counts": [
            {"slug": kind, "label": label, "count": count}
            | {"start": 100 * start / max(total, 1), "width": 100 * count / max(total, 1)}
            for (kind, label, count), start in zip(counts, starts, strict=True)
        ],
        "passes": result.passes,
        "checks": result.checks,
        "skipped": [cell.attack for cell in result.skipped],
        "budgets": _budgets(study, result),
        "checked": _checked(study, result.model),
    }


def _checked(study: Study, model: str) -> dict[str, Any] | None:
    """Grade and answers of the checks, the worst first; None where nothing was checked."""
    result = study.checked.get(model)
    if result is None:
        return None
    order = ("issue", "warning", "open", "passed", "not applicable")
    answers = sorted(result.answers, key=lambda a: order.index(a.level) if a.level in order else 0)
    counts = {level: sum(a.level == level for a in answers) for level in order}
    return {
        "grade": result.grade,
        "why": ", ".join(result.why),
        "counts": counts,
        "doubts": [a for a in answers if a.level in ("issue", "warning")],
        "rest": [a for a in answers if a.level not in ("issue", "warning")],
    }


def _sentence(result: Verdict) -> str:
    if not result.robust.n:
        return "No sample was reached by every attack, so there is no verdict."
    attacks = {1: "the attack", 2: "both attacks"}.get(len(result.cells), f"all {len(result.cells)} attacks")
    clean = f" ({result.clean.part} clean)" if result.clean.n == result.robust.n else ""
    return f"Correct on {result.robust.part} of {result.robust.n} images under {attacks}{clean}.{_unknown(result)}"


def _unknown(result: Verdict) -> str:
    """What the number would be if samples of which nobody knows were robust; empty where there are none."""
    share, count = result.robust, result.robust.unknown
    if not count or share.most is None:
        return ""
    return (
        f" {count} came out invalid, raised an error or could not be attacked: if they were robust, it would be "
        f"{100 * share.most:.1f} %; the interval covers both."
    )


def _budgets(study: Study, result: Verdict) -> list[dict[str, Any]]:
    """The worst case at each budget, where there are several."""
    rows = []
    for budget, part in by_budget(study, result.model).items():
        low, high = part.robust.interval
        rows.append(
            {"budget": budget, "attacks": len(part.cells), "robust": part.robust.value, "n": part.robust.n}
            | {"low": low, "high": high, "counts": budget in study.headline or not study.headline}
        )
    return rows if len(rows) > 1 else []


def _drawn(curve: Curve, key: str) -> dict[str, Any]:
    eps = sorted({eps for line in curve.lines for eps, _ in line.points})
    tables = [(line.model, line.series, dict(line.points)) for line in curve.lines]
    return {
        "name": curve.name,
        "svg": Markup(draw(curve, key)),  # noqa: S704 (matplotlib's drawing of numbers; its label is escaped)
        "eps": eps,
        "lines": [
            {"model": model, "series": series, "shares": [points.get(e) for e in eps]}
            for model, series, points in tables
        ],
    }
