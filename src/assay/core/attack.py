"""An attack: a pair of pure functions over rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.types import Count, Flag, Images, PerRow

S = TypeVar("S")


@dataclass(frozen=True)
class Step(Generic[S]):
    """What one step of an attack did, row by row.

    Attributes:
        state: the state after the step.
        candidate: the image that this step evaluated.
        hit: whether it reached the goal, as the oracle saw it.
        cost: what is least among hits (a distance) or worst among misses (minus the objective). Where it takes
            operators to say and is seldom asked for, a function that returns it.
        done: nothing more to try on this row; on the CPU, if it is known without the model.
        pending: the image that a row leaves behind, which need not be the candidate; read only where ``done``, by the
            referee, who measures it. An image that this step made and did not evaluate spares a backward pass after
            the last update. A function that returns it is called only where a row ends.
        unstarted: rows that end because the attack could not begin (it needs an image to start from, and none was
            there); they have not survived. None where every row could.
    """

    state: S
    candidate: Images
    hit: Flag
    cost: PerRow | Callable[[], PerRow]
    done: Flag
    pending: Images | Callable[[], Images] | None = None
    unstarted: Flag | None = None

    def left(self) -> Images | None:
        """What rows leave behind, however it is given."""
        return self.pending() if callable(self.pending) else self.pending

    def costs(self) -> PerRow:
        """The costs, ``(b,)``, however they are given."""
        return self.cost() if callable(self.cost) else self.cost


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
        """Optional fields of `Rows` that it reads: any of ``"mask"``, ``"start"``, ``"reference"``."""
        ...

    @property
    def traits(self) -> Traits:
        """What others must know of it."""
        ...

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "Attack[Any] | None":
        """The same attack, changed; what is not given stays.

        Args:
            effort: factor on its steps or queries.
            step_size: factor on its step size.
            geometry: another set, for its budget.
            objective: another loss.

        Returns:
            The changed attack; None if it has no such thing: no steps to multiply, no budget, a loss of its own.
        """
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
    """An attack whose steps differ in price, and that says so beforehand, so that no limit on passes is exceeded.

    For other attacks the first step costs `Traits.price`, and each later one what the last one did.
    """

    def price(self, state: Any) -> Count:
        """Forward passes of the next step, ``(b,)``, for rows in this state."""
        ...
