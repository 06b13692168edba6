"""What the checks of a model have come to, as a run's ledger keeps it and as it is told."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from assay.trust.answer import DECIDED, SKIPPED, CheckResult, Level
from assay.trust.grading import basis, grade
from assay.trust.running import CheckRequest, by_check
from assay.util.progress import NoteCallback


def build_report(answers: Mapping[CheckRequest, CheckResult], *, fast: bool) -> dict[str, Any]:
    """The grade report as stored in the ledger: grade, reasons, results."""
    by_name = by_check(answers, fast=fast)
    verdict = grade(by_name)
    checks = [{"check": name, **to_json(answer)} for name, check_results in by_name.items() for answer in check_results]
    levels = [(check["check"], check["level"]) for check in checks]
    words = basis(verdict, levels, skipped=any(check["text"] == SKIPPED for check in checks))
    sentences = {**asdict(words), "rests_on": words.rests_on + _estimated(by_name)}
    return {"grade": verdict.grade, "why": list(verdict.why), "checks": checks, **sentences}


def _estimated(by_name: Mapping[str, tuple[CheckResult, ...]]) -> str:
    """What more passes would break, where the number comes from one attack; of several no one estimate is theirs."""
    answers = [answer for answer in by_name.get("B13", ()) if answer.value is not None]
    return f"; estimated: {answers[0].text}" if len(answers) == len(by_name.get("B13", ())) == 1 else ""


def is_complete(value: Any) -> bool:
    """Whether no result is missing; failed checks are run again."""
    return value is not None and not any(answer.get("failed") for answer in value["checks"])


def report_grade(name: str, report: Mapping[str, Any], note: NoteCallback) -> None:
    """Say the grade of a model, and what keeps it low."""
    why = f": {', '.join(report['why'])}" if report["why"] else ""
    note(f"{name}: evidence {report['grade']}{why}")
    if report.get("rests_on"):
        note(f"  {report['rests_on']}; what would raise it: {report['raised_by']}")
    for text in _reasons(report):
        note(f"  {text}")


def _reasons(report: Mapping[str, Any]) -> list[str]:
    """The worst result of each check that keeps the grade below standard; skipped checks are left out."""
    worst: dict[str, str] = {}
    for level in ("issue", "warning", "open"):
        for answer in report["checks"]:
            if (
                answer["level"] == level
                and answer["check"] in report["why"]
                and answer["text"] not in (SKIPPED, DECIDED)
            ):
                worst.setdefault(answer["check"], f"{answer['check']}: {answer['text']}")
    return list(worst.values()) if report["grade"] in ("unusable", "weak") else []


def to_json(result: CheckResult) -> dict[str, Any]:
    """A check result as JSON."""
    finite = result.value is None or abs(result.value) < float("inf")
    return {
        **asdict(result),
        "level": str(result.level),
        "samples": list(result.samples)[:50],
        "value": result.value if finite else None,
    }


def from_json(kept: Mapping[str, Any]) -> CheckResult:
    """The check result that `to_json` wrote."""
    return CheckResult(**{**kept, "level": Level(kept["level"]), "samples": tuple(kept["samples"])})
