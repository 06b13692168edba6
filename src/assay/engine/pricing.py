"""What a step costs in forward passes, and which rows can pay for one: ``max_forwards`` is never exceeded."""

from dataclasses import replace
from typing import Any

from assay.core.attack import Attack, Priced, Step
from assay.core.tree import choose
from assay.core.types import Count, Flag
from assay.engine.active_rows import Active


def cannot_begin(active: Active, attack: Attack[Any], draws: int, most: int) -> Flag:
    """Rows that have not taken a step, and whose sample has too few passes left for one, ``(b,)`` on the CPU.

    Args:
        active: the rows.
        attack: what the step is of.
        draws: passes that one look at an image costs (`Oracle.draws`).
        most: passes of a sample in all.
    """
    first: Count | int = attack.price(active.state).cpu() if isinstance(attack, Priced) else attack.traits.price
    return (active.steps == 0) & (active.spent + first * draws > most)


def end_where_spent(
    step: Step[Any], counted: Active, cost: Count, attack: Attack[Any], draws: int, most: int
) -> Step[Any]:
    """The step, done for rows that would go on and cannot pay for the next one.

    What such a row leaves to be measured is the image it has seen last: of the next one it may ask nothing.

    Args:
        step: what the rows have come to.
        counted: the rows after it.
        cost: what it has cost, which the next is taken to cost, too, where the attack does not say.
        attack: what the step is of.
        draws: as in `cannot_begin`; so is ``most``.
        most: passes of a sample in all.
    """
    following = attack.price(step.state).cpu() * draws if isinstance(attack, Priced) else cost
    short = (counted.spent + counted.forwards + following > most).to(step.done.device) & ~step.done
    if not bool(short.any()):
        return step
    pending = step.left()
    if pending is not None:
        pending = choose(short.to(pending.device), step.candidate, pending)
    return replace(step, done=step.done | short, pending=pending)
