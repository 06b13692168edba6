"""Sanitise untrusted text, and format numbers for reports."""

import math
import unicodedata

_LONGEST = 120
_GAP = "\N{REPLACEMENT CHARACTER}"
# Marks that reorder the text around them, and so can make a name read as another one.
_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
_DIGITS = 3


def plain(text: object, longest: int = _LONGEST, *, lines: bool = False) -> str:
    r"""Strip what is not meant to be seen and shorten what is too long.

    Control characters and marks that change the direction of writing are removed, unpaired surrogates are replaced.
    Markup is left as it is: escaping belongs to the template.

    Args:
        text: anything; shown by ``str``.
        longest: characters to keep; longer text loses its middle.
        lines: whether line breaks stay (a command) or become spaces (a name).

    Returns:
        Text that can be encoded as UTF-8; ``"–"`` if nothing is left.

    Example:
        >>> plain("cat\x00\u202e\ndog")
        'cat dog'
        >>> plain("abcdefgh", longest=5)
        'ab…gh'
    """
    kept = "".join(_kept(c, lines) for c in str(text)).strip()
    if len(kept) > longest:
        half = longest // 2
        kept = kept[: longest - half - 1] + "…" + kept[-half:]
    return kept or "–"


def _kept(character: str, lines: bool) -> str:
    if character == "\n" and lines:
        return "\n"
    if character in "\t\n\r\v\f\x85\u2028\u2029":
        return " "
    if character in _REORDERING:
        return ""
    kind = unicodedata.category(character)
    if kind == "Cc":
        return ""
    return _GAP if kind in ("Cs", "Cn") else character


def distinct(texts: tuple[str, ...]) -> dict[str, str]:
    r"""What to show for each name, so that different names stay different after cleaning.

    Args:
        texts: names as given, repeats allowed.

    Returns:
        The shown name by given name.

    Example:
        >>> distinct(("a", "a\x00", "b"))
        {'a': 'a', 'a\x00': 'a (2)', 'b': 'b'}
    """
    shown: dict[str, str] = {}
    used: set[str] = set()
    for text in texts:
        if text in shown:
            continue
        base = name = plain(text)
        count = 1
        while name in used:
            count += 1
            name = f"{base} ({count})"
        shown[text] = name
        used.add(name)
    return shown


def percent(share: float | None) -> str:
    r"""A share as a percentage with one decimal; ``"–"`` for none.

    Example:
        >>> percent(0.125), percent(None)
        ('12.5\xa0%', '–')
    """
    return "–" if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def compact(value: float | None) -> str:
    r"""A number in three significant digits without an exponent where that reads well; ``"–"`` for none.

    Example:
        >>> compact(1234.4), compact(0.0312), compact(40.0), compact(None)
        ('1\u202f234', '0.0312', '40', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{value:.{_DIGITS}g}"


def levels(value: float | None) -> str:
    """A distance in input units as 8-bit grey levels, the way budgets are written.

    Args:
        value: a number in input units ([0, 1]).

    Returns:
        ``"8/255"``, ``"7.5/255"``; ``"–"`` for none.

    Example:
        >>> levels(8 / 255), levels(0.03), levels(0.0)
        ('8/255', '7.65/255', '0')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    grey = 255 * value
    near = round(grey)
    if near and abs(grey - near) < 1e-4:
        return f"{near}/255"
    short = f"{grey:.{_DIGITS}g}"
    return f"{grey:.6g}/255" if float(short) == near else f"{short}/255"  # 0.03137 is not 8/255


def finite(value: float) -> float | None:
    """The value, or None where there is none (JSON has no word for it).

    Example:
        >>> finite(0.5), finite(float("inf"))
        (0.5, None)
    """
    return float(value) if math.isfinite(value) else None


def format_time(seconds: float) -> str:
    """A time for people, in its largest unit.

    Example:
        >>> format_time(7.4), format_time(300), format_time(9_000), format_time(400_000), format_time(float("nan"))
        ('7 s', '5 min', '2.5 h', '4.6 d', '–')
    """
    if not math.isfinite(seconds):
        return "–"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 9.95 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def format_count(count: float) -> str:
    """A count for people: whole below a million, then to two digits.

    Example:
        >>> format_count(1_234), format_count(12_345_678), format_count(3.1e12), format_count(float("nan"))
        ('1,234', '12 million', '3.1e+12', '–')
    """
    if not math.isfinite(count):
        return "–"
    if count < 1e6:
        return f"{count:,.0f}"
    if count < 1e9:
        return f"{count / 1e6:.2g} million" if count < 1e8 else f"{count / 1e6:.0f} million"
    return f"{count / 1e9:.3g} billion" if count < 1e12 else f"{count:.2g}"
