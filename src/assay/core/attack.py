"""An attack: a pair of pure functions over rows."""

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from assay.core.geometry import Geometry
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.types import Count, Flag, Images, PerRow

S = TypeVar("S")


@dataclass(frozen=True)
class Step(Generic[S]):
    """What one step of an attack did, row by row.

    Attributes:
        state: the state after the step.
        candidate: the image that this step evaluated.
        hit: whether it reached the goal, as the oracle saw it.
        cost: what is least among hits (a distance) or worst among misses (minus the objective).
        done: nothing more to try on this row.
        pending: an image made by this step and not evaluated; read only where ``done``, by the referee, who has to
            measure once more anyway. It spares a backward pass after the last update.
        unstarted: rows that end because the attack could not begin (it needs an image to start from, and none was
            there); they have not survived. None where every row could.
    """

    state: S
    candidate: Images
    hit: Flag
    cost: PerRow
    done: Flag
    pending: Images | None = None
    unstarted: Flag | None = None


@runtime_checkable
class Attack(Protocol[S]):
    """A frozen dataclass of plain numbers and parts.

    State is a tree (`core.tree`) whose tensors have the rows first; nothing is reduced over rows.
    """

    @property
    def geometry(self) -> Geometry | None:
        """The set the perturbation must stay in; None where the attack minimises a distance instead."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Optional fields of `Rows` that it reads, and ``"scores"`` where labels alone tell it nothing."""
        ...

    def init(self, rows: Rows, rng: Rng) -> S:
        """The state before the first step; does not ask the model."""
        ...

    def step(self, rows: Rows, state: S, oracle: Oracle, rng: Rng) -> Step[S]:
        """One step."""
        ...

    def describe(self) -> str:
        """One line for tables, such as ``PGD-40 linf 8/255``."""
        ...


@runtime_checkable
class Priced(Protocol):
    """An attack that knows how many forward passes its next step costs each row, so that no budget is exceeded.

    For other attacks a step is taken to cost what the last one did, and the first one a single pass.
    """

    def price(self, state: Any) -> Count:
        """Forward passes of the next step, ``(b,)``, for rows in this state."""
        ...
