"""Threat models that no norm of the perturbation measures: rotations, flows, colours."""

from dataclasses import dataclass
from typing import Any

import torch

from assay.core.arguments import reject
from assay.core.geometry import Scale
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.types import Images, PerRow


@dataclass(frozen=True)
class Described:
    """A set given in words; membership is up to the attack's own parameters, the referee checks box and goal.

    Args:
        words: for tables, such as ``rotation ≤ 30°, shift ≤ 3 px``.
    """

    words: str

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
        """There is no random member."""
        reject("geometry", "a set that can be drawn from", self)

    def size(self, delta: Images, rows: Rows) -> PerRow:
        """NaN: not measured by a norm of δ."""
        return torch.full((len(rows),), torch.nan, dtype=delta.dtype, device=delta.device)

    def describe(self) -> str:
        """The words."""
        return self.words
