"""Restarts and targets by number, as the attacks take them."""

from typing import TypeVar

from assay.core.attack import Attack
from assay.core.combinators import MOST, Restarts, Targets
from assay.util.validate import reject, whole

A = TypeVar("A", bound=Attack)  # type: ignore[type-arg]


def repeated(attack: A, restarts: int) -> A | Restarts:
    """An attack with so many starts; itself for one.

    Args:
        attack: the attack.
        restarts: number of starts, at least 1.

    Raises:
        TypeError, ValueError: another number.
    """
    if whole("restarts", restarts, least=1) > MOST:
        reject("restarts", f"at most {MOST} restarts", restarts)
    return attack if restarts == 1 else Restarts(attack, restarts)


def with_variants(attack: A, restarts: int, targets: int) -> A | Restarts | Targets:
    """An attack with so many starts for each of so many targets.

    Args:
        attack: the attack.
        restarts: number of starts, at least 1.
        targets: number of target classes; 0 for none.

    Raises:
        TypeError, ValueError: another number.
    """
    if whole("targets", targets) > MOST:
        reject("targets", f"at most {MOST} target classes", targets)
    each = repeated(attack, restarts)
    return Targets(each, targets) if targets else each
