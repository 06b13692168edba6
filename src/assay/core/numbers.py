"""Numbers as people write budgets."""

from fractions import Fraction


def parse_number(text: str) -> float:
    """A decimal number or a fraction.

    Args:
        text: ``"0.03"``, ``"8/255"`` or ``"1e-3"``.

    Returns:
        The number.

    Raises:
        ValueError: anything else.

    Example:
        >>> parse_number("8/255") == 8 / 255
        True
    """
    try:
        above, slash, below = text.strip().partition("/")
        if slash and "/" not in below:
            return float(Fraction(above.strip()) / Fraction(below.strip()))
        return float(Fraction(text.strip()))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"expected a number or a fraction such as 8/255, got {text!r}") from None
