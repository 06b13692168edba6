"""Threat models that no norm of the perturbation measures: rotations, flows, colours."""

from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import torch

from assay.core.geometry import Scale
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.types import Images, PerRow
from assay.util.validate import reject


@runtime_checkable
class Sampleable(Protocol):
    """A set that random members can be drawn from."""

    def sample(self, rows: Rows, rng: Rng, purpose: str) -> Images:
        """A random member of each row's set, in [0, 1], ``(b, c, h, w)``."""
        ...


class Limits(Protocol):
    """What limits a set: numbers with units of their own, such as degrees."""

    def scaled(self, factor: float) -> Self:
        """The limits times a factor."""
        ...

    def describe(self) -> str:
        """The limits in words."""
        ...


@dataclass(frozen=True)
class UnmeasuredSet:
    """A set given in words; membership is up to the attack's own parameters, the referee checks box and goal.

    Args:
        words: for tables, such as ``rotation ≤ 30°, shift ≤ 3 px``.
        drawn: what random members come from; None where there are none.
        limits: what limits the set, if it can be made larger; None where it cannot.
    """

    words: str
    drawn: Sampleable | None = None
    limits: Limits | None = None

    @staticmethod
    def of(limits: Limits) -> "UnmeasuredSet":
        """The set with some limits; if it can be drawn from, ``limits`` has a method ``sample``."""
        return UnmeasuredSet(limits.describe(), limits if isinstance(limits, Sampleable) else None, limits)

    def scaled(self, factor: float) -> "UnmeasuredSet | None":
        """The set with its limits times a factor; None without limits."""
        return None if self.limits is None else UnmeasuredSet.of(self.limits.scaled(factor))

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond the image."""
        return ()

    def project(self, delta: Images, rows: Rows, scale: Scale = 1.0) -> Images:
        """Into the box."""
        return (rows.x + delta).clamp(0, 1) - rows.x

    def steepest(self, grad: Images, delta: Images, rows: Rows, scale: Any = 1.0) -> Images:
        """There is none."""
        reject("geometry", "a set in which a steepest step is known", self)

    def sample(self, rows: Rows, rng: Rng, purpose: str, *, edge: bool = False) -> Images:
        """A random member's δ, wherever in the set it is."""
        if self.drawn is None:
            reject("geometry", "a set that can be drawn from", self)
        return self.drawn.sample(rows, rng, purpose) - rows.x

    def size(self, delta: Images, rows: Rows) -> PerRow:
        """NaN: not measured by a norm of δ."""
        return torch.full((len(rows),), torch.nan, dtype=delta.dtype, device=delta.device)

    def describe(self) -> str:
        """The words."""
        return self.words
