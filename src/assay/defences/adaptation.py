"""What an attack has to know of a defence: a number that it does not know of is no robust accuracy."""

from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from assay.core.calls import Classifier
from assay.core.combinators import AnyAttack
from assay.core.objectives import Objective
from assay.core.rows import Test


@dataclass(frozen=True)
class Adaptation:
    """How to attack a defended classifier end to end.

    Attributes:
        how: a sentence for the report.
        surrogate: what the attack sees; None for the classifier itself.
        test: a further condition on success, such as not being rejected.
        objective: what the attack maximises instead of its own objective; None to leave that.
    """

    how: str
    surrogate: Classifier | None = None
    test: Test | None = None
    objective: Objective | None = None

    def adapt(self, attack: AnyAttack) -> AnyAttack:
        """The attack with this objective, wherever it has one."""
        adapted: AnyAttack = attack if self.objective is None else _with_objective(attack, self.objective)
        return adapted


@runtime_checkable
class Defended(Protocol):
    """A classifier that says how it has to be attacked."""

    def adaptation(self) -> Adaptation:
        """How to attack it."""
        ...


def adaptation_of(model: Classifier) -> Adaptation | None:
    """What a classifier declares; None for one that declares nothing."""
    return model.adaptation() if isinstance(model, Defended) else None


def _with_objective(part: Any, objective: Objective) -> Any:
    changes: dict[str, Any] = {}
    for name in getattr(part, "__dataclass_fields__", {}):
        value = getattr(part, name)
        if name in ("objective", "loss") and isinstance(value, Objective):
            changes[name] = objective
        elif isinstance(value, tuple) and any(hasattr(v, "__dataclass_fields__") for v in value):
            changes[name] = tuple(_with_objective(v, objective) for v in value)
        elif name in ("attack", "first", "second", "inner") and hasattr(value, "__dataclass_fields__"):
            changes[name] = _with_objective(value, objective)
    return replace(part, **changes) if changes else part
