"""The attempts of one stage: which variant of which sample comes next, and what has come of those that have ended.

Variants of a sample run beside each other where slots are free. Its result is nevertheless that of its variants one
after another: each is written down when all before it are, and the first that decides the sample discards those after
it. So neither slots nor order change a result, its image or what it is said to have cost.
"""

import heapq
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch

from assay.core.tree import join, take
from assay.core.types import Count, Flag, Labels, PerRow
from assay.engine.referee import Measurement


class Attempt(NamedTuple):
    """What rows have come to, on the CPU; a tree.

    Attributes:
        sample: index of the sample.
        variant: index of the variant in the stage.
        measurement: the best image, measured.
        cost: its cost.
        steps: steps taken.
        forwards: forward passes.
        backwards: backward passes.
        checks: the referee's passes.
        cheats: images that reached the goal outside the threat model.
        invalid: whether a non-finite value came up.
        unstarted: whether the attack could not begin.
        failed: whether the model raised an exception; nothing was measured then.
    """

    sample: Labels
    variant: Labels
    measurement: Measurement
    cost: PerRow
    steps: Count
    forwards: Count
    backwards: Count
    checks: Count
    cheats: Count
    invalid: Flag
    unstarted: Flag
    failed: Flag


class Attempts:
    """The bookkeeping of a stage's attempts; knows nothing of models.

    Args:
        samples: those that the stage is to work on, in order.
        count: how many there are in all.
        variants: indices of the variants, in order.
        stop_at_hit: whether a hit decides a sample.
        beside: whether variants of a sample may run beside each other.
        survived: whether the samples have survived an attack already: then a further variant is likely to be needed.
        write: takes the attempts whose turn it is and says which of them leave their sample open.
        close: called with each sample of which no further attempt counts.

    Attributes:
        turn: for each sample, how many of its variants have been written down, ``(n,)``.
        limit: for each sample, the least variant that is known to decide it, ``(n,)``.
    """

    def __init__(
        self,
        samples: list[int],
        count: int,
        variants: tuple[int, ...],
        *,
        stop_at_hit: bool,
        beside: bool,
        survived: bool,
        write: Callable[[Attempt], Flag],
        close: Callable[[int], None],
    ) -> None:
        self.variants, self.stop_at_hit, self.beside = variants, stop_at_hit, beside
        self.write, self.close = write, close
        self.turn = torch.zeros(count, dtype=torch.int64)
        self.limit = torch.full((count,), len(variants), dtype=torch.int64)
        self._closed = torch.ones(count, dtype=torch.bool)
        self._closed[samples] = False
        self._drawn = [0] * count
        self._certain = deque(samples)
        self._ahead: list[tuple[int, int, int]] = []
        self._place = {sample: place for place, sample in enumerate(samples)}
        self._early: dict[tuple[int, int], Attempt] = {}
        self._place_of = {variant: place for place, variant in enumerate(variants)}
        self._hits, self._misses = 0, len(samples) if survived else 0

    def waiting(self) -> bool:
        """Whether any attempt can be started."""
        return bool(self._certain) or (self._looks_ahead() and self._next_ahead() is not None)

    def draw(self, free: int) -> list[tuple[int, int]]:
        """Up to ``free`` pairs of sample and variant: those whose turn it is, then those that may come to be needed."""
        pairs: list[tuple[int, int]] = []
        while len(pairs) < free and self._certain:
            sample = self._certain.popleft()
            pairs.append((sample, self._start(sample)))
        while len(pairs) < free and self._looks_ahead():
            ahead = self._next_ahead()
            if ahead is None:
                break
            pairs.append((ahead, self._start(ahead)))
        return pairs

    def alive(self, sample: Labels, variant: Labels) -> Flag:
        """Which rows can still matter: no variant before theirs is known to decide their sample."""
        return self.places(variant) <= self.limit[sample]

    def alone(self, sample: Labels) -> bool:
        """Whether none of these samples has other variants in flight or ahead of their turn."""
        return all(self._drawn[i] <= int(self.turn[i]) + 1 for i in sample.tolist())

    def places(self, variant: Labels) -> Labels:
        """Places of variants in the order in which they count."""
        if self.variants == tuple(range(len(self.variants))):
            return variant
        return torch.tensor([self._place_of[v] for v in variant.tolist()], dtype=torch.int64)

    def end(self, attempts: Attempt) -> None:
        """Take note of rows that have ended, and write down those whose turn it is."""
        place = self.places(attempts.variant)
        decides = attempts.failed | (attempts.measurement.hit if self.stop_at_hit else False)
        self._hits += int(decides.sum())
        self._misses += int((~decides).sum())
        at = attempts.sample[decides]
        self.limit.scatter_reduce_(0, at, place[decides], "amin")
        while len(attempts.sample):
            due = (self.turn[attempts.sample] == place) & ~self._closed[attempts.sample]
            later = (place > self.turn[attempts.sample]) & self.alive(attempts.sample, attempts.variant)
            for row in later.nonzero().squeeze(1):
                key = (int(attempts.sample[row]), int(place[row]))
                self._early[key] = take(attempts, row[None])
            if not bool(due.any()):
                return
            attempts = self._write(take(attempts, due.nonzero().squeeze(1)))
            place = self.places(attempts.variant)

    def _write(self, attempts: Attempt) -> Attempt:
        """Write attempts down; returns those whose turn has come by that."""
        leaves_open = self.write(attempts)
        self.turn[attempts.sample] += 1
        leaves_open = leaves_open & (self.turn[attempts.sample] < len(self.variants))
        for sample in attempts.sample[~leaves_open].tolist():
            self._closed[sample] = True
            self.close(sample)
        due = []
        for sample in attempts.sample[leaves_open].tolist():
            place = int(self.turn[sample])
            early = self._early.pop((sample, place), None)
            if early is not None:
                due.append(early)
            elif self._drawn[sample] == place:
                self._certain.append(sample)
        if not due:
            return take(attempts, torch.zeros(0, dtype=torch.int64))
        return join(*due) if len(due) > 1 else due[0]

    def _start(self, sample: int) -> int:
        place = self._drawn[sample]
        self._drawn[sample] += 1
        if self.beside and place + 1 < len(self.variants):
            heapq.heappush(self._ahead, (place + 1, self._place[sample], sample))
        return self.variants[place]

    def _looks_ahead(self) -> bool:
        """Only where a further variant is likely to be needed: most attempts so far have not hit."""
        return self.beside and (not self.stop_at_hit or self._misses > self._hits)

    def _next_ahead(self) -> int | None:
        """The sample of the least variant that could be started before its turn; None if there is none."""
        while self._ahead:
            place, _, sample = self._ahead[0]
            stale = self._closed[sample] or self._drawn[sample] != place or place > int(self.limit[sample])
            if not stale:
                return sample
            heapq.heappop(self._ahead)
        return None
