"""A study's extras: claims of papers and answers of diagnostics."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.store.judged_claims import ClaimResult, judge_claims
from assay.store.ledger import Ledger
from assay.store.results import Study

if TYPE_CHECKING:
    from assay.diagnostics.answer import Answer


@dataclass(frozen=True)
class DiagnosticResult:
    """One answer of a diagnostic.

    Attributes:
        key: unique on the page, letters and dashes.
        title: heading.
        question: what was asked.
        verdict: the answer in a sentence.
        figures: ``<svg>`` elements made by `assay.report.diagnosis_page.figure_to_svg`.
        frame: one record a row.
        kept: where the full table is stored.
    """

    key: str
    title: str
    question: str
    verdict: str
    figures: tuple[str, ...]
    frame: tuple[Mapping[str, Any], ...]
    kept: str = ""


@dataclass(frozen=True)
class StudyExtras:
    """A study's text, claims and diagnostic answers.

    Attributes:
        about: what it is about, in a few sentences.
        claims: of a paper.
        diagnostics: answers of diagnostics.
    """

    about: str = ""
    claims: tuple[ClaimResult, ...] = ()
    diagnostics: tuple[DiagnosticResult, ...] = ()


def extras_of(ledger: Ledger, studies: tuple[Study, ...]) -> StudyExtras:
    """A study's text, claims and diagnostic answers."""
    over = ledger.meta("answers_over") or {}
    answers = [
        {**result, "over": over.get(key)}
        for key in ledger.meta("answers") or ()
        if (result := ledger.answer(key)) is not None
    ]
    used = {cell.data for cell, _ in ledger.plan()}
    names = [about["name"] for digest, about in ledger.data().items() if digest in used]
    by_data = dict(zip(names, studies, strict=True))
    asked_about: dict[str, set[str | None]] = {}
    for answer in answers:
        asked_about.setdefault(answer["name"], set()).add(answer["over"])
    diagnostics = tuple(
        DiagnosticResult(
            f"answer-{i + 1}",
            f"{a['title']}: {a['over']}" if len(asked_about[a["name"]]) > 1 and a["over"] else a["title"],
            a["question"],
            a["verdict"],
            tuple(a["figures"]),
            tuple(a["frame"]),
            "the ledger",
        )
        for i, a in enumerate(answers)
    )
    claims = judge_claims(ledger.meta("claims") or (), by_data, answers, ledger.meta("attacks_of_claims"))
    return StudyExtras(ledger.meta("about") or "", claims, diagnostics)


def finite_rows(answer: "Answer") -> list[dict[str, Any]]:
    """An answer's records as JSON can hold them: None for what is not finite."""
    return [
        {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}
        for row in answer.frame()
    ]
