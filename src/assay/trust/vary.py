"""Variations of an attack: more effort, another step size, another budget."""

from dataclasses import replace

from assay.core.attack import Attack
from assay.core.combinators import AnyAttack, vary_attacks
from assay.core.geometry import scaled
from assay.parts.balls import Ball


def with_effort(attack: AnyAttack, factor: float) -> AnyAttack | None:
    """The attack with so many times the steps or queries; None if it has none."""
    return vary_attacks(attack, lambda plain: plain.vary(effort=factor))


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
