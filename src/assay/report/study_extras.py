"""Template rows for claims and diagnostic answers."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from assay.report.svg import is_safe_svg
from assay.store.judged_claims import ClaimResult
from assay.store.study_extras import DiagnosticResult
from assay.util.text import plain

SHOWN = 60
"""Most rows of a table on the page."""


def claim_rows(claims: Sequence[ClaimResult]) -> list[dict[str, Any]]:
    """Claims, ready for the template."""
    return [
        {
            "says": plain(c.says, 600),
            "source": plain(c.source, 300),
            "theirs": plain(c.theirs, 200),
            "ours": plain(c.ours, 200),
            "interval": plain(c.interval, 100),
            "verdict": plain(c.verdict, 60),
            "threshold": plain(c.threshold, 100),
            "note": plain(c.note, 900) if c.note else "",
        }
        for c in claims
    ]


def diagnostic_rows(diagnostics: Sequence[DiagnosticResult]) -> list[dict[str, Any]]:
    """Findings, ready for the template."""
    return [
        {
            "key": f.key,
            "title": plain(f.title),
            "question": plain(f.question),
            "verdict": plain(f.verdict, 900),
            "count": len(f.frame),
            "kept": f.kept or f"{f.key}.json",
            "columns": [plain(str(c)) for c in f.frame[0]] if f.frame else [],
            "figures": [Markup(figure) for figure in f.figures if is_safe_svg(figure)],  # noqa: S704 (checked)
            "rows": [[_cell(v) for v in row.values()] for row in f.frame[:SHOWN]],
        }
        for f in diagnostics
    ]


def _cell(value: Any) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else plain(str(value))
