"""Grades from check results."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from assay.trust.answer import DECIDED, CheckResult, Level, worst_result
from assay.trust.registry import CHECKS

GRADES = ("unusable", "weak", "standard", "strong", "closed")
"""From bad to good. No source defines this ladder; it is our proposal (docs/trust.md). Checks lead as far as
``strong``; ``closed`` is what certificates add, which bound the accuracy from below."""

STANDARD = (
    *(name for name in CHECKS.entries if name[0] in "AB" and name != "B12"),
    *("C1", "C2", "C3", "C4", "C5", "C6", "C8", "C9", "C10", "C14", "C15", "C16", "C17", "D6", "E4"),
)
STRONG = ("C7", "C11", "C12", "D1", "D1b", "D2", "D3", "D4", "D5", "E3", "E6", "E8")
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


@dataclass(frozen=True)
class Basis:
    """A grade in words.

    Attributes:
        rests_on: what the grade rests on, a sentence.
        raised_by: what would raise it, a sentence.
    """

    rests_on: str
    raised_by: str


def basis(verdict: Grade, levels: Iterable[tuple[str, str]], *, skipped: bool = False) -> Basis:
    """What a grade rests on, and what would raise it.

    Args:
        verdict: the grade.
        levels: name of the check and level of each answer.
        skipped: whether checks that rerun attacks were left out.

    Example:
        >>> basis(Grade("weak", ("B6",)), [("A1", "passed"), ("B6", "warning")]).rests_on
        '1 of 2 checks doubts the number: B6 (converged in steps)'
    """
    worst = dict(sorted(levels, key=lambda pair: _ORDER.index(pair[1]), reverse=True))
    applicable = {name for name, level in worst.items() if level != "not applicable"}
    named = ", ".join(f"{name} ({CHECKS[name].title})" for name in verdict.why if name in CHECKS)
    passed = sum(level == "passed" for level in worst.values())
    doubts = [name for name in verdict.why if worst.get(name) in ("warning", "issue")]
    if verdict.grade == "unusable":
        return Basis(f"the number is not about what it claims: {named}", "mend that and evaluate again")
    if verdict.grade == "weak" and doubts:
        verb = "doubts" if len(doubts) == 1 else "doubt"
        text = f"{len(doubts)} of {len(applicable)} checks {verb} the number: {named}"
        return Basis(text, "an evaluation that leaves none of these doubts; each answer says what to change")
    if verdict.grade == "weak":
        text = f"{passed} checks found nothing, but not all that is needed was answered"
        more = "the checks that rerun attacks (--checks full)" if skipped else f"an answer to {named}"
        return Basis(text, more)
    if verdict.grade == "standard":
        return Basis(f"{passed} checks found nothing", f"strong needs a pass of {named}")
    return Basis(
        f"{passed} checks found nothing, and the attacks find what was planted and what a linear model allows",
        "nothing more here: only a certificate bounds a robust accuracy from below",
    )


_ORDER = ("issue", "warning", "open", "passed", "not applicable")
