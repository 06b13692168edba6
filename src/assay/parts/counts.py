"""Numbers of steps and queries, times a factor."""


def scaled_count(count: int, factor: float) -> int:
    """A number of steps or queries times a factor, at least 1; 0 stays 0."""
    return max(1, round(factor * count)) if count else 0
