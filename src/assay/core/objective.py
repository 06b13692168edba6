"""What an attack maximises: one value a row, from what the model returned and the image it saw.

Attacks maximise an objective; a targeted goal flips its sign (the row's `Goal`).
Objectives add and scale: ``CrossEntropy() + 0.1 * ForegroundScore(saliency)``.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from assay.core.rows import Rows
from assay.core.types import Images, Logits, PerRow
from assay.util.validate import number


@runtime_checkable
class Term(Protocol):
    """One summand of an objective: a frozen dataclass that maps ``(logits, images, rows)`` to ``(b,)``."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Optional fields of `Rows` that it reads: any of ``"mask"``, ``"reference"``."""
        ...

    def __call__(self, logits: Logits, x: Images, rows: Rows) -> PerRow:
        """The value of each row; row i depends on row i alone."""
        ...

    def describe(self) -> str:
        """The name of the loss, for people: ``cross-entropy``."""
        ...


@runtime_checkable
class Sloped(Protocol):
    """A term that depends on the logits alone and knows its gradient by them, which spares autograd's operators."""

    def slope(self, logits: Logits, rows: Rows, *, scaled: bool) -> Logits | None:
        """The gradient of each row's value by its logits, ``(b, k)``; None where only autograd will do.

        Args:
            logits: what the model returned, ``(b, k)``.
            rows: the rows.
            scaled: whether its length matters; without, each row's may be multiplied by any positive number.
        """
        ...


@dataclass(frozen=True)
class Objective:
    """A weighted sum of terms.

    Args:
        terms: pairs of weight and term.

    Example:
        >>> from assay.parts.losses import CrossEntropy, Margin
        >>> both = CrossEntropy() + 2.0 * Margin()
        >>> [weight for weight, _ in both.terms]
        [1.0, 2.0]
    """

    terms: tuple[tuple[float, Term], ...]

    def __call__(self, logits: Logits, x: Images, rows: Rows) -> PerRow:
        """The value of each row, ``(b,)``; larger is closer to the goal."""
        parts = [
            term(logits, x, rows) if weight == 1.0 else weight * term(logits, x, rows) for weight, term in self.terms
        ]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)

    def slope(self, logits: Logits, rows: Rows, *, scaled: bool = True) -> Logits | None:
        """The gradient of each row's value by its logits, where every term knows its own; else None.

        Arguments as in `Sloped`.
        """
        parts = []
        for weight, term in self.terms:
            slope = None
            if isinstance(term, Sloped) and weight != 0:
                slope = term.slope(logits, rows, scaled=scaled or len(self.terms) > 1)
            if slope is None:
                return None
            parts.append(slope if weight == 1.0 else weight * slope)
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)

    @property
    def needs(self) -> tuple[str, ...]:
        """Optional fields of `Rows` that any term reads."""
        return tuple(sorted({need for _, term in self.terms for need in term.needs}))

    def describe(self) -> str:
        """The names of its terms: ``cross-entropy``, ``cross-entropy + foreground score``."""
        return " + ".join(term.describe() for _, term in self.terms)

    def __add__(self, other: "Objective") -> "Objective":
        """The sum of two objectives."""
        return Objective(self.terms + other.terms)

    def __rmul__(self, weight: float) -> "Objective":
        """The objective times a number."""
        weight = number("weight", weight)
        return Objective(tuple((weight * w, term) for w, term in self.terms))
