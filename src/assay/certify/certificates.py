"""Certificates: the decision and the margin bound of each sample."""

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from assay.core.types import Count, Images, Labels, PerRow
from assay.util.statistics import exact_interval


class Decision(IntEnum):
    """How one sample ended. Each sample ends in exactly one of these."""

    MISCLASSIFIED = 0
    """Wrong on the clean image."""
    BROKEN = 1
    """An image within the budget was found that is not classified right, and measured again."""
    CERTIFIED = 2
    """No image within the budget is classified otherwise."""
    OPEN = 3
    """Neither was shown."""

    @property
    def label(self) -> str:
        """Words for a table, such as ``misclassified clean``."""
        return "misclassified clean" if self is Decision.MISCLASSIFIED else self.name.lower()


@dataclass(frozen=True)
class Certificates:
    """The record of certifiers on ``n`` samples.

    Attributes:
        decision: one `Decision` code a sample, ``(n,)``.
        margin: the greatest lower bound, over the certifiers, of the least logit margin within the budget, ``(n,)``;
            above 0 iff a bound certified the sample. NaN where nothing was bounded, infinity where branch and bound
            certified without a number.
        by: which certifier decided, its place in ``certifiers``; -1 where none did.
        images: for a broken sample an image within the budget that is not classified right, else the clean one.
        y: labels, ``(n,)``.
        predicted: class of the clean image, ``(n,)``.
        seconds: spent on each sample, ``(n,)``; a batch's seconds are shared evenly.
        certifiers: what ran, in order.
        budget: in words.
        events: what happened besides (out of memory, time that ended), as sentences.
    """

    decision: Count
    margin: PerRow
    by: Count
    images: Images
    y: Labels
    predicted: Labels
    seconds: PerRow
    certifiers: tuple[str, ...]
    budget: str
    events: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.y)

    @property
    def certified(self) -> Tensor:
        """Boolean ``(n,)``: right on every image within the budget."""
        return self.decision == int(Decision.CERTIFIED)

    @property
    def certified_accuracy(self) -> float:
        """Share of samples that are certified: a lower bound on the robust accuracy; NaN of none."""
        return int(self.certified.sum()) / len(self) if len(self) else float("nan")

    @property
    def possible_accuracy(self) -> float:
        """Share of samples that are certified or open: an upper bound on the robust accuracy; NaN of none."""
        return (self.count(Decision.CERTIFIED) + self.count(Decision.OPEN)) / len(self) if len(self) else float("nan")

    def count(self, decision: Decision) -> int:
        """How many samples ended in a decision."""
        return int((self.decision == int(decision)).sum())

    @property
    def counts(self) -> dict[str, int]:
        """All four counts by label; they add up to ``n``."""
        return {d.label: self.count(d) for d in Decision}

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Exact (Clopper–Pearson) interval of the certified accuracy.

        Args:
            confidence: coverage, in (0, 1).
        """
        return exact_interval(self.count(Decision.CERTIFIED), len(self), confidence)

    def __str__(self) -> str:
        """One line for a terminal."""
        low, high = self.interval()
        counts = ", ".join(f"{n} {label}" for label, n in self.counts.items())
        each = float(self.seconds.sum()) / max(len(self), 1)
        return (
            f"{' then '.join(self.certifiers)}, {self.budget}: "
            f"certified accuracy {100 * self.certified_accuracy:.1f} % "
            f"[{100 * low:.1f}, {100 * high:.1f}] of n = {len(self)} ({counts}); {each:.3g} s a sample"
        )


@dataclass(frozen=True)
class Finding:
    """What one certifier says of some rows.

    Attributes:
        margin: lower bound of the least margin, ``(b,)``.
        broken: whether an image was found that is not classified right; None for none.
        images: those images, ``(b, c, h, w)``.
        events: sentences.
    """

    margin: PerRow
    broken: Tensor | None = None
    images: Images | None = None
    events: tuple[str, ...] = ()

    @staticmethod
    def joined(parts: "list[Finding]", x: Images) -> "Finding":
        """Those of consecutive rows, whose images are ``x``, as one."""
        broken = [
            torch.zeros(len(own.margin), dtype=torch.bool) if own.broken is None else own.broken.cpu() for own in parts
        ]
        images, first = x.clone(), 0
        for own in parts:
            if own.images is not None:
                images[first : first + len(own.margin)] = own.images.to(x)
            first += len(own.margin)
        margin = torch.cat([own.margin.cpu().double() for own in parts])
        events = tuple(dict.fromkeys(text for own in parts for text in own.events))
        return Finding(margin, torch.cat(broken), images, events)
