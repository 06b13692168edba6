"""What a check says."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    ISSUE = "issue"
    """The number is not about what it claims to be about."""
    WARNING = "warning"
    """The number may well be too high."""
    OPEN = "open"
    """It could not be looked for, though there is something to be asked: no pass."""
    PASSED = "passed"
    """Nothing was found."""
    NOT_APPLICABLE = "not applicable"
    """There is nothing to be asked here."""


SKIPPED = "left out: it attacks anew"
"""What is said of a check that attacks anew, where that was not wanted."""


@dataclass(frozen=True)
class CheckResult:
    """The answer of a check.

    Attributes:
        level: how bad it is.
        text: a sentence: what was found, and what to do about it.
        value: the number that decided, where there is one.
        threshold: what it was held against.
        samples: the samples that it is about, by index in the data.
        about: the attack that it is about; empty for the model.
        failed: whether it is open because asking raised an exception: it may be asked again.
    """

    level: Level
    text: str
    value: float | None = None
    threshold: float | None = None
    samples: tuple[int, ...] = ()
    about: str = ""
    failed: bool = False


def passed(text: str, value: float | None = None, threshold: float | None = None, about: str = "") -> CheckResult:
    """Nothing was found."""
    return CheckResult(Level.PASSED, text, value, threshold, (), about)


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
    """It could not be looked for."""
    return CheckResult(Level.OPEN, text, about=about)


def failed(text: str, about: str = "") -> CheckResult:
    """Asking raised an exception, or lost its process."""
    return CheckResult(Level.OPEN, f"could not be carried out: {text}", about=about, failed=True)


def not_applicable(text: str) -> CheckResult:
    """There is nothing to be asked here."""
    return CheckResult(Level.NOT_APPLICABLE, text)


def worst_result(results: tuple[CheckResult, ...]) -> CheckResult:
    """The worst of several answers of one check; of equal ones the first."""
    order = [Level.ISSUE, Level.WARNING, Level.OPEN, Level.PASSED, Level.NOT_APPLICABLE]
    return min(results, key=lambda result: order.index(result.level))
