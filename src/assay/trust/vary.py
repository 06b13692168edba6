"""Variations of an attack: more effort, another step size, another budget."""

import math
from collections.abc import Sequence
from dataclasses import replace

from assay.core.attack import Attack
from assay.core.combinators import AnyAttack, unfold, vary_attacks
from assay.parts.balls import Ball

_TOKEN = 0.01


def with_effort(attack: AnyAttack, factor: float, *, searches: bool = True) -> AnyAttack | None:
    """The attack with so many times the steps or queries; None if it has none.

    Args:
        attack: any attack.
        factor: on its steps or queries.
        searches: whether the parts that need no gradient are given more, too; else they are cut to a hundredth.
    """

    def more(plain: Attack[object]) -> Attack[object] | None:
        if searches or plain.traits.access == "gradient":
            return plain.vary(effort=factor)
        return plain.vary(effort=_TOKEN)

    return vary_attacks(attack, more)


def with_step_size(attack: AnyAttack, factor: float) -> AnyAttack | None:
    """The attack with so many times the step size; None if it chooses its step size by itself."""
    return vary_attacks(attack, lambda plain: plain.vary(step_size=factor))


def over_the_box(attack: AnyAttack, shape: Sequence[int], share: float = 1.0) -> AnyAttack | None:
    """The attack with a budget that reaches over this share of the box; None where its budget is no ball.

    Args:
        attack: any attack.
        shape: of an image.
        share: of the way from one end of the box to the other; all of it allows any image, a half a grey one.
    """
    size = math.prod(shape)

    def free(plain: Attack[object]) -> Attack[object] | None:
        ball = plain.geometry
        if not isinstance(ball, Ball):
            return None
        radius = share * {"linf": 1.0, "l2": math.sqrt(size), "l1": float(size)}[ball.norm]
        return plain.vary(geometry=replace(ball, eps=max(radius, ball.eps)))

    return vary_attacks(attack, free)


def at_less_effort(attack: AnyAttack, most: int) -> AnyAttack:
    """The attack with so many fewer steps that a sample that survives costs at most ``most`` of them, where it can be.

    For questions that are not about how strong it is.
    """
    steps = sum(len(stage.variants) * (stage.attack.traits.steps or 0) for stage in unfold(attack))
    cheaper = with_effort(attack, max(most / steps, 0.1)) if steps > most else None
    return attack if cheaper is None else cheaper
