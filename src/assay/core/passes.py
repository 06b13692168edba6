"""What something costs in passes of a network."""

from dataclasses import dataclass

from assay.core.combinators import AnyAttack, Stage, unfold


@dataclass(frozen=True)
class Passes:
    """Passes of a network, one image each.

    Attributes:
        forwards: forward passes.
        backwards: backward passes.

    Example:
        >>> 10 * (Passes(1.0) + Passes(1.0, 1.0))
        Passes(forwards=20.0, backwards=10.0)
    """

    forwards: float = 0.0
    backwards: float = 0.0

    @property
    def total(self) -> float:
        """Of both kinds."""
        return self.forwards + self.backwards

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(self.forwards + other.forwards, self.backwards + other.backwards)

    def __rmul__(self, times: float) -> "Passes":
        return Passes(times * self.forwards, times * self.backwards)


def most_forwards(attack: AnyAttack) -> float | None:
    """Forward passes of a sample that survives all of an attack; None where no number limits them.

    Args:
        attack: any attack.

    Example:
        >>> from assay.attacks import PGD
        >>> from assay.core.combinators import Restarts
        >>> most_forwards(Restarts(PGD(eps=8/255, steps=40), 5))
        205.0
    """
    total = 0.0
    for stage in unfold(attack):
        each = stage_forwards(stage)
        if each is None:
            return None
        total += len(stage.variants) * (each + 1)
    return total


def stage_forwards(stage: Stage) -> float | None:
    """Forward passes of the steps of one variant of a stage; None where no number limits them."""
    traits = stage.attack.traits
    if traits.passes is not None:
        return traits.passes
    return None if traits.steps is None else traits.steps * traits.price
