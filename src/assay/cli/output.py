"""What the commands print: results to standard output, everything else to standard error."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from assay.util.progress import StageCallback
from assay.util.text import plain

_LONGEST = 4000


def print_line(text: str) -> None:
    """A line of a result. Control characters are taken out: names come from files."""
    sys.stdout.write(_clean(text) + "\n")
    sys.stdout.flush()


def print_note(text: str) -> None:
    """A line beside the result."""
    sys.stderr.write(_clean(text) + "\n")
    sys.stderr.flush()


def print_error(text: str) -> None:
    """What went wrong, in a sentence."""
    print_note(f"assay: {text}")


def print_json(value: Any) -> None:
    """A result for a machine: strict JSON."""
    sys.stdout.write(json.dumps(value, indent=1, allow_nan=False, sort_keys=True) + "\n")
    sys.stdout.flush()


def print_table(rows: Sequence[Sequence[str]], head: Sequence[str]) -> None:
    """Rows under a head, in columns; plain text where there is no terminal."""
    rows = [[_clean(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        widths = [max(len(r[i]) for r in (head, *rows)) for i in range(len(head))]
        for row in (head, *rows):
            print_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in head:
        table.add_column(title)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _clean(text: str) -> str:
    return "\n".join(plain(line, _LONGEST) if line.strip() else "" for line in text.split("\n"))


def progress_printer(quiet: bool) -> StageCallback:
    """Progress on one line of a terminal: what is being done, how much of it is done, of how much."""

    def report(what: str, done: int, of: int) -> None:
        if not quiet and sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{_clean(what)}: {done} of {of}" + ("\r\033[K" if done == of else ""))
            sys.stderr.flush()

    return report


def command_line(command: str, positional: Sequence[str], flags: Mapping[str, Any]) -> str:
    """The command that does the same again: flags that were not given (None) are left out, lists are repeated."""
    arguments = [
        word
        for flag, value in flags.items()
        for item in (value if isinstance(value, list) else [value])
        if item is not None
        for word in ((flag,) if item is True else (flag, str(item)))
    ]
    return shlex.join(["assay", command, *positional, *arguments])
