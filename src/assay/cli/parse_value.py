"""Convert command-line arguments to values."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import Token, convert

from assay.util.parse import format_budget, parse_number
from assay.util.validate import one_of, reject

_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]{0,18})")


def read_value(kind: Any, tokens: Sequence[Token]) -> Any:
    """A value from the words that were typed for a flag.

    Whole numbers are digits and nothing else (``1.5`` would be rounded, ``010`` and ``0x10`` read as something else),
    numbers are finite and may be fractions (``8/255``), a tuple is separated by commas, paths are not empty.

    Args:
        kind: the type that the command asks for.
        tokens: the words.

    Raises:
        ValueError: a word that is no such value; the message names the flag.
    """
    kind = plain_kind(kind)
    flag = tokens[0].keyword or ("path" if kind is Path else "argument") if tokens else ""
    if get_origin(kind) is tuple:
        parts = [part.strip() for token in tokens for part in token.value.split(",")]
        if "" in parts:
            reject(flag, "values separated by commas", ",".join(token.value for token in tokens))
        return tuple(read_value(get_args(kind)[0], [tokens[0].evolve(value=part)]) for part in parts)
    for token in tokens:
        if kind is int and not _WHOLE.fullmatch(token.value):
            reject(flag, "a whole number of at most 19 digits", token.value)
        if kind is Path and not token.value.strip():
            reject(flag, "a path, such as runs/new", token.value)
        if get_origin(kind) is Literal:
            return one_of(flag, token.value, get_args(kind))
    return _number(flag, tokens[-1].value) if kind is float else convert(kind, tokens)


def plain_kind(kind: Any) -> Any:
    """The type without its annotations, and without None."""
    if get_origin(kind) is Annotated:
        return plain_kind(get_args(kind)[0])
    members = [member for member in get_args(kind) if member is not type(None)]
    return plain_kind(members[0]) if get_origin(kind) in (Union, UnionType) and len(members) == 1 else kind


def _number(flag: str, text: str) -> float:
    try:
        value = parse_number(text)
    except (ValueError, OverflowError):
        return reject(flag, "a number or a fraction such as 8/255", text)
    return value if math.isfinite(value) else reject(flag, "a finite number", text)


def format_default(value: Any) -> str | None:
    """A default as it would be typed; None for one that says nothing.

    Example:
        >>> format_default(8 / 255), format_default((4, 8)), format_default(())
        ('8/255', '4,8', None)
    """
    if isinstance(value, tuple):
        return ",".join(str(format_default(item)) for item in value) or None
    if value is None or value == "" or value is False:
        return None
    return format_budget(value) if isinstance(value, float) else str(value)
