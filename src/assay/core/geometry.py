"""A geometry: a set of perturbations, and the four questions that an attack asks about it.

The nearest member (`project`), the member furthest along a gradient (`steepest`), a random member (`sample`), and how
large a perturbation is in budgets (`size`; a member iff at most 1), always together with the box: the image stays in
[0, 1]. Any first-order attack works with any geometry.
"""

from typing import Any, Protocol, Self, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.types import Images, PerRow

Scale = float | Float[Tensor, "b"]
"""How large a step is, in budgets: one number, or one a row."""


@runtime_checkable
class Geometry(Protocol):
    """A set of perturbations; a frozen dataclass of plain numbers and parts."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Optional fields of `Rows` that it reads."""
        ...

    def project(self, delta: Images, rows: Rows, scale: Scale = 1.0) -> Images:
        """The nearest perturbation in ``scale`` times the set for which the image stays in [0, 1]."""
        ...

    def steepest(self, grad: Images, delta: Images, rows: Rows, scale: Any = 1.0) -> Images:
        """The step d of ``scale`` budgets with the greatest ⟨grad, d⟩, from ``delta``; to be projected.

        A `Split` also takes a pair of scales, one a region.
        """
        ...

    def sample(self, rows: Rows, rng: Rng, purpose: str, *, edge: bool = False) -> Images:
        """A random member a row: uniform in the set, or on its surface with ``edge``; clipped to the box."""
        ...

    def size(self, delta: Images, rows: Rows) -> PerRow:
        """Size in budgets: a member iff at most 1."""
        ...

    def describe(self) -> str:
        """A few words, such as ``linf 8/255``."""
        ...


@runtime_checkable
class Scalable(Protocol):
    """A geometry that can be made larger and smaller."""

    def scaled(self, factor: float) -> Self | None:
        """The set times a factor; None if there is no such set."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """A geometry that may be a box: then the least and the greatest image say all that there is to it."""

    def bounds(self, rows: Rows) -> tuple[Images, Images] | None:
        """The least and the greatest image, both ``(b, c, h, w)`` in [0, 1]; None where the set is no box."""
        ...


def scaled(geometry: Geometry, factor: float) -> Geometry | None:
    """A set times a factor; None if there is no such set."""
    larger = geometry.scaled(factor) if isinstance(geometry, Scalable) else None
    return larger if isinstance(larger, Geometry) else None
