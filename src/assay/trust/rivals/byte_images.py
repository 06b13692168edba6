"""C17: a search among 8-bit images finds nothing that the attacks have missed."""

import torch
from torch import Tensor, nn

from assay.attacks.auto_pgd.apgd import APGD
from assay.attacks.blackbox.square import Square
from assay.attacks.pgd import PGD
from assay.core.combinators import AnyAttack
from assay.core.model_calls import Classifier, call
from assay.core.types import Images, Logits
from assay.parts.balls import Ball, Split
from assay.trust.again import attack_again, broken
from assay.trust.answer import CheckResult, not_applicable, passed, worst_result
from assay.trust.budgets import balls_or_regions
from assay.trust.context import CheckContext
from assay.trust.rivals.hits import judge

_STEPS, _QUERIES, _TRIED, _LEVELS = 50, 500, 32, 255


class Rounded(nn.Module):
    """A model that sees the nearest 8-bit image; gradients pass as if nothing were rounded (straight through).

    Args:
        model: the model.
    """

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Images) -> Logits:
        """Logits, ``(b, k)``."""
        logits: Logits = call(self.model, x + ((x * _LEVELS).round() / _LEVELS - x).detach())
        return logits


def beats_bytes(context: CheckContext) -> CheckResult:
    """C17: a search whose every image has 8 bits a channel finds nothing that the attacks have missed.

    Users give a model images of 256 levels, attacks give it images between them: one that tells these apart answers
    attacks in another way. APGD with 50 steps on the model behind a rounding through which gradients pass (in two
    regions PGD), and Square with 500 queries (linf, l2), on 32 survivors; what they end with is cut to the levels that
    lie nearer to the clean image, so that it stays in the budget.

    Source: our own; gradients pass a rounding as Athalye, Carlini & Wagner, "Obfuscated gradients give a false sense of
    security", ICML 2018, section 4.1.1, have it.
    """
    budgets = [b for b in balls_or_regions(context.budgets) if _widest(b) >= 1 / _LEVELS]
    if not budgets or not context.differentiable:
        return not_applicable("no attack has a budget of a level or more, or the model has no gradient")
    return worst_result(tuple(_within(context, budget) for budget in budgets))


def _widest(budget: Ball | Split) -> float:
    return budget.eps if isinstance(budget, Ball) else max(budget.foreground.eps, budget.background.eps)


def _within(context: CheckContext, budget: Ball | Split) -> CheckResult:
    left = context.survivors(budget=budget)
    if not len(left):
        return passed(f"no sample survives within {budget.describe()} that an 8-bit image could break")
    tried = context.likeliest(left, _TRIED)
    hits = torch.zeros(len(tried), dtype=torch.bool)
    for search in _searches(budget, context.clean_logits.shape[1]):
        outcome = attack_again(context, search, tried, wrap=Rounded, stop="never")  # cut, a first hit may be lost
        hits |= broken(outcome) & context.fools(tried, cut_to_levels(context.at(tried), outcome.images))
    who, where = "8-bit images break", f"{len(tried)} survivors within {budget.describe()}"
    return judge(
        context,
        tried[hits],
        who,
        where,
        "it answers them in another way than images between levels, or attacks were too weak",
    )


def _searches(budget: Ball | Split, classes: int) -> list[AnyAttack]:
    if isinstance(budget, Split):
        return [PGD(budget, steps=_STEPS, loss="margin")]
    gradients = APGD(budget.eps, norm=budget.norm, steps=_STEPS, loss="dlr" if classes > 3 else "margin")
    return [gradients, *([] if budget.norm == "l1" else [Square(budget.eps, norm=budget.norm, queries=_QUERIES)])]


def cut_to_levels(clean: Images, images: Images) -> Tensor:
    """Images whose distance from the clean one is a whole number of levels in each value, and no longer.

    Args:
        clean: ``(b, c, h, w)`` in [0, 1].
        images: one for each.
    """
    change = images.to(clean) - clean
    levels = (change * _LEVELS + 1e-3 * change.sign()).trunc()  # float32 may lie a little below a level
    return (clean + levels / _LEVELS).clamp(0, 1)
