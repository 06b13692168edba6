"""C1 to C3, C9, C10: consistency of attacks and budgets for any model."""

import math

import torch
from torch import Tensor

from assay.core.combinators import with_budget
from assay.core.outcome import Status
from assay.trust.again import attack_again, broken
from assay.trust.answer import CheckResult, Level, inconclusive, issue, not_applicable, passed, warning
from assay.trust.context import AttackResult, CheckContext
from assay.trust.rivals.baselines import beats_queries
from assay.trust.rivals.students import beats_student
from assay.trust.vary import at_less_effort, over_the_box

_FEW, _SMALL, _WIDE = 8, 32, 64
_STEPS = 1000
"""Steps that C1 to C3 allow an attack for a sample: they ask about the budget, not how strong the attack is."""
_ANY = 0.1
"""Share of samples that may survive where any image is allowed: an attack need not find its way across the box."""


def no_budget(context: CheckContext, result: AttackResult) -> CheckResult:
    """C1: a zero budget must break nothing."""
    if result.budget is None:
        return not_applicable("the attack has no budget")
    zero_attack = with_budget(result.planned.attack, 0.0)
    if zero_attack is None and result.ball is not None and result.ball.eps == 0:
        zero_attack = result.planned.attack
    if zero_attack is None:
        return inconclusive("its budget cannot be changed from outside", result.label)
    index = context.chosen[:: max(1, len(context.chosen) // _FEW)]
    count = attack_again(context, at_less_effort(zero_attack, _STEPS), index).count(Status.BROKEN)
    text = f"with a budget of 0 it breaks {count} of {len(index)} samples"
    if count and not context.is_random:
        return issue(text, float(count), 0.0, about=result.label)
    return passed(text + (" (the model is random)" if count else ""), float(count), 0.0, about=result.label)


def monotone(context: CheckContext, result: AttackResult) -> CheckResult:
    """C2: a larger budget breaks what a smaller one broke, and the budget has an effect."""
    if result.budget is None or (result.ball is not None and result.ball.eps <= 0):
        return not_applicable("the attack has no budget")
    index = context.chosen[:: max(1, len(context.chosen) // _SMALL)]
    less, more, most = (with_budget(result.planned.attack, factor) for factor in (0.5, 4, _WIDE))
    if less is None or more is None or most is None:
        return inconclusive("its budget cannot be changed from outside", result.label)
    less, more, most = (at_less_effort(attack, _STEPS) for attack in (less, more, most))
    half = broken(attack_again(context, less, index))
    full = broken(result.outcome)[index]
    left = torch.isin(index, context.survivors(index, result.budget))
    lost, few = index[half & left], max(1, 0.03 * len(index))
    if len(lost) > few:
        return issue(
            f"{len(lost)} of {len(index)} samples are broken at half the budget, and survive every attack "
            "at all of it: the attacks do not use the budget that they have",
            float(len(lost)),
            1.0,
            tuple(lost.tolist()),
            result.label,
        )
    wide = broken(attack_again(context, more, index))
    right = int((result.outcome.status[index] != int(Status.MISCLASSIFIED)).sum())
    if right >= _FEW and int(half.sum()) == int(full.sum()) == int(wide.sum()) < right - few:
        widest = broken(attack_again(context, most, index))
        if int(widest.sum()) <= int(full.sum()):
            return warning(
                f"half, all, four and {_WIDE} times the budget break the same {int(full.sum())} of {right} "
                "samples: the budget has no effect",
                float(full.sum()),
                float(right),
                about=result.label,
            )
    return passed(
        f"half, all and four times the budget break {int(half.sum())}, {int(full.sum())} and "
        f"{int(wide.sum())} of {len(index)}",
        about=result.label,
    )


def unbounded(context: CheckContext) -> CheckResult:
    """C3: where a grey image is allowed no more survive than by chance, where any image is next to nothing."""
    balls = [
        result for result in context.claims if over_the_box(result.planned.attack, context.x.shape[1:]) is not None
    ]
    index = context.chosen[:: max(1, len(context.chosen) // _SMALL)]
    index = index[context.y[index] == context.clean_logits.argmax(1).cpu()[torch.isin(context.chosen, index)]]
    n, classes = len(index), context.clean_logits.shape[1]
    if not balls:
        return not_applicable("no attack has a budget that can be changed")
    if n < _FEW:
        return inconclusive(f"{n} samples that were right before are too few")
    refuses = context.adaptation is not None and context.adaptation.test is not None
    grey = index if refuses else _survivors_with(context, balls, index, 0.5)  # a detector may well refuse a grey image
    chance = 1 / classes + 2 * math.sqrt((1 - 1 / classes) / (classes * n))
    if len(grey) / n > chance and not refuses:
        return issue(
            f"even with a budget that allows a grey image {len(grey)} of {n} samples survive every attack: "
            "the attacks fail, it is not that the model withstands them (masked gradients, or a wrong loss)",
            len(grey) / n,
            chance,
            tuple(grey.tolist()),
        )
    free = _survivors_with(context, balls, grey, 1.0)
    if len(free) / n > _ANY:
        return warning(
            f"even with a budget that allows any image {len(free)} of {n} samples survive every attack: "
            "steps of this size lead nowhere",
            len(free) / n,
            _ANY,
            tuple(free.tolist()),
        )
    if refuses:
        return passed(f"with a budget that allows any image {len(free)} of {n} samples survive", len(free) / n, _ANY)
    return passed(
        f"with a budget that allows a grey image {len(grey)} of {n} samples survive, with one that allows "
        f"any image {len(free)}",
        len(grey) / n,
        chance,
    )


def _survivors_with(context: CheckContext, results: list[AttackResult], index: Tensor, share: float) -> Tensor:
    """Samples that survive every attack with a budget of this share of the box."""
    for result in results:
        widened = over_the_box(result.planned.attack, context.x.shape[1:], share)
        if len(index) and widened is not None:
            index = index[attack_again(context, widened, index).status == int(Status.SURVIVED)]
    return index


def per_sample(context: CheckContext) -> CheckResult:
    """C9: the worst case is taken sample by sample. Holds by construction; says what the other reading would be."""
    if len(context.counted) < 2:
        return not_applicable("one attack alone has no worst case over attacks")
    survived = torch.stack([result.outcome.status == int(Status.SURVIVED) for result in context.counted])
    worst, least = float(survived.all(0).float().mean()), float(survived.float().mean(1).min())
    return passed(
        f"robust accuracy counts samples that survive every attack ({100 * worst:.1f} %), not the lowest "
        f"single attack ({100 * least:.1f} %)",
        worst,
        least,
    )


def diverse(context: CheckContext) -> CheckResult:
    """C10: attacks by gradients and attacks without; where the evaluation has none of these, C5's, or C15's."""
    if not context.claims:
        return not_applicable("nothing was attacked")
    kinds = {stage.attack.traits.access for result in context.claims for stage in result.stages}
    count = sum(len(result.stages) for result in context.claims)
    stages = f"{count} {'attack' if count == 1 else 'attacks'}"
    if "gradient" in kinds and kinds & {"scores", "labels"}:
        return passed(
            f"{stages}: by gradients, and by {' and '.join(sorted(kinds & {'scores', 'labels'}))} alone",
            float(len(kinds)),
            2.0,
        )
    if not context.differentiable and kinds & {"scores", "labels"}:
        return passed("the model has no gradients; attacked by queries", float(len(kinds)), 1.0)
    if "gradient" in kinds:
        queries = context.memory.get("C5") or beats_queries(context)
        if queries.level is Level.PASSED:
            return passed(f"{stages} by gradients; for one without, C5: {queries.text}", 2.0, 2.0)
        students = (
            (context.memory.get("C15") or beats_student(context)) if queries.level is Level.NOT_APPLICABLE else queries
        )
        if students.level is Level.PASSED:
            return passed(f"{stages} by gradients; for one without the model's, C15: {students.text}", 2.0, 2.0)
    lacking = "attack that needs no gradient (such as square)" if "gradient" in kinds else "attack by gradients"
    return warning(f"all attacks are of one kind; add an {lacking}", float(len(kinds)), 2.0)
