"""Results of checks: CheckResult, Level, and constructors."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """Severity of a check result."""

    ISSUE = "issue"
    """The number is not about what it claims to be about."""
    WARNING = "warning"
    """The number may well be too high."""
    OPEN = "open"
    """The check applies but could not be run or decided; this is not a pass."""
    PASSED = "passed"
    """Nothing was found."""
    NOT_APPLICABLE = "not applicable"
    """The check does not apply."""


SKIPPED = "skipped: it reruns attacks"
DECIDED = "left out: the grade is decided without it (--checks all asks it)"
"""The text of a check that reruns attacks and was skipped."""


@dataclass(frozen=True)
class CheckResult:
    """The answer of a check.

    Attributes:
        level: how bad it is.
        text: a sentence: what was found, and what to do about it.
        value: the number that decided, where there is one.
        threshold: the limit that it was compared with.
        samples: the samples that it is about, by index in the data.
        about: the attack that it is about; empty for the model.
        failed: whether it is open because the check raised an exception; it may be run again.
    """

    level: Level
    text: str
    value: float | None = None
    threshold: float | None = None
    samples: tuple[int, ...] = ()
    about: str = ""
    failed: bool = False


def passed(
    text: str,
    value: float | None = None,
    threshold: float | None = None,
    samples: tuple[int, ...] = (),
    about: str = "",
) -> CheckResult:
    """Nothing was found, or so few samples that it does not matter."""
    return CheckResult(Level.PASSED, text, value, threshold, samples, about)


def warning(
    text: str,
    value: float | None = None,
    threshold: float | None = None,
    samples: tuple[int, ...] = (),
    about: str = "",
) -> CheckResult:
    """The number may well be too high."""
    return CheckResult(Level.WARNING, text, value, threshold, samples, about)


def issue(
    text: str,
    value: float | None = None,
    threshold: float | None = None,
    samples: tuple[int, ...] = (),
    about: str = "",
) -> CheckResult:
    """The number is not about what it claims to be about."""
    return CheckResult(Level.ISSUE, text, value, threshold, samples, about)


def inconclusive(text: str, about: str = "") -> CheckResult:
    """The check could not be decided."""
    return CheckResult(Level.OPEN, text, about=about)


def failed(text: str, about: str = "") -> CheckResult:
    """The check raised an exception, or its worker was lost."""
    return CheckResult(Level.OPEN, f"could not be carried out: {text}", about=about, failed=True)


def not_applicable(text: str) -> CheckResult:
    """The check does not apply."""
    return CheckResult(Level.NOT_APPLICABLE, text)


def worst_result(results: tuple[CheckResult, ...]) -> CheckResult:
    """The worst of several answers of one check; of equal ones the first."""
    order = [Level.ISSUE, Level.WARNING, Level.OPEN, Level.PASSED, Level.NOT_APPLICABLE]
    return min(results, key=lambda result: order.index(result.level))
