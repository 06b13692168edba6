"""OPT-attack: the nearest boundary by labels alone, by finite differences of its distance."""

from assay.attacks.blackbox.directions import DirectionDescent
from assay.util.hints import with_hints


@with_hints
def OPT(
    *,
    steps: int = 1000,
    queries: int = 20000,
    samples: int = 20,
    starts: int = 100,
    alpha: float = 0.2,
    beta: float = 1e-3,
    eps: float | None = None,
) -> DirectionDescent:
    """The direction with the nearest boundary, by finite differences of the distance along random directions.

    Args:
        steps: the most iterations.
        queries: the most queries.
        samples: random directions an iteration.
        starts: random directions to begin with.
        alpha: first step size.
        beta: how far the random directions are turned.
        eps: images further away in l2 do not count, and the first inside ends the sample; None for no limit.

    Example:
        >>> OPT(steps=10).describe()
        'OPT-10 l2'

    Source: Cheng, Le, Chen, Zhang, Yi & Hsieh, "Query-efficient hard-label black-box attack: an optimization-based
    approach", ICLR 2019, algorithm 2 (RGF); Balasubramanian, "Adversarial robustness".
    """
    return DirectionDescent(steps, queries, samples, starts, alpha, beta, False, eps)
