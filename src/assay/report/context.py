"""The template context of a study."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from assay.core.outcome import Status
from assay.report.distributions import by_class, distributions
from assay.report.figures import Curve, curves, draw
from assay.report.gallery import gallery, slug
from assay.report.leaderboard import leaderboard, plane
from assay.report.table import table
from assay.store.certified import Bracket
from assay.store.results import Study
from assay.store.verdict import Verdict, brackets, by_budget, verdicts


@dataclass(frozen=True)
class StudyContext:
    """The template context of one study.

    Attributes:
        number: its place on the page, from 1.
        prefix: of every id in it; empty on a page about one study.
        level: of its sections' headings.
        study: the study, texts cleaned.
        n: how many samples.
        shape: of an image, ``(c, h, w)``.
        verdicts: a verdict each model.
        table: robust accuracy of each attack on each model.
        events: engine events, as model, attack and sentence.
        curves: accuracy against budget.
        certified_curves: whether any of them shows what is certified.
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
    verdicts: list[dict[str, Any]]
    table: dict[str, Any]
    events: list[tuple[str, str, str]]
    curves: list[dict[str, Any]]
    certified_curves: bool
    by_class: dict[str, Any]
    distributions: list[dict[str, Any]]
    gallery: dict[str, Any]
    board: list[dict[str, Any]]
    plane: dict[str, Any] | None


def chapters(studies: tuple[Study, ...], cards: int | None = None) -> list[StudyContext]:
    """The studies of a page.

    Args:
        studies: the studies, texts cleaned.
        cards: most images in the gallery of each; see `assay.report.choose`.

    Returns:
        One a study, with ids that differ between them.
    """
    return [_chapter(study, i + 1, len(studies), cards) for i, study in enumerate(studies)]


def _chapter(study: Study, number: int, total: int, cards: int | None) -> StudyContext:
    model_verdicts = verdicts(study)
    prefix, drawn = f"chapter-{number}-" if total > 1 else "", curves(study)
    return StudyContext(
        number=number,
        prefix=prefix,
        level=3 if total > 1 else 2,
        study=study,
        n=len(study),
        shape=tuple(study.x.shape[1:]),
        verdicts=[_verdict_context(study, v, i) for i, v in enumerate(model_verdicts)],
        table=table(study, model_verdicts),
        events=[(cell.model, cell.attack, event) for cell in study.cells for event in cell.outcome.events],
        curves=[_curve_context(curve, f"{prefix}curve{i}") for i, curve in enumerate(drawn)],
        certified_curves=any(line.certified for curve in drawn for line in curve.lines),
        by_class=by_class(study, model_verdicts),
        distributions=distributions(study),
        gallery=gallery(study, cards, among=total),
        board=leaderboard(study, model_verdicts),
        plane=plane(study, prefix),
    )


def _verdict_context(study: Study, verdict: Verdict, series: int) -> dict[str, Any]:
    """One verdict, ready for the template."""
    total = len(study)
    counts = [(slug(s), s.label, verdict.counts[s.label]) for s in Status]
    starts = [sum(count for _, _, count in counts[:i]) for i in range(len(counts))]
    low, high = verdict.robust.interval
    return {
        "model": verdict.model,
        "series": series,
        "sentence": _sentence(verdict),
        "robust": verdict.robust.value,
        "low": low,
        "high": high,
        "n": verdict.robust.n,
        "clean": verdict.clean.value,
        "at": " and ".join(dict.fromkeys(cell.budget for cell in verdict.cells if cell.budget != "none")),
        "counts": [
            {"slug": kind, "label": label, "count": count}
            | {"start": 100 * start / max(total, 1), "width": 100 * count / max(total, 1)}
            for (kind, label, count), start in zip(counts, starts, strict=True)
        ],
        "passes": verdict.passes,
        "checks": verdict.checks,
        "skipped": [cell.attack for cell in verdict.skipped],
        "budgets": _budgets(study, verdict),
        "evidence": _grade_context(study, verdict.model),
        "brackets": [_bracket_context(own) for own in brackets(study) if own.model == verdict.model],
    }


def _bracket_context(bracket: Bracket) -> dict[str, Any]:
    """Both ends of a robust accuracy, ready for the template."""
    low, high = bracket.ends or (0.0, 0.0)
    parts = (("certified", bracket.certified), ("open", bracket.open), ("broken", bracket.n - bracket.possible))
    starts = [sum(count for _, count in parts[:i]) for i in range(len(parts))]
    words = {"certified": "certified", "open": "open", "broken": "broken or misclassified"}
    return {
        "budget": bracket.budget,
        "low": low,
        "high": high,
        "fault": bracket.fault or ("" if bracket.n else "there are no images"),
        "counts": [
            {"slug": kind, "label": words[kind], "count": count}
            | {"start": 100 * start / max(bracket.n, 1), "width": 100 * count / max(bracket.n, 1)}
            for (kind, count), start in zip(parts, starts, strict=True)
        ],
        "by": " then ".join(bracket.certifiers),
        "seconds": bracket.seconds / max(bracket.n, 1),
        "contradictions": len(bracket.contradictions),
    }


def _grade_context(study: Study, model: str) -> dict[str, Any] | None:
    """Grade and answers of the checks, the worst first; None where nothing was checked."""
    report = study.grades.get(model)
    if report is None:
        return None
    order = ("issue", "warning", "open", "passed", "not applicable")
    answers = sorted(report.answers, key=lambda a: order.index(a.level) if a.level in order else 0)
    counts = {level: sum(a.level == level for a in answers) for level in order}
    return {
        "grade": report.grade,
        "why": ", ".join(report.why),
        "rests_on": report.rests_on or "what its checks have come to",
        "raised_by": report.raised_by,
        "counts": counts,
        "doubts": [a for a in answers if a.level in ("issue", "warning")],
        "rest": [a for a in answers if a.level not in ("issue", "warning")],
    }


def _sentence(verdict: Verdict) -> str:
    if not verdict.robust.n:
        return "No sample was reached by every attack, so there is no verdict."
    attacks = {1: "the attack", 2: "both attacks"}.get(len(verdict.cells), f"all {len(verdict.cells)} attacks")
    clean = f" ({verdict.clean.count} clean)" if verdict.clean.n == verdict.robust.n else ""
    count = verdict.by_certifiers
    more = f" and the images of certifiers ({count} more broken)" if count else ""
    return (
        f"Correct on {verdict.robust.count} of {verdict.robust.n} images under {attacks}{more}{clean}."
        f"{_unknown(verdict)}"
    )


def _unknown(verdict: Verdict) -> str:
    """The accuracy if undecided samples were robust; empty if there are none."""
    share, count = verdict.robust, verdict.robust.unknown
    if not count or share.most is None:
        return ""
    return (
        f" {count} came out invalid, raised an error or could not be attacked: if they were robust, it would be "
        f"{100 * share.most:.1f} %; the interval covers both."
    )


def _budgets(study: Study, verdict: Verdict) -> list[dict[str, Any]]:
    """The worst case at each budget, where there are several."""
    rows = []
    for budget, budget_verdict in by_budget(study, verdict.model).items():
        low, high = budget_verdict.robust.interval
        rows.append(
            {
                "budget": budget,
                "attacks": len(budget_verdict.cells),
                "robust": budget_verdict.robust.value,
                "n": budget_verdict.robust.n,
            }
            | {"low": low, "high": high, "counts": budget in study.headline or not study.headline}
        )
    return rows if len(rows) > 1 else []


def _curve_context(curve: Curve, key: str) -> dict[str, Any]:
    eps = sorted({eps for line in curve.lines for eps, _ in line.points})
    curve_lines = [
        (line.model, line.series, dict(line.points), [dict(line.certified).get(e) for e in eps]) for line in curve.lines
    ]
    return {
        "name": curve.name,
        "svg": Markup(draw(curve, key)),  # noqa: S704 (matplotlib's drawing of numbers; its label is escaped)
        "eps": eps,
        "lines": [
            {"model": model, "series": series, "shares": [points.get(e) for e in eps], "certified": sure}
            for model, series, points, sure in curve_lines
        ],
    }
