"""What a study tells besides its attacks: claims of a paper, and answers of diagnostics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from assay.report.svg import harmless
from assay.report.text import plain

SHOWN = 60
"""Most rows of a table on the page."""


@dataclass(frozen=True)
class Claimed:
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


@dataclass(frozen=True)
class Finding:
    """One answer of a diagnostic.

    Attributes:
        key: unique on the page, letters and dashes.
        title: heading.
        question: what was asked.
        verdict: the answer in a sentence.
        figures: ``<svg>`` elements made by `assay.report.diagnosis.embedded`.
        frame: one record a row.
        kept: where all rows are.
    """

    key: str
    title: str
    question: str
    verdict: str
    figures: tuple[str, ...]
    frame: tuple[Mapping[str, Any], ...]
    kept: str = ""


@dataclass(frozen=True)
class Extras:
    """What a study tells besides its attacks.

    Attributes:
        about: what it is about, in a few sentences.
        claims: of a paper.
        findings: answers of diagnostics.
    """

    about: str = ""
    claims: tuple[Claimed, ...] = ()
    findings: tuple[Finding, ...] = ()


def claims_shown(claims: Sequence[Claimed]) -> list[dict[str, Any]]:
    """Claims, ready for the template."""
    return [{"says": plain(c.says, 600), "source": plain(c.source, 300), "theirs": plain(c.theirs, 200),
             "ours": plain(c.ours, 200), "holds": c.holds, "note": plain(c.note, 900) if c.note else ""}
            for c in claims]  # fmt: skip


def findings_shown(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings, ready for the template."""
    return [
        {"key": f.key, "title": plain(f.title), "question": plain(f.question), "verdict": plain(f.verdict, 900),
         "count": len(f.frame), "kept": f.kept or f"{f.key}.json",
         "columns": [plain(str(c)) for c in f.frame[0]] if f.frame else [],
         "figures": [Markup(figure) for figure in f.figures if harmless(figure)],  # noqa: S704 (looked through)
         "rows": [[_cell(v) for v in row.values()] for row in f.frame[:SHOWN]]}
        for f in findings
    ]  # fmt: skip


def _cell(value: Any) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else plain(str(value))
