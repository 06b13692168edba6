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
    from scipy.stats import binomtest  # a second of import time, needed only here

    if n == 0:
        return (0.0, 1.0)
    least, most = (binomtest(k, n).proportion_ci(confidence, method="exact") for k in (successes, successes + unknown))
    return (float(least.low), float(most.high))
