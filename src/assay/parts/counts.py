"""Numbers of steps and queries, times a factor."""

from assay.util.validate import number


def scaled_count(count: int, factor: float) -> int:
    """A number of steps or queries times a factor, at least 1; 0 stays 0.

    Raises:
        TypeError, ValueError: a factor that is no finite number above 0.
    """
    number("effort", factor, least=0, above=True)
    return max(1, round(factor * count)) if count else 0
