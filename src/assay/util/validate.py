"""Checks of arguments: one error that names the argument, what was expected, and what was given."""

import difflib
import math
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, NoReturn

from assay.util.parse import parse_number


def reject(name: str, expected: str, got: object, *, error: type[Exception] = ValueError) -> NoReturn:
    """Raise an argument error in the standard form.

    Args:
        name: the argument as the caller wrote it.
        expected: what would have been right, as a noun phrase.
        got: what was given; shown by ``repr``, shortened.
        error: the exception type.

    Raises:
        error: always.

    Example:
        >>> reject("eps", "a number that is at least 0", -1)
        Traceback (most recent call last):
        ValueError: eps: expected a number that is at least 0, got -1
    """
    shown = got if isinstance(got, _Plain) else repr(got)
    text = str(shown)
    raise error(f"{name}: expected {expected}, got {text if len(text) <= 200 else text[:197] + '...'}")


class _Plain(str):
    """Text that is shown without quotes."""

    __slots__ = ()


def described(text: str) -> str:
    """Mark a description (``a tensor of shape …``) so that `reject` shows it without quotes."""
    return _Plain(text)


def number(name: str, value: Any, *, least: float = -math.inf, most: float = math.inf, above: bool = False) -> float:
    """Return ``value`` as a float after checking that it is a finite number in ``[least, most]``.

    Args:
        name: the argument's name.
        value: the argument.
        least: the smallest value allowed (excluded with ``above=True``).
        most: the largest value allowed.
        above: whether ``least`` itself is refused.

    Returns:
        The value as a float.

    Raises:
        TypeError: not a real number.
        ValueError: not finite or out of range.

    Example:
        >>> number("eps", 0.5, least=0)
        0.5
    """
    bound = f"above {least:g}" if above else f"that is at least {least:g}"
    expected = "a finite number" if least == -math.inf else f"a finite number {bound}"
    if most != math.inf:
        expected += f" and at most {most:g}"
    if isinstance(value, bool) or not isinstance(value, Real):
        reject(name, expected, value, error=TypeError)
    result = float(value)
    if not math.isfinite(result) or result < least or result > most or (above and result == least):
        reject(name, expected, value)
    return result


def radius(name: str, value: Any, *, above: bool = False) -> float:
    """Return a budget as a number after checking that it is a finite number, or a fraction as text, at least 0.

    Args:
        name: the argument's name.
        value: a number, or text such as ``"8/255"``.
        above: whether 0 is refused.

    Raises:
        TypeError, ValueError: anything else.

    Example:
        >>> radius("eps", "8/255") == 8 / 255
        True
    """
    if isinstance(value, str):
        try:
            value = parse_number(value)
        except ValueError:
            reject(name, "a number, or a fraction such as '8/255'", value)
    return number(name, value, least=0, above=above)


def whole(name: str, value: Any, *, least: int = 0, most: int | None = None) -> int:
    """Return ``value`` as an int after checking that it is a whole number from ``least`` to ``most``.

    Raises:
        TypeError: not an integer.
        ValueError: too small, or too large.

    Example:
        >>> whole("steps", 3)
        3
    """
    expected = f"a whole number that is at least {least}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        reject(name, expected, value, error=TypeError)
    if int(value) < least:
        reject(name, expected, value)
    if most is not None and int(value) > most:
        reject(name, f"a whole number that is at most {most}", value)
    return int(value)


def one_of(name: str, value: Any, allowed: Collection[str]) -> str:
    """Return ``value`` after checking that it is one of ``allowed``.

    Raises:
        ValueError: some other value; the message lists the allowed ones and the nearest.

    Example:
        >>> one_of("norm", "l2", ("linf", "l2"))
        'l2'
    """
    if not isinstance(value, str) or value not in allowed:
        hint = nearest(value, allowed) if isinstance(value, str) else ""
        reject(name, "one of " + ", ".join(repr(a) for a in allowed), described(f"{value!r}{hint}"))
    return value


@contextmanager
def name_argument(name: str, inner: str = "") -> Iterator[None]:
    """Make the errors of a block name the argument that the caller wrote.

    Args:
        name: the argument as the caller wrote it.
        inner: the name that the block's errors give it; the caller's name replaces it. Any other text stays, with the
            caller's name before it.

    Raises:
        ValueError, FileNotFoundError: those of the block, renamed. Errors of the operating system pass unchanged.

    Example:
        >>> with name_argument("start", inner="model"):
        ...     reject("model", "a weights file", "a.txt")
        Traceback (most recent call last):
        ValueError: start: expected a weights file, got 'a.txt'
    """
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        text = str(error)
        if text.startswith((f"{name}:", f"{name} ")) or getattr(error, "filename", None) is not None:
            raise
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        rest = text.removeprefix(f"{inner}: ") if inner else text
        raise kind(f"{name}: {rest}") from error


def nearest(word: str, words: Collection[str]) -> str:
    """The end of a message, ``" (did you mean 'npz'?)"``, or nothing where no word is near."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def outside() -> int:
    """The ``stacklevel`` with which a warning of this package points at the line that called the package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("assay", "contextlib"):
        level, frame = level + 1, frame.f_back
    return level
