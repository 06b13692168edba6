"""C16: what all rivals break together, each of which may be let pass alone."""

from collections.abc import Mapping

from assay.trust.answer import DECIDED, CheckResult, Level, inconclusive, not_applicable, passed, warning
from assay.trust.effort import GAIN

RIVALS = ("C4", "C5", "C6", "C7", "C8", "C13", "C14", "C15", "C17")
"""Checks that attack what the evaluation's attacks have left; each gives the samples that it breaks."""


def together(answers: Mapping[str, tuple[CheckResult, ...]]) -> CheckResult:
    """C16: rivals together find no more than one alone may.

    A single sample of 64 that a rival breaks is let pass: attacks are random. Several rivals that break one each, and
    not the same, are several samples.

    Args:
        answers: of the rivals, by name; of those that were left out none.
    """
    by_rival = {
        name: {sample for answer in answers.get(name, ()) for sample in answer.samples}
        for name in RIVALS
        if any(answer.level in (Level.PASSED, Level.WARNING) for answer in answers.get(name, ()))
    }
    unasked = {answer.text for name in RIVALS for answer in answers.get(name, ()) if answer.level is Level.OPEN}
    if not by_rival and unasked:
        return inconclusive(DECIDED if DECIDED in unasked else "no rival could be asked")
    if not by_rival:
        return not_applicable("no rival has attacked what was left")
    samples = tuple(sorted(set().union(*by_rival.values())))
    n = max((_out_of(answer) for name in by_rival for answer in answers[name]), default=0)
    if not samples or not n:
        return passed(f"{', '.join(by_rival)} break nothing that was left", 0.0, GAIN)
    share, threshold = len(samples) / n, max(GAIN, 1.5 / n)
    who = [name for name, broken in by_rival.items() if broken]
    verb = "break" if len(who) > 1 else "breaks"
    text = f"{' and '.join(who)} {verb} {len(samples)} of {n} samples that every attack had left"
    if share > threshold:
        return warning(f"{text}: the number is too high by these at least", share, threshold, samples)
    return passed(text, share, threshold, samples)


def _out_of(answer: CheckResult) -> int:
    """Of how many samples an answer's share is, where it has broken any."""
    return round(len(answer.samples) / answer.value) if answer.samples and answer.value else 0
