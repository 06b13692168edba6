"""Intervals for shares."""


def exact_interval(successes: int, n: int, confidence: float = 0.95, *, unknown: int = 0) -> tuple[float, float]:
    """Exact binomial confidence interval of a share.

    Args:
        successes: how many of ``n``.
        n: how many were tried.
        confidence: coverage, in (0, 1).
        unknown: how many of the others may be successes, too; the interval covers both possible outcomes.

    Returns:
        Lower and upper end, as shares; (0, 1) when nothing was tried.

    Example:
        >>> low, high = exact_interval(5, 10)
        >>> round(low, 3), round(high, 3)
        (0.187, 0.813)
        >>> low, high = exact_interval(5, 10, unknown=2)
        >>> round(low, 3), round(high, 3)
        (0.187, 0.933)

    Source: Clopper & Pearson 1934, Biometrika 26(4).
    """
    from scipy.special import betaincinv  # not scipy.stats, which takes three times as long to import

    if n == 0:
        return (0.0, 1.0)
    tail, most = (1 - confidence) / 2, successes + unknown
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(most + 1, n - most, 1 - tail)) if most < n else 1.0
    return low, high
