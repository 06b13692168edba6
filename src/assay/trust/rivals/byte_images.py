"""C17: a search among 8-bit images finds nothing that the attacks have missed."""

import torch
from torch import Tensor, nn

from assay.attacks.auto_pgd.apgd import APGD
from assay.attacks.blackbox.square import Square
from assay.core.combinators import AnyAttack
from assay.core.model_calls import Classifier, call
from assay.core.types import Images, Logits
from assay.parts.balls import Ball
from assay.trust.again import attack_again
from assay.trust.answer import CheckResult, not_applicable, passed, worst_result
from assay.trust.context import CheckContext
from assay.trust.rivals.hits import judge

_STEPS, _QUERIES, _TRIED, _LEVELS = 50, 500, 32, 255


class Rounded(nn.Module):
    """A model that sees the nearest 8-bit image; gradients pass as if nothing were rounded.

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
    attacks in another way. APGD with 50 steps on the model behind a rounding through which gradients pass, and Square
    with 500 queries, on 32 survivors; what they end with is cut to the levels that lie nearer to the clean image, so
    that it stays in the ball.

    Source: our own; gradients pass a rounding as Athalye, Carlini & Wagner, "Obfuscated gradients give a false sense of
    security", ICML 2018, section 4.1.1, have it.
    """
    balls = [b for b in context.budgets if isinstance(b, Ball) and b.eps >= 1 / _LEVELS]
    if not balls or not context.differentiable:
        return not_applicable("no attack has a ball of a level or more as its budget, or the model has no gradient")
    return worst_result(tuple(_within(context, ball) for ball in balls))


def _within(context: CheckContext, ball: Ball) -> CheckResult:
    left = context.survivors(budget=ball)
    if not len(left):
        return passed(f"no sample survives within {ball.describe()} that an 8-bit image could break")
    tried = context.likeliest(left, _TRIED)
    loss, hits = "dlr" if context.clean_logits.shape[1] > 3 else "margin", torch.zeros(len(tried), dtype=torch.bool)
    searches: list[AnyAttack] = [APGD(ball.eps, norm=ball.norm, steps=_STEPS, loss=loss)]
    searches += [Square(ball.eps, norm=ball.norm, queries=_QUERIES)] if ball.norm in ("linf", "l2") else []
    for search in searches:
        outcome = attack_again(context, search, tried, wrap=Rounded, stop="never")  # cut, a first hit may be lost
        hits |= context.fools(tried, _cut(context.at(tried), outcome.images))
    who, where = "8-bit images break", f"{len(tried)} survivors within {ball.describe()}"
    return judge(
        context, tried[hits], who, where, "it answers images of 256 levels in another way than those between them"
    )


def _cut(clean: Images, images: Images) -> Tensor:
    """Images whose distance from the clean one is a whole number of levels in each value, and no longer."""
    levels = ((images.to(clean) - clean) * _LEVELS + 1e-3 * (images.to(clean) - clean).sign()).trunc()
    return (clean + levels / _LEVELS).clamp(0, 1)
