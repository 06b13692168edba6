"""The numbers of studies as plain data."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from assay.store.ledger import Ledger
from assay.store.load_report import studies_of
from assay.store.results import Study, as_studies
from assay.store.study_extras import StudyExtras, extras_of
from assay.store.verdict import Share, brackets, by_budget, passes, robust_share, verdicts
from assay.util.text import finite


def summarise(studies: Study | Sequence[Study]) -> dict[str, Any]:
    """The numbers of one study or several as plain data that strict JSON can hold (None where there is no number).

    Args:
        studies: one study, or a sequence of them.

    Returns:
        Of one study ``title``, ``dataset``, ``n`` samples, ``headline``, ``warnings``, ``facts``, ``command``;
        ``models``: the verdict of each, and ``budgets``, the worst case at each claimed budget alone; ``cells``: each
        attack on each model; with certificates ``certificates``, and of each model ``broken_by_certifiers``, samples
        that no attack broke and a certifier did. A verdict and a cell hold ``n`` (samples that were run), ``counts``
        (all six), ``robust_accuracy``, ``readings`` (samples of which nothing is known read as broken, and as robust),
        ``interval`` (exact, 95 %, over both readings; None with ``n`` 0), ``clean_accuracy`` and ``passes`` (forward
        and backward passes per sample). Of a sequence, whatever its length,
        ``studies``: that of each.

    Raises:
        TypeError: something that is not a study.
        ValueError: an empty sequence.
    """
    if isinstance(studies, Study):
        return _summary(studies)
    return {"studies": [_summary(study) for study in as_studies(studies)]}


def _summary(study: Study) -> dict[str, Any]:
    return {
        "title": study.title,
        "dataset": study.dataset,
        "n": len(study),
        "headline": list(study.headline),
        "models": [
            {"model": v.model, "attacks": [cell.attack for cell in v.cells]}
            | {"skipped": [cell.attack for cell in v.skipped]}
            | ({"broken_by_certifiers": v.by_certifiers} if study.certificates else {})
            | _numbers(v.robust, v.counts, v.clean.value, v.passes)
            | {"budgets": _budgets(study, v.model)}
            | _grade(study, v.model)
            for v in verdicts(study)
        ],
        "cells": [
            {"model": cell.model, "attack": cell.attack, "family": cell.family, "budget": cell.budget}
            | {"eps": None if cell.eps is None else float(cell.eps), "curve": cell.curve}
            | _numbers(
                robust_share(cell.outcome),
                cell.outcome.counts,
                finite(cell.outcome.clean_accuracy),
                passes(cell.outcome),
            )
            | {"seconds": finite(cell.outcome.seconds), "events": list(cell.outcome.events)}
            for cell in study.cells
        ],
        **_certified(study),
        "warnings": list(study.warnings),
        "command": study.command,
        "facts": {str(name): str(value) for name, value in study.facts.items()},
    }


def _certified(study: Study) -> dict[str, Any]:
    """Both ends of each model's robust accuracy, where any was certified."""
    if not study.certificates:
        return {}
    return {
        "certificates": [
            {
                "model": bracket.model,
                "budget": bracket.budget,
                "certifiers": list(bracket.certifiers),
                "n": bracket.n,
                "certified": bracket.certified,
                "possible": bracket.possible,
                "open": bracket.open,
                "certified_accuracy": None if bracket.ends is None or bracket.fault else bracket.ends[0],
                "possible_accuracy": None if bracket.ends is None else bracket.ends[1],
                "interval": list(bracket.interval) if bracket.n else None,
                "closed": bracket.is_closed,
                "contradictions": list(bracket.contradictions),
                "seconds": bracket.seconds,
                "fault": bracket.fault,
            }
            for bracket in brackets(study)
        ]
    }


def _budgets(study: Study, model: str) -> list[dict[str, Any]]:
    """The worst case at each budget that is claimed, alone."""
    return [
        {
            "budget": budget,
            "n": v.robust.n,
            "robust_accuracy": v.robust.value,
            "interval": list(v.robust.interval) if v.robust.n else None,
            "attacks": [cell.attack for cell in v.cells],
        }
        for budget, v in by_budget(study, model).items()
        if budget in study.headline or not study.headline
    ]


def _grade(study: Study, model: str) -> dict[str, Any]:
    report = study.grades.get(model)
    if report is None:
        return {"grade": None}
    doubts = [
        {"check": a.check, "level": a.level, "text": a.text, "about": a.about}
        for a in report.answers
        if a.level in ("issue", "warning")
    ]
    return {"grade": {"grade": report.grade, "why": list(report.why), "doubts": doubts}}


def _numbers(robust: Share, counts: dict[str, int], clean: float | None, cost: float | None) -> dict[str, Any]:
    return {
        "n": robust.n,
        "counts": counts,
        "robust_accuracy": robust.value,
        "readings": [robust.value, robust.most] if robust.n else None,
        "interval": list(robust.interval) if robust.n else None,
        "clean_accuracy": clean,
        "passes": cost,
    }


def with_errors(summary: dict[str, Any], errors: int, first: str) -> dict[str, Any]:
    """A summary that says on how many samples a model raised an exception, where it did on any."""
    return summary | {"errors": {"samples": errors, "first": first}} if errors else summary


def summary_text(folder: Path, ledger: Ledger) -> str:
    """The content of ``summary.json``, from the ledger."""
    studies = studies_of(folder, ledger)
    return to_json(summary_of(ledger, studies, extras_of(ledger, studies)))


def summary_of(ledger: Ledger, studies: tuple[Study, ...], extras: StudyExtras) -> dict[str, Any]:
    """The content of ``summary.json`` as plain data."""
    summary = summarise(studies[0] if len(studies) == 1 else studies)
    summary |= {"claims": [asdict(claim) for claim in extras.claims]} if extras.claims else {}
    return with_errors(summary, *errors_of(ledger))


def errors_of(ledger: Ledger) -> tuple[int, str]:
    """How many samples of the plan raised an exception, and the text of the first of them."""
    cell_ids = dict.fromkeys(cell.id for cell, _ in ledger.plan())
    texts = [text for cell_id in cell_ids for text in ledger.error_texts(cell_id)]
    return len(texts), texts[0] if texts else ""


def to_json(summary: dict[str, Any]) -> str:
    """Strict JSON: no NaN, no infinity."""
    return json.dumps(summary, indent=1, allow_nan=False)
