"""Sentences and progress on standard error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from assay.util.progress import Reporter, no_note, no_progress, show_progress
from assay.util.text import plain

_LONGEST = 4000


def print_note(text: str) -> None:
    """A line beside the result. Control characters are taken out: names come from files."""
    sys.stderr.write(clean(text) + "\n")
    sys.stderr.flush()


def clean(text: str) -> str:
    """Lines without control characters, none longer than 4,000 characters."""
    return "\n".join(plain(line, _LONGEST) if line.strip() else "" for line in text.split("\n"))


@contextmanager
def console_reporter(*, quiet: bool = False, notes: bool = True) -> Iterator[Reporter]:
    """A reporter that writes to standard error: sentences as lines, progress as a bar or a line.

    Args:
        quiet: no progress.
        notes: whether sentences are shown.
    """
    with show_progress(quiet=quiet) as samples:
        yield Reporter(print_note if notes else no_note, samples, no_progress if quiet else _print_work)


def _print_work(what: str, done: int, of: int) -> None:
    """Progress on one line of a terminal: what is being done, how much of it is done, of how much."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{clean(what)}: {done} of {of}" + ("\r\033[K" if done == of else ""))
        sys.stderr.flush()
