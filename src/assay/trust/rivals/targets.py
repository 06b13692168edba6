"""C8: attacks on one wrong class after another find nothing that was missed."""

import torch
from torch import Tensor, nn

from assay.attacks.auto_pgd.apgd import APGD
from assay.core.model_calls import Classifier, call
from assay.core.types import Images, Logits
from assay.parts.balls import Ball
from assay.trust.again import attack_again, broken
from assay.trust.answer import CheckResult, not_applicable, passed, worst_result
from assay.trust.budgets import within
from assay.trust.context import CheckContext
from assay.trust.rivals.hits import judge

_TRIED = 32


def all_targets(context: CheckContext) -> CheckResult:
    """C8: attacks on one wrong class after another find nothing that the attacks have missed.

    Where the evaluation has none within a budget, or the model has outputs that no image has as its label or gets, APGD
    with 30 steps for each of nine classes that do occur, on 32 survivors: outputs that are always second and never
    first take the targets of all attacks that follow the order of outputs.
    """
    balls = [b for b in context.budgets if isinstance(b, Ball) and b.eps > 0]
    if not balls or not context.differentiable:
        return not_applicable("no attack has a ball as its budget, or the model has no gradient")
    return worst_result(tuple(_targets_within(context, ball) for ball in balls))


def _targets_within(context: CheckContext, ball: Ball) -> CheckResult:
    inside = [result for result in context.claims if within(result.budget, ball)]
    one_by_one = any(v.rank for r in inside if r.budget == ball for stage in r.stages for v in stage.variants)
    occurs = _occurring(context)
    count, idle = int(occurs.sum()), int((~occurs).sum())
    if one_by_one and not idle:
        return passed("wrong classes were tried one by one")
    left = context.survivors(budget=ball)
    if not len(left) or count < 3:
        return passed(f"nothing is left within {ball.describe()} that other targets could break")
    tried = context.likeliest(left, _TRIED)
    attack = APGD(ball.eps, norm=ball.norm, steps=30, loss="dlr" if count > 3 else "margin", targets=min(9, count - 1))
    outcome = attack_again(context, attack, tried, wrap=lambda model: Occurring(model, occurs) if idle else model)
    hits = broken(outcome) & context.fools(tried, outcome.images) if idle else broken(outcome)
    where = f"{len(tried)} survivors within {ball.describe()}"
    who = "attacks on one wrong class after another break"
    why = "the evaluation has tried no wrong class by itself. Add an attack with targets (apgd:loss=dlr,targets=9)"
    if idle:
        who = f"attacks on one after another of the {count} classes that occur (of {len(occurs)} outputs) break"
        why = "outputs that are never first have taken the targets of its attacks" if one_by_one else why
    return judge(context, tried[hits], who, where, why)


def _occurring(context: CheckContext) -> Tensor:
    """Which outputs some image has as its label, or is classified as, ``(k,)``."""
    occurs = torch.zeros(context.clean_logits.shape[1], dtype=torch.bool)
    occurs[context.y[context.y < len(occurs)].cpu()] = True
    occurs[context.clean_logits.argmax(1).cpu()] = True
    return occurs


class Occurring(nn.Module):
    """A model whose other outputs are out of reach.

    Args:
        model: the model.
        occurs: which outputs stay, ``(k,)``.
    """

    def __init__(self, model: Classifier, occurs: Tensor) -> None:
        super().__init__()
        self.model, self.occurs = model, occurs

    def forward(self, x: Images) -> Logits:
        """Logits, ``(b, k)``; the others lie below all."""
        logits: Logits = call(self.model, x)
        lowest = logits.detach().amin(1, keepdim=True) - 1
        return torch.where(self.occurs.to(logits.device), logits, lowest)
