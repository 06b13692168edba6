"""Convert command-line arguments to values."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cyclopts import Token, convert

from assay.util.validate import reject

_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]{0,18})")


def read_value(kind: Any, tokens: Sequence[Token]) -> Any:
    """A value from the words that were typed for a flag.

    Whole numbers are digits and nothing else (``1.5`` would be rounded, ``010`` and ``0x10`` read as something else),
    numbers are finite, paths are not empty.

    Args:
        kind: the type that the command asks for.
        tokens: the words.

    Raises:
        ValueError: a word that is no such value; the message names the flag.
    """
    for token in tokens:
        flag = token.keyword or ("path" if kind is Path else "argument")
        if kind is int and not _WHOLE.fullmatch(token.value):
            reject(flag, "a whole number of at most 19 digits", token.value)
        if kind is float and not _is_finite(token.value):
            reject(flag, "a finite number", token.value)
        if kind is Path and not token.value.strip():
            reject(flag, "a path, such as runs/new", token.value)
    return convert(kind, tokens)


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
