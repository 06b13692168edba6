"""Numbers and budgets as people write them."""

import math
import re
from fractions import Fraction
from typing import NoReturn

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_LONGEST = 64
"""Characters of a number at most."""


def parse_number(text: str) -> float:
    """A finite decimal number or fraction.

    Args:
        text: ``"0.03"``, ``"8/255"`` or ``"1e-3"``, in ASCII.

    Returns:
        The number; never a negative zero.

    Raises:
        ValueError: anything else, a division by zero, or a number that float64 rounds to 0 or to infinity.

    Example:
        >>> parse_number("8/255") == 8 / 255
        True
        >>> parse_number("1e309")
        Traceback (most recent call last):
        ValueError: expected a number or a fraction such as 8/255, got '1e309', which is too large
    """
    parts = [part.strip() for part in text.split("/")]
    if len(text) > _LONGEST or len(parts) > 2 or not all(_DECIMAL.fullmatch(part) for part in parts):
        _refuse(text)
    if any(not math.isfinite(float(part)) for part in parts):
        _refuse(text, ", which is too large")
    if any(not float(part) and re.search("[1-9]", part.lower().partition("e")[0]) for part in parts):
        _refuse(text, ", which is too small")
    above, below = _exact(parts[0]), _exact(parts[-1]) if len(parts) == 2 else Fraction(1)
    if not below:
        _refuse(text, ", which divides by zero")
    try:
        value = float(above / below)
    except OverflowError:
        _refuse(text, ", which is too large")
    return value if value or not above else _refuse(text, ", which is too small")


def parse_whole(text: str) -> int:
    """A whole number, exactly; ``"1e3"``, ``"5.0"`` and ``"10/2"`` are whole.

    Args:
        text: as in `parse_number`.

    Raises:
        ValueError: not a number, or not a whole one.

    Example:
        >>> parse_whole("1e3"), parse_whole("12345678901234567890")
        (1000, 12345678901234567890)
    """
    parse_number(text)
    above, _, below = text.partition("/")
    exact = _exact(above.strip()) / (_exact(below.strip()) if below.strip() else 1)
    if exact.denominator != 1:
        raise ValueError(f"expected a whole number, got {text!r}")
    return int(exact)


def format_budget(eps: float) -> str:
    """A budget as people write it: ``8/255`` where it is a whole number of 255ths, else its shortest decimal.

    Example:
        >>> format_budget(8 / 255), format_budget(0.5), format_budget(0)
        ('8/255', '0.5', '0')
    """
    steps = eps * 255
    if float(f"{eps:.3g}") != eps and abs(steps - round(steps)) < 1e-6:
        return f"{round(steps)}/255"
    return f"{eps:.6g}"


def _exact(text: str) -> Fraction:
    """The fraction that a decimal number is; zero whatever its exponent."""
    return Fraction(text) if float(text) else Fraction(0)


def _refuse(text: str, reason: str = "") -> NoReturn:
    shown = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    raise ValueError(f"expected a number or a fraction such as 8/255, got {shown!r}{reason}") from None
