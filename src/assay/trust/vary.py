"""Variations of an attack: more effort, another step size, another budget."""

from dataclasses import replace

from assay.core.attack import Attack
from assay.core.combinators import AnyAttack, unfold, vary_attacks
from assay.core.geometry import scaled
from assay.parts.balls import Ball


def with_effort(attack: AnyAttack, factor: float, *, searches: bool = True) -> AnyAttack | None:
    """The attack with so many times the steps or queries; None if it has none.

    Args:
        attack: any attack.
        factor: on its steps or queries.
        searches: whether the parts that need no gradient are given more, too.
    """

    def more(plain: Attack[object]) -> Attack[object] | None:
        return plain.vary(effort=factor) if searches or plain.traits.access == "gradient" else None

    return vary_attacks(attack, more)


def with_step_size(attack: AnyAttack, factor: float) -> AnyAttack | None:
    """The attack with so many times the step size; None if it chooses its step size by itself."""
    return vary_attacks(attack, lambda plain: plain.vary(step_size=factor))


def with_budget(attack: AnyAttack, factor: float) -> AnyAttack | None:
    """The attack with so many times its budget, or each of its budgets; None if these cannot be changed."""

    def larger(plain: Attack[object]) -> Attack[object] | None:
        wider = None if plain.geometry is None else scaled(plain.geometry, factor)
        return None if wider is None else plain.vary(geometry=wider)

    return vary_attacks(attack, larger)


def with_radius(attack: AnyAttack, eps: float) -> AnyAttack | None:
    """The attack with this radius wherever its budget is a ball; None if there is none, or it cannot be changed."""

    def wider(plain: Attack[object]) -> Attack[object] | None:
        ball = plain.geometry
        return plain.vary(geometry=replace(ball, eps=eps)) if isinstance(ball, Ball) else None

    return vary_attacks(attack, wider)


def at_less_effort(attack: AnyAttack, most: int) -> AnyAttack:
    """The attack with so many fewer steps that a sample that survives costs at most ``most`` of them, where it can be.

    For questions that are not about how strong it is.
    """
    steps = sum(len(stage.variants) * (stage.attack.traits.steps or 0) for stage in unfold(attack))
    cheaper = with_effort(attack, max(most / steps, 0.1)) if steps > most else None
    return attack if cheaper is None else cheaper
