"""B6 to B8: more steps, more restarts and other step sizes break no more."""

from dataclasses import dataclass

from assay.core.combinators import AnyAttack
from assay.core.outcome import Outcome
from assay.core.types import Labels
from assay.trust.again import attack_again, broken
from assay.trust.answer import CheckResult, not_applicable, passed, warning
from assay.trust.context import AttackResult, CheckContext
from assay.trust.vary import with_effort, with_step_size

GAIN = 0.005
"""Share of samples that more effort may still break: half a point, and of few samples one."""
_TRIED, _LEAST_TRIED, _CHEAP = 12, 3, 20_000
"""Survivors that an attack is tried on in another form (those nearest to the boundary, and as many others): so many, or
fewer, at least three, where that would cost more than half of the evaluation and than so many passes."""


@dataclass(frozen=True)
class Again:
    """What another form of an attack did.

    Attributes:
        left: how many samples every claimed attack within its budget had left.
        tried: the samples that it was tried on, ``(m,)``.
        outcome: of these; None if there were none.
    """

    left: int
    tried: Labels
    outcome: Outcome | None

    @property
    def newly_broken(self) -> Labels:
        """Those that it broke."""
        return self.tried if self.outcome is None else self.tried[broken(self.outcome)]


def converged(context: CheckContext, result: AttackResult) -> CheckResult:
    """B6: twice the steps from other starts break no more; a search beside attacks by gradients is not asked again."""
    if result.budget is None:
        return not_applicable("the attack has no budget")
    again = doubled(context, result)
    if again is None:
        return not_applicable("the attack has no steps")
    advice = "Use more of them, or another step size; or it was not run as planned"
    return _gained(context, result, again, "with twice the steps", advice)


def doubled(context: CheckContext, result: AttackResult) -> Again | None:
    """The attack with twice the steps from other starts, on what is left; None if it has no steps."""
    known = _known(context, result)
    if known is not None:
        return known
    by_gradients = any(stage.attack.traits.access == "gradient" for stage in result.stages)
    more = with_effort(result.planned.attack, 2, searches=not by_gradients)
    again = None if more is None else _try_again(context, result, more, seed=1)
    context.memory["doubled"] = (*context.memory.get("doubled", ()), (result, again))
    return again


def _known(context: CheckContext, result: AttackResult) -> Again | None:
    """What is remembered of `doubled`; two attacks may have the same words."""
    pairs: tuple[tuple[AttackResult, Again | None], ...] = context.memory.get("doubled", ())
    return next((again for about, again in pairs if about is result), None)


def restarted(context: CheckContext, result: AttackResult) -> CheckResult:
    """B7: as many restarts again break no more."""
    if result.budget is None:
        return not_applicable("the attack has no budget")
    doubled(context, result)
    twice = _known(context, result)  # where nothing is remembered the restarts are asked for, too
    if twice is not None and not len(twice.newly_broken):
        return passed("other starts with twice the steps break no more (B6)", 0.0, GAIN, about=result.label)
    tries = max(len({v.restart for v in stage.variants}) for stage in result.stages)
    again = _try_again(context, result, result.planned.attack, seed=2)
    return _gained(context, result, again, f"with {2 * tries} restarts instead of {tries}", "Use more restarts")


def step_size(context: CheckContext, result: AttackResult) -> CheckResult:
    """B8: half and twice the step size break no more."""
    if result.budget is None:
        return not_applicable("the attack has no budget")
    for factor, label in ((0.5, "half"), (2.0, "twice")):
        other = with_step_size(result.planned.attack, factor)
        if other is None:
            return not_applicable("the attack chooses its step size by itself")
        how, advice = f"with {label} the step size", "Choose the step size by trying several"
        check_result = _gained(context, result, _try_again(context, result, other), how, advice)
        if check_result.level != "passed":
            return check_result
    return passed("neither half nor twice the step size breaks more", 0.0, GAIN, about=result.label)


def _how_many(result: AttackResult, left: Labels) -> int:
    """How many survivors another form of the attack is tried on, so that it costs at most half of the evaluation.

    A sample is taken to cost twice what it did. Where that is little, they are `_TRIED` in any case.
    """
    spent = (result.outcome.forwards + result.outcome.backwards).double()
    each, room = 2 * float(spent[left].mean()), max(float(spent.sum()) / 2, _CHEAP)
    return _TRIED if each * _TRIED <= room else max(int(room / each), _LEAST_TRIED)


def _try_again(context: CheckContext, result: AttackResult, varied: AnyAttack, *, seed: int = 0) -> Again:
    """Another form of the attack on samples that every claimed attack within its budget left."""
    left = context.survivors(budget=result.budget)
    if not len(left):
        return Again(0, left, None)
    tried = context.likeliest(left, _how_many(result, left))
    return Again(len(left), tried, attack_again(context, varied, tried, seed=context.seed + seed))


def _gained(context: CheckContext, result: AttackResult, again: Again, how: str, advice: str) -> CheckResult:
    """Whether it breaks more."""
    n = len(context.chosen)
    threshold = max(GAIN, 1 / max(n, 1))
    if again.outcome is None:
        return passed(f"no sample of {n} is left that it could break {how}", 0.0, threshold, about=result.label)
    tried, newly_broken = again.tried, again.newly_broken
    share = len(newly_broken) / n
    if share > threshold:
        return warning(
            f"{how} it breaks {len(newly_broken)} of {n} samples that all attacks had left: it had not converged. "
            f"{advice}",
            share,
            threshold,
            tuple(newly_broken.tolist()),
            result.label,
        )
    few = f" ({len(tried)} of the {again.left} that are left were tried)" if len(tried) < again.left else ""
    return passed(f"{how} it breaks {len(newly_broken)} more of {n} samples{few}", share, threshold, about=result.label)
