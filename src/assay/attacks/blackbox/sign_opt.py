"""Sign-OPT: the nearest boundary by labels alone, one query a random direction."""

from assay.attacks.blackbox.directions import DirectionDescent
from assay.util.hints import with_hints


@with_hints
def SignOPT(
    *,
    steps: int = 1000,
    queries: int = 20000,
    samples: int = 200,
    starts: int = 100,
    alpha: float = 0.2,
    beta: float = 1e-3,
    eps: float | None = None,
) -> DirectionDescent:
    """The direction with the nearest boundary, by the signs of its changes: one query a random direction.

    Args:
        steps: the most iterations.
        queries: the most queries.
        samples: random directions an iteration.
        starts: random directions to begin with.
        alpha: first step size.
        beta: how far the random directions are turned.
        eps: images further away in l2 do not count, and the first inside ends the sample; None for no limit.

    Example:
        >>> SignOPT(steps=10).describe()
        'Sign-OPT-10 l2'

    Source: Cheng, Singh, Chen, Chen, Liu & Hsieh, "Sign-OPT: a query-efficient hard-label adversarial attack", ICLR
    2020, algorithm 1; official code github.com/cmhcbb/attackbox for the constants. Deviation: in the line search a
    direction is given up after one query that shows its boundary to be no nearer.
    """
    return DirectionDescent(steps, queries, samples, starts, alpha, beta, True, eps)
