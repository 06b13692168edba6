"""What the commands print: results to standard output, everything else to standard error."""

import inspect
import json
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from assay.util.console import clean, print_note
from assay.util.parse import format_budget, parse_number


def print_line(text: str) -> None:
    """A line of a result. Control characters are taken out: names come from files."""
    sys.stdout.write(clean(text) + "\n")
    sys.stdout.flush()


def print_error(text: str) -> None:
    """What went wrong, in a sentence."""
    print_note(f"assay: {text}")


def print_json(value: Any) -> None:
    """A result for a machine: strict JSON."""
    sys.stdout.write(json.dumps(value, indent=1, allow_nan=False, sort_keys=True) + "\n")
    sys.stdout.flush()


def print_table(rows: Sequence[Sequence[str]], head: Sequence[str]) -> None:
    """Rows under a head, in columns; plain text where there is no terminal."""
    rows = [[clean(cell) for cell in row] for row in rows]
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


def same_command(
    command: Callable[..., Any],
    values: Mapping[str, Any],
    *,
    without: Collection[str] = ("json", "quiet", "workers", "require", "fail_under"),
) -> str:
    """The command line that does the same again, with all that differs from its defaults.

    Args:
        command: the function of the command.
        values: of its parameters; the fields of a dataclass are options of their own.
        without: parameters that do not decide what is done.

    Example:
        >>> def attack(model, /, *, eps="8/255", fast=False): ...
        >>> same_command(attack, {"model": ["m.pt"], "eps": "4/255", "fast": True})
        'assay attack m.pt --eps 4/255 --fast'
    """
    words: list[str] = []
    for parameter in inspect.signature(command).parameters.values():
        value = values[parameter.name]
        if parameter.name in without:
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            words += map(str, value if isinstance(value, list) else [value])
        elif is_dataclass(value):
            for field in fields(value):
                words += _option(field.name, getattr(value, field.name), getattr(parameter.default, field.name))
        else:
            words += _option(parameter.name, value, parameter.default)
    return shlex.join(["assay", command.__name__, *words])


def _option(name: str, value: Any, default: Any) -> list[str]:
    """An option as it is typed; nothing where it has its default."""
    flag = "--" + name.strip("_").replace("_", "-")
    if value == default or value is None:
        return []
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, list):
        return [word for item in value for word in _pair(flag, str(item))]
    return _pair(flag, ",".join(map(_typed, value)) if isinstance(value, tuple) else _typed(value))


def _pair(flag: str, text: str) -> list[str]:
    """An option and its value; joined where the value would be taken for an option."""
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def _typed(value: Any) -> str:
    """A value as it is typed, exactly."""
    if not isinstance(value, float):
        return str(value)
    text = format_budget(value)
    return text if parse_number(text) == value else repr(value)
