"""Grades from check results."""

from collections.abc import Mapping
from dataclasses import dataclass

from assay.trust.answer import DECIDED, CheckResult, Level, worst_result
from assay.trust.registry import CHECKS

GRADES = ("unusable", "weak", "standard", "strong")
"""From bad to good. No source defines this ladder; it is our proposal (docs/trust.md)."""

STANDARD = tuple(
    name
    for name in CHECKS
    if name[0] in "AB" or name in ("C1", "C2", "C3", "C4", "C5", "C6", "C8", "C9", "C10", "C14", "C15", "D6", "E4")
)
STRONG = ("C7", "C11", "C12", "D1", "D1b", "D2", "D3", "D4", "D5", "E3", "E6")
BASELINES = ("C4", "C5", "C6")
"""Of these at least one must have had something to compare: attacks without a budget are compared with nothing."""
MUST_PASS = ("C11", "C12")
"""For ``strong``, these must pass."""


@dataclass(frozen=True)
class Grade:
    """A grade of the evidence for a robust accuracy.

    Attributes:
        grade: one of `GRADES`.
        why: the checks that keep it from the next better one.
    """

    grade: str
    why: tuple[str, ...]


def grade(results: Mapping[str, tuple[CheckResult, ...]]) -> Grade:
    """Grade an evaluation.

    Args:
        results: as returned by `run_checks`.

    Returns:
        ``unusable`` if a check has found that the number is not about what it claims; ``weak`` if one has found that it
        may well be too high, or if one of those that look for that could not be answered; ``standard`` if none has;
        ``strong`` if the planted vulnerabilities are found, the attack works where the answer is known, and a defence
        was attacked as it asks for.

    Example:
        >>> from assay.trust.answer import issue
        >>> grade({"A4": (issue("probabilities"),)})
        Grade(grade='unusable', why=('A4',))
    """
    verdicts = {name: worst_result(answers) for name, answers in results.items() if answers}
    issues = tuple(name for name, answer in verdicts.items() if answer.level is Level.ISSUE)
    if issues:
        return Grade("unusable", issues)
    doubts = tuple(name for name, answer in verdicts.items() if answer.level is Level.WARNING)
    unasked = tuple(name for name in STANDARD if _is_open(verdicts.get(name)))
    baselines = [verdicts[name] for name in BASELINES if name in verdicts]
    compared = [a for a in baselines if a.level not in (Level.NOT_APPLICABLE, Level.OPEN) or a.text == DECIDED]
    alone = () if compared else BASELINES
    if doubts or unasked or alone:
        return Grade("weak", tuple(dict.fromkeys((*doubts, *unasked, *alone))))
    short = tuple(
        name
        for name in STRONG
        if _is_open(verdicts.get(name)) or (name in MUST_PASS and verdicts[name].level is not Level.PASSED)
    )
    return Grade("standard", short) if short else Grade("strong", ())


def _is_open(answer: CheckResult | None) -> bool:
    return answer is None or (answer.level is Level.OPEN and answer.text != DECIDED)
