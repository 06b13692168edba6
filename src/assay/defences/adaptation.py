"""Adaptation: how attacks take a defence into account (EOT, BPDA, joint)."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from torch import nn

from assay.core.combinators import AnyAttack, vary_attacks
from assay.core.model_calls import Classifier
from assay.core.objective import Objective
from assay.core.rows import Test
from assay.util.validate import one_of

METHODS = ("EOT", "BPDA", "joint")


@dataclass(frozen=True)
class Adaptation:
    """How to attack a defended classifier end to end.

    Attributes:
        how: a sentence for the report.
        surrogate: what the attack sees; None for the classifier itself.
        test: a further condition on success, such as not being refused; it holds for attacks that ignore the defence,
            too.
        objective: what the attack maximises instead of its own objective; None to leave that.
        methods: what the attack does, any of `METHODS`: ``"EOT"`` (gradients averaged over random draws), ``"BPDA"``
            (gradients past a part that has none), ``"joint"`` (classifier and detector at once).
    """

    how: str
    surrogate: Classifier | None = None
    test: Test | None = None
    objective: Objective | None = None
    methods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for method in self.methods:
            one_of("methods", method, METHODS)

    def adapt(self, attack: AnyAttack) -> AnyAttack:
        """The attack with this objective; parts whose loss is fixed keep theirs."""
        if self.objective is None:
            return attack
        loss = self.objective
        return vary_attacks(attack, lambda plain: plain.vary(objective=loss)) or attack


@runtime_checkable
class Defended(Protocol):
    """A classifier that says how it has to be attacked."""

    def adaptation(self) -> Adaptation:
        """How to attack it; around a classifier that is defended itself, with what that one declares (its ``test``)."""
        ...


def attackable(model: nn.Module) -> nn.Module:
    """What an attack on a defence around this network sees in its place: the surrogate that it declares, or itself."""
    declared = adaptation_of(model)
    surrogate = None if declared is None else declared.surrogate
    return surrogate if isinstance(surrogate, nn.Module) else model


def around(model: nn.Module, outer: Adaptation) -> Adaptation:
    """How to attack a defence around a network: as the defence declares, and as the network does if it is defended.

    Args:
        model: the network behind the defence.
        outer: what the defence declares, its surrogate around `attackable` of the network.
    """
    inner = adaptation_of(model)
    if inner is None:
        return outer
    return replace(
        outer,
        how=f"{outer.how}; behind it: {inner.how}",
        test=outer.test or inner.test,
        objective=outer.objective or inner.objective,
        methods=tuple(dict.fromkeys((*outer.methods, *inner.methods))),
    )


def adaptation_of(model: Classifier) -> Adaptation | None:
    """What a classifier declares; None for one that declares nothing."""
    return model.adaptation() if isinstance(model, Defended) else None
