"""From a study to one HTML file that needs nothing else."""

import base64
import hashlib
import os
import secrets
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from assay.core.outcome import Status
from assay.report.figures import Curve, curves, draw
from assay.report.gallery import gallery, slug
from assay.report.spread import by_class, distributions
from assay.report.study import Study, shown
from assay.report.table import table
from assay.report.text import compact, levels, percent
from assay.report.verdict import Verdict, summary, verdict, verdicts


def render(study: Study, *, cards: int | None = None) -> str:
    """Make the page.

    Args:
        study: what was measured. Its texts may hold anything; they are shown as text.
        cards: most images in the gallery; see `assay.report.choose`.

    Returns:
        One HTML document without references to anything outside it. Its content policy allows its own style sheet and
        script by their hashes, images from data, and nothing else.
    """
    told = shown(study)
    judged = verdicts(told)
    style, script = _part("report.css"), _part("report.js")
    page = _environment().get_template("report.html.j2")
    return page.render(
        policy=policy(style, script),
        style=Markup(style),  # noqa: S704 (our own file)
        script=Markup(script),  # noqa: S704 (our own file)
        study=told,
        n=len(told),
        shape=tuple(told.x.shape[1:]),
        judged=[_judged(told, v, i) for i, v in enumerate(judged)],
        table=table(told, judged),
        events=[(cell.model, cell.attack, event) for cell in told.cells for event in cell.outcome.events],
        curves=[_drawn(curve, f"curve{i}") for i, curve in enumerate(curves(told))],
        by_class=by_class(told, judged),
        distributions=distributions(told),
        gallery=gallery(told, cards),
        summary=summary(told),
    )


def write_report(study: Study, path: str | os.PathLike[str], *, cards: int | None = None) -> Path:
    """Write the page to a file, whole or not at all.

    Args:
        study: what was measured.
        path: the file, ``….html``; an existing one is replaced. Its folder must exist.
        cards: most images in the gallery; see `assay.report.choose`.

    Returns:
        The path.
    """
    target = Path(path)
    page = render(study, cards=cards).encode("utf-8")
    part = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return target


def policy(style: str, script: str) -> str:
    """The content policy of a page with one style sheet and one script.

    Args:
        style: text of the style element.
        script: text of the script element.

    Returns:
        The value of ``Content-Security-Policy``.
    """
    return (
        "default-src 'none'; img-src data:; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=PackageLoader("assay.report"),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "compact": compact, "levels": levels}
    # A NaN would make the embedded data invalid: better no page than a wrong one.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False}
    return environment


def _part(name: str) -> str:
    return files("assay.report").joinpath("templates", name).read_text(encoding="utf-8")


def _judged(study: Study, found: Verdict, series: int) -> dict[str, Any]:
    """One verdict, ready for the template."""
    total = len(study)
    counts = [(slug(s), s.label, found.counts[s.label]) for s in Status]
    starts = [sum(count for _, _, count in counts[:i]) for i in range(len(counts))]
    low, high = found.robust.interval
    return {
        "model": found.model,
        "series": series,
        "sentence": _sentence(found),
        "robust": found.robust.value,
        "low": low,
        "high": high,
        "n": found.robust.n,
        "clean": found.clean.value,
        "counts": [
            {"slug": kind, "label": label, "count": count}
            | {"start": 100 * start / max(total, 1), "width": 100 * count / max(total, 1)}
            for (kind, label, count), start in zip(counts, starts, strict=True)
        ],
        "passes": found.passes,
        "checks": found.checks,
        "skipped": [cell.attack for cell in found.skipped],
        "budgets": _budgets(study, found),
    }


def _sentence(found: Verdict) -> str:
    if not found.robust.n:
        return "No sample was reached by every attack, so there is no verdict."
    attacks = {1: "the one attack", 2: "both attacks"}.get(len(found.cells), f"all {len(found.cells)} attacks")
    before = f" Without an attack it was right on {found.clean.part}." if found.clean.n == found.robust.n else ""
    return f"Still right on {found.robust.part} of {found.robust.n} images after {attacks}.{before}"


def _budgets(study: Study, found: Verdict) -> list[dict[str, Any]]:
    """The worst case at each budget, where there are several."""
    budgets = dict.fromkeys(cell.budget for cell in study.of(found.model))
    if len(budgets) < 2:
        return []
    rows = []
    for budget in budgets:
        part = verdict(found.model, tuple(c for c in study.of(found.model) if c.budget == budget), len(study))
        low, high = part.robust.interval
        rows.append(
            {"budget": budget, "attacks": len(part.cells), "robust": part.robust.value, "n": part.robust.n}
            | {"low": low, "high": high, "counts": budget in study.headline or not study.headline}
        )
    return rows


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
