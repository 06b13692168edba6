"""What an attack declares about itself, so that nobody has to guess it from names."""

from dataclasses import dataclass

from assay.core.objective import Objective
from assay.util.validate import one_of, whole

ACCESS = ("gradient", "scores", "labels", "none")
DISTANCES = ("linf", "l2", "l1", "l0", "pixels", "groups")


@dataclass(frozen=True)
class Traits:
    """What others must know of an attack. The conformance tests hold every attack to it.

    Args:
        access: what it needs from the model to choose its next image: ``"gradient"``, ``"scores"`` (logits),
            ``"labels"`` (the predicted class), or ``"none"`` (random draws).
        steps: the most steps that a row takes; None where that is not known beforehand.
        price: forward passes of a step and row. An attack whose steps differ has a method ``price(state)``, too
            (`assay.core.attack.Priced`).
        minimises: the distance that it minimises: ``"linf"``, ``"l2"``, ``"l1"``, ``"l0"`` (values), ``"pixels"`` or
            ``"groups"``; None for an attack that looks for any image inside its budget.
        randomised: whether it draws random numbers: a restart is then another attempt.
        objective: what its gradients are of; None for an attack without gradients.
        passes: the most forward passes that the steps of a row take, where ``steps`` and ``price`` do not say it.

    Raises:
        TypeError, ValueError: another word, or a number that is no count.
    """

    access: str = "gradient"
    steps: int | None = None
    price: int = 1
    minimises: str | None = None
    randomised: bool = False
    objective: Objective | None = None
    passes: int | None = None

    def __post_init__(self) -> None:
        one_of("access", self.access, ACCESS)
        if self.steps is not None:
            whole("steps", self.steps, least=0)
        whole("price", self.price, least=0)
        if self.passes is not None:
            whole("passes", self.passes, least=0)
        if self.minimises is not None:
            one_of("minimises", self.minimises, DISTANCES)
