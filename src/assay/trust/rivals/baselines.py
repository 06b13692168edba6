"""C4 to C7: simple baselines and transferred images find nothing that the attacks missed."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from assay.attacks.blackbox.square import Square
from assay.attacks.fgsm import FGSM
from assay.attacks.noise import Noise
from assay.core.attack import Attack
from assay.core.combinators import AnyAttack, unfold
from assay.core.geometry import Geometry
from assay.core.outcome import Status
from assay.parts.balls import Ball
from assay.parts.unmeasured_set import UnmeasuredSet
from assay.trust.again import attack_again
from assay.trust.answer import CheckResult, inconclusive, not_applicable, passed, warning, worst_result
from assay.trust.budgets import members, within
from assay.trust.context import AttackResult, CheckContext
from assay.trust.effort import GAIN
from assay.trust.rivals.hits import judge

_DRAWS = 500
_QUERIES = 1000


@dataclass(frozen=True)
class Baseline:
    """A baseline attack that the attacks of an evaluation have to beat.

    Attributes:
        make: the baseline attack within a budget; None if there is none of its kind.
        matches: whether an attack is of its kind.
        better: whether an attack ought to find all that it finds.
        phrase: what it is, before the number of samples that it breaks.
        kind: the same for attacks of its kind that the evaluation has.
        why: what it means if it finds more.
        itself: whether it asks the model itself where a defence declares something in its place.
    """

    make: Callable[[Geometry], AnyAttack | None]
    matches: Callable[[Attack[Any]], bool]
    better: Callable[[Attack[Any]], bool]
    phrase: str
    kind: str
    why: str
    itself: bool = False


def beats_one_step(context: CheckContext) -> CheckResult:
    """C4: one gradient step finds nothing that the attacks have missed."""
    if not context.differentiable:
        return not_applicable("the model has no gradient")
    rival = Baseline(
        lambda budget: FGSM(budget) if not isinstance(budget, UnmeasuredSet) else None,
        _one_step,
        lambda attack: attack.traits.access == "gradient" and not _one_step(attack),
        "one gradient step breaks",
        "attacks of one step",
        "an iterated attack that does worse than its first step goes the wrong way: look at its loss, its targets and "
        "its step size",
    )
    return _compare_budgets(context, rival)


def beats_queries(context: CheckContext) -> CheckResult:
    """C5: a search without gradients, on the model itself, finds nothing that attacks with gradients have missed."""
    rival = Baseline(
        lambda budget: (
            Square(budget.eps, norm=budget.norm, queries=_QUERIES)
            if isinstance(budget, Ball) and budget.norm in ("linf", "l2")
            else None
        ),
        lambda attack: attack.traits.access in ("scores", "labels"),
        lambda attack: attack.traits.access == "gradient",
        f"{_QUERIES} random queries (Square) break",
        "attacks by queries alone",
        "gradients that know less than queries are masked, or the attacks by them are weak",
        itself=True,
    )
    answer = context.memory["C5"] = _compare_budgets(context, rival)
    return answer


def beats_noise(context: CheckContext) -> CheckResult:
    """C6: random noise of the same size finds nothing that the attacks have missed."""
    rival = Baseline(
        lambda budget: Noise(budget, _DRAWS) if _can_be_drawn(budget) else None,
        lambda attack: attack.traits.access == "none",
        lambda attack: attack.traits.access != "none",
        f"{_DRAWS} draws of noise break",
        "attacks by noise",
        "an attack that does worse than noise does not attack",
    )
    blank = [budget for budget in context.budgets if not _can_be_drawn(budget) and not _drawn_alone(context, budget)]
    alone = [inconclusive(f"within {budget.describe()} there is no noise to compare with") for budget in blank]
    return worst_result((_compare_budgets(context, rival), *alone))


def beats_transfer(context: CheckContext) -> CheckResult:
    """C7: images made on other models, within the budgets here, find nothing that the attacks have missed."""
    if not context.transfer_images:
        return not_applicable("no other model was attacked on the same images")
    answers = [_transferred(context, budget) for budget in context.budgets if not isinstance(budget, UnmeasuredSet)]
    return (
        worst_result(tuple(answers))
        if answers
        else not_applicable("no attack has a budget in which images could be held")
    )


def _transferred(context: CheckContext, budget: Geometry) -> CheckResult:
    survivors = set(context.survivors(torch.arange(len(context.x)), budget).tolist())
    pairs = list(
        islice(
            (pair for pair in context.transfer_images if pair[0] in survivors and _inside(context, budget, *pair)),
            4 * context.samples,
        )
    )
    if not pairs:
        return passed(f"no image made on another model lies within {budget.describe()} of a sample that survives here")
    index = torch.tensor([sample for sample, _ in pairs])
    hits = index[context.fools(index, torch.stack([image for _, image in pairs]))].unique()
    where = f"{len(index.unique())} survivors within {budget.describe()}"
    return judge(context, hits, "images made on other models break", where, "its own gradients mislead")


def _inside(context: CheckContext, budget: Geometry, sample: int, image: Tensor) -> bool:
    at = torch.tensor([sample])
    mask = None if context.masks is None else context.masks[at]
    return bool(members(budget, context.at(at), image[None].to(torch.float32), mask))


def _can_be_drawn(budget: Geometry) -> bool:
    return not isinstance(budget, UnmeasuredSet) or budget.drawn is not None


def _drawn_alone(context: CheckContext, budget: Geometry) -> bool:
    """Whether all that is claimed of a budget comes from random draws: those are the noise."""
    claims = [result for result in context.claims if result.budget == budget]
    return all(stage.attack.traits.access == "none" for result in claims for stage in result.stages)


def _one_step(attack: Attack[Any]) -> bool:
    return attack.traits.access == "gradient" and attack.traits.steps == 1


def _compare_budgets(context: CheckContext, rival: Baseline) -> CheckResult:
    """The worst answer over the budgets that are claimed."""
    results = [
        _compare(context, budget, attack, rival)
        for budget in context.budgets
        for attack in (rival.make(budget),)
        if attack is not None
    ]
    return (
        worst_result(tuple(results))
        if results
        else not_applicable("no attack has a budget in which it could be compared")
    )


def _compare(context: CheckContext, budget: Geometry, attack: AnyAttack, rival: Baseline) -> CheckResult:
    alone, budget_text = _by_its_kind_alone(context, budget, rival), budget.describe()
    n = len(context.x)
    if alone is not None and len(alone) / n > max(GAIN, 1.5 / n):
        return warning(
            f"{rival.kind} break {len(alone)} of {n} samples within {budget_text} that no better informed attack "
            f"broke: {rival.why}",
            len(alone) / n,
            max(GAIN, 1.5 / n),
            tuple(alone.tolist()[:100]),
        )
    index = context.survivors(budget=budget)
    stands_in = rival.itself and context.attack_model is not context.model and context.is_adapted
    if len(index) and not stands_in and _was_asked(context, budget, attack, rival):
        return passed(f"{rival.kind}, which broke none that others did not, were part of the evaluation")
    if not len(index):
        return passed(f"no sample survives within {budget_text} that it could break")
    itself = rival.itself and context.is_adapted and context.adaptation is not None
    outcome = attack_again(context, attack, index, itself=itself)
    where = f"{len(index)} survivors within {budget_text}"
    return judge(context, index[outcome.status == int(Status.BROKEN)], rival.phrase, where, rival.why)


def _was_asked(context: CheckContext, budget: Geometry, attack: AnyAttack, rival: Baseline) -> bool:
    """Whether the evaluation has an attack of the rival's kind, with as many steps, on all that is left."""
    least = sum(stage.attack.traits.steps or 0 for stage in unfold(attack))
    return any(
        rival.matches(stage.attack) and (stage.attack.traits.steps or 0) >= least
        for result in context.claims
        if result.budget == budget
        for stage in result.stages
    )


def _by_its_kind_alone(context: CheckContext, budget: Geometry, rival: Baseline) -> Tensor | None:
    """Samples that attacks of the rival's kind broke in the evaluation, and none that ought to be better.

    Of a cascade, whose later parts see only what the earlier ones left, a part counts where all better ones went before
    it. None where there is nothing to compare.
    """
    inside = [r for r in context.claims if within(r.budget, budget)]
    whole = [r for r in inside if r.budget == budget and any(rival.better(s.attack) for s in r.stages)]
    if not whole:
        return None
    by_rival, by_better = (torch.zeros(len(context.x), dtype=torch.bool) for _ in range(2))
    for result in inside:
        better = [rival.better(stage.attack) for stage in result.stages]
        last = max((i for i, value in enumerate(better) if value), default=-1)
        by_better |= _broken_by(result, lambda i, better=better: better[i])  # type: ignore[misc]
        by_rival |= _broken_by(result, lambda i, r=result, last=last: i > last and rival.matches(r.stages[i].attack))  # type: ignore[misc]
    return (by_rival & ~by_better).nonzero().squeeze(1)


def _broken_by(result: AttackResult, chosen: Callable[[int], bool]) -> Tensor:
    """Which samples were broken by the chosen parts of an attack."""
    outcome: Any = result.outcome
    is_chosen = torch.tensor([chosen(i) for i in range(len(result.stages))] + [False])
    stage = outcome.stage.clamp(-1, len(result.stages) - 1)
    is_broken: Tensor = (outcome.status == int(Status.BROKEN)) & is_chosen[stage]
    return is_broken
