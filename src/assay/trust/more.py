"""What more passes would break: estimated from when samples were broken."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from assay.core.outcome import Outcome, Status
from assay.util.validate import number

Array = NDArray[np.float64]

FACTOR = 10.0
"""Times the passes that the estimate is about."""
_COVERED = 0.9
_DOUBLINGS, _FEWEST = 6, 4
_BEFORE = (0.5, 30.0)
"""What is thought of the rate before anything is seen, as a beta distribution: half a hit among thirty a doubling."""
_RATES, _DECAYS = np.geomspace(1e-5, 0.6, 120), np.linspace(0.3, 1.0, 15)


@dataclass(frozen=True)
class Estimate:
    """How many samples more of the same would still break.

    Attributes:
        share: expected, of all samples.
        low: lower end of a 90 % interval.
        high: upper end.
        times: how many times the passes are meant.
    """

    share: float
    low: float
    high: float
    times: float

    def describe(self) -> str:
        """One sentence.

        Example:
            >>> Estimate(0.004, 0.0, 0.021, 10).describe()
            '10 times the passes would break 0.4 % more (90 %: 0.0 to 2.1 %)'
        """
        low, high = 100 * self.low, 100 * self.high
        text = f"{self.times:g} times the passes would break {100 * self.share:.1f} % more"
        return f"{text} (90 %: {low:.1f} to {high:.1f} %)"


def what_more_breaks(outcome: Outcome, times: float = FACTOR) -> Estimate:
    """Estimate how many samples an attack would still break with so many times the passes.

    More steps, restarts, targets or queries: whatever the passes are spent on, hits become rarer with their number. The
    rate at which those that are left break, while the number of passes doubles, and by how much it falls from doubling
    to doubling, are inferred from the passes after which samples were broken (a grid of both, with a prior for networks
    of which nothing is known), and carried on. That holds of attacks that adapt their steps (`APGD`, FAB, a suite) and
    of long searches; not where the size of steps follows from their number (`PGD`), whose hits say where in its
    schedule it was, nor of a search of less than 500 queries, which has just begun.

    Source: our own; the rate a doubling is the hazard of a survival analysis on a logarithmic scale of cost.

    Args:
        outcome: of an attack that stopped at each sample's first hit.
        times: the passes it would have, as a multiple of those it had; more than 1.

    Returns:
        An estimate; all 0 where nothing is left.

    Raises:
        ValueError: ``times`` is not more than 1.

    Example:
        >>> import torch, assay
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)).eval()
        >>> outcome = assay.attack(model, torch.rand(8, 1, 4, 4), torch.zeros(8, dtype=torch.int64), assay.PGD(0.01))
        >>> 0 <= what_more_breaks(outcome).share <= 1
        True
    """
    number("times", times, least=1, above=True)
    passes = outcome.forwards + outcome.backwards
    return estimate(
        passes[outcome.status == int(Status.BROKEN)],
        passes[outcome.status == int(Status.SURVIVED)],
        len(outcome),
        times,
    )


def estimate(hits: Tensor, left: Tensor, n: int, times: float = FACTOR) -> Estimate:
    """The same from numbers alone.

    Args:
        hits: passes after which samples were broken, ``(k,)``.
        left: passes that were spent on those that are left, ``(m,)``.
        n: how many samples there are, with those that were wrong before.
        times: as for `what_more_breaks`.

    Example:
        >>> import torch
        >>> none_late = estimate(torch.full((40,), 5), torch.full((60,), 1000), 100)
        >>> many_late = estimate(torch.arange(500, 900, 10), torch.full((60,), 1000), 100)
        >>> none_late.high < many_late.low
        True
    """
    if not len(left):
        return Estimate(0.0, 0.0, 0.0, times)
    weights, chance = _inferred(_by_doubling(hits, left), times)
    draws = np.random.default_rng(0)
    more = draws.binomial(len(left), draws.choice(chance, 20_000, p=weights)) / n
    low, high = np.quantile(more, [(1 - _COVERED) / 2, (1 + _COVERED) / 2])
    return Estimate(float(weights @ chance) * len(left) / n, float(low), float(high), times)


def _by_doubling(hits: Tensor, left: Tensor) -> list[tuple[int, int]]:
    """Hits, and samples that were left before, of each doubling of the passes; the last one first."""
    until, counts, later = float(left.double().median()), list[tuple[int, int]](), len(left)
    for _ in range(_DOUBLINGS):
        if until / 2 < _FEWEST:
            break
        count = int(((hits > until / 2) & (hits <= until)).sum()) + (0 if counts else int((hits > until).sum()))
        counts.append((count, later + count))
        later, until = later + count, until / 2
    return counts


def _inferred(counts: list[tuple[int, int]], times: float) -> tuple[Array, Array]:
    """Weights of what may be, and for each the chance that a sample that is left breaks."""
    rate, decay = (grid.ravel() for grid in np.meshgrid(_RATES, _DECAYS))
    before, after = _BEFORE
    weight = before * np.log(rate) + (after - 1) * np.log1p(-rate)
    for ago, (count, at_risk) in enumerate(counts):
        p = np.minimum(rate / decay**ago, 0.95)
        weight += count * np.log(p) + (at_risk - count) * np.log1p(-p)
    weight = np.exp(weight - weight.max())
    doublings, kept = math.log2(times), np.ones_like(rate)
    for ahead in range(math.ceil(doublings)):
        kept *= (1 - rate * decay ** (ahead + 1)) ** min(1.0, doublings - ahead)
    return weight / weight.sum(), 1 - kept
