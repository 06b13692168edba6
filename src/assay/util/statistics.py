"""Confidence intervals: of shares, means, medians, differences and ratios."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

Interval = tuple[float, float]
"""Lower and upper end."""


def exact_interval(successes: int, n: int, confidence: float = 0.95, *, unknown: int = 0) -> Interval:
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


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student's interval of a mean.

    Args:
        values: independent measurements.
        confidence: coverage, in (0, 1).

    Returns:
        Lower and upper end; the whole line for fewer than two values.

    Example:
        >>> low, high = mean_interval([1.0, 2.0, 3.0])
        >>> round(low, 2), round(high, 2)
        (-0.48, 4.48)

    Source: Student 1908, Biometrika 6(1).
    """
    from scipy.special import stdtrit

    if len(values) < 2:
        return (-math.inf, math.inf)
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Interval of a median between two of the values, without an assumption about their distribution.

    Args:
        values: independent measurements.
        confidence: coverage, in (0, 1).

    Returns:
        Lower and upper end; the whole line where so few values cannot have that coverage.

    Example:
        >>> median_interval([5, 1, 4, 2, 3, 6, 7, 8, 9])
        (2, 8)

    Source: Thompson 1936, Annals of Mathematical Statistics 7(3).
    """
    n, tail = len(values), (1 - confidence) / 2
    below, rank = 0.0, 0
    while rank < n and below + math.comb(n, rank) / 2**n <= tail:
        below += math.comb(n, rank) / 2**n
        rank += 1
    if not rank:
        return (-math.inf, math.inf)
    ordered = sorted(values)
    return ordered[rank - 1], ordered[n - rank]


def correlation_interval(correlation: float, pairs: int, confidence: float = 0.95) -> Interval:
    """Interval of Pearson's correlation, by Fisher's transformation.

    Args:
        correlation: of the pairs, from -1 to 1.
        pairs: how many.
        confidence: coverage, in (0, 1).

    Returns:
        Lower and upper end; (-1, 1) for fewer than four pairs or no correlation at all (NaN).

    Example:
        >>> low, high = correlation_interval(-0.293, 1000)
        >>> round(low, 3), round(high, 3)
        (-0.349, -0.235)

    Source: Fisher 1921, Metron 1.
    """
    from scipy.special import ndtri

    if pairs < 4 or math.isnan(correlation):
        return (-1.0, 1.0)
    middle, half = math.atanh(max(min(correlation, 1 - 1e-12), 1e-12 - 1)), float(ndtri((1 + confidence) / 2))
    half /= math.sqrt(pairs - 3)
    return math.tanh(middle - half), math.tanh(middle + half)


def difference_interval(
    first: float, of_first: Interval, second: float, of_second: Interval, correlation: float = 0.0
) -> Interval:
    """Interval of ``first - second`` from the intervals of both.

    Args:
        first: a number.
        of_first: its interval.
        second: a number.
        of_second: its interval.
        correlation: of the two estimates, from -1 to 1: 0 for different samples; for shares of the same samples, that
            of being counted in one and in the other.

    Returns:
        Lower and upper end.

    Example:
        >>> low, high = difference_interval(0.7, (0.6, 0.8), 0.5, (0.4, 0.6))
        >>> round(low, 3), round(high, 3)
        (0.059, 0.341)

    Source: Newcombe 1998, Statistics in Medicine 17 (for paired shares, method 10); Zou & Donner 2008, Statistics in
    Medicine 27(10) (for any two estimates, "MOVER").
    """
    down, up = first - of_first[0], of_first[1] - first
    other_down, other_up = second - of_second[0], of_second[1] - second
    low = first - second - _combined(down, other_up, correlation)
    return low, first - second + _combined(up, other_down, correlation)


def _combined(a: float, b: float, correlation: float) -> float:
    if math.isinf(a) or math.isinf(b):
        return math.inf
    return math.sqrt(max(a * a + b * b - 2 * correlation * a * b, 0.0))


def ratio_interval(first: float, of_first: Interval, second: float, of_second: Interval) -> Interval:
    """Interval of ``first / second`` of independent estimates, that of the difference of their logarithms.

    Args:
        first: a number, at least 0.
        of_first: its interval.
        second: a positive number.
        of_second: its interval.

    Returns:
        Lower and upper end.

    Example:
        >>> low, high = ratio_interval(4.0, (3.0, 5.0), 2.0, (1.5, 2.5))
        >>> round(low, 2), round(high, 2)
        (1.39, 2.88)

    Source: Zou & Donner 2008, Statistics in Medicine 27(10).
    """
    if first <= 0:
        return 0.0, of_first[1] / of_second[0] if of_second[0] > 0 else math.inf
    low, high = difference_interval(math.log(first), _logs(of_first), math.log(second), _logs(of_second))
    return math.exp(low), math.inf if math.isinf(high) else math.exp(high)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _logs(ends: Interval) -> Interval:
    return _log(ends[0]), math.inf if math.isinf(ends[1]) else _log(ends[1])
