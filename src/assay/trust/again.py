"""Attack samples again, as the evaluation did."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from assay.core.combinators import AnyAttack
from assay.core.model_calls import Classifier
from assay.core.outcome import Outcome, Status
from assay.core.types import Labels
from assay.engine.api import INTERRUPTED
from assay.trust.context import CheckContext


class NonFiniteOutput(ArithmeticError):
    """The model returned NaN or infinity when an attack was rerun."""


def attack_again(
    context: CheckContext,
    adapted: AnyAttack,
    index: Labels,
    *,
    wrap: Callable[[Classifier], Classifier] = lambda model: model,
    itself: bool = False,
    **more: Any,
) -> Outcome:
    """Attack some samples as the evaluation did: adaptively where the defence declares how.

    Args:
        context: the model, its images and its results.
        adapted: the attack.
        index: the samples, ``(m,)``.
        wrap: changes the model, and the surrogate that attacks see.
        itself: whether the model itself is asked, and not what its defence declares in its place.
        more: as `assay.attack` takes it.

    Raises:
        RuntimeError: the model raised an exception on a sample, so its survival is unknown.
        NonFiniteOutput: it gave no numbers on one: whether that one survives is not known.
        KeyboardInterrupt: it was interrupted.
    """
    adaptation = context.adaptation if context.is_adapted else None
    surrogate = None if adaptation is None or itself else adaptation.surrogate
    adapted = adapted if adaptation is None or itself else adaptation.adapt(adapted)
    options: dict[str, Any] = {"seed": context.seed, "errors": "record", "preflight": False} | more
    outcome = context.run(
        wrap(context.model),
        context.at(index),
        context.y[index],
        adapted,
        mask=None if context.masks is None else context.masks[index],
        surrogate=None if surrogate is None else wrap(surrogate),
        **{"test": None if context.adaptation is None else context.adaptation.test, **options},
    )
    require_finished(outcome)
    if outcome.count(Status.ERROR):
        first = next(iter(outcome.errors.values()))
        raise RuntimeError(f"{outcome.count(Status.ERROR)} of {len(outcome)} samples raised, the first: {first}")
    if outcome.count(Status.INVALID):
        raise NonFiniteOutput(
            f"on {outcome.count(Status.INVALID)} of {len(outcome)} samples that were attacked again "
            "the model gave no numbers"
        )
    return outcome


def require_finished(outcome: Outcome) -> Outcome:
    """The outcome, if the attack was not interrupted.

    Raises:
        KeyboardInterrupt: the attack was interrupted, so the check has no result.
    """
    if INTERRUPTED in outcome.events:
        raise KeyboardInterrupt
    return outcome


def broken(outcome: Outcome) -> Tensor:
    """Which samples were broken."""
    return outcome.status == int(Status.BROKEN)
