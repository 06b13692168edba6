"""C17: a search among images like those that are stored finds nothing that the attacks have missed."""

from dataclasses import dataclass

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
_FEW, _ENOUGH, _MOST, _VALUES = 64, 8, 256, 2**22
_NEAR = 1e-4


@dataclass(frozen=True)
class Form:
    """What all images of a set have in common, and images between them have not.

    Attributes:
        name: for messages.
        levels: the values that there are, ascending, ``(l,)``; None for steps of 1/255 from the clean image.
        grey: all channels alike.
        constant: values that are the same in every image, bool ``(c, h, w)``; None if none is.
    """

    name: str
    levels: Tensor | None = None
    grey: bool = False
    constant: Tensor | None = None

    def near(self, x: Images, usual: Images) -> Images:
        """Images of this form near others; ``usual``: an image ``(c, h, w)`` that has the constant values."""
        if self.grey:
            x = x.mean(1, keepdim=True).expand_as(x)
        if self.levels is None:
            x = (x * _LEVELS).round() / _LEVELS
        else:
            levels = self.levels.to(x)
            x = levels[torch.bucketize(x.contiguous(), (levels[1:] + levels[:-1]) / 2)]
        return x if self.constant is None else torch.where(self.constant.to(x.device), usual.to(x), x)

    def cut(self, clean: Images, images: Images) -> Images:
        """Images of this form between clean ones, which have it, and others: no further away in any value.

        Args:
            clean: ``(b, c, h, w)`` in [0, 1].
            images: one for each.
        """
        change = images.to(clean) - clean
        if self.grey:
            change = change.mean(1, keepdim=True).expand_as(change)
        if self.constant is not None:
            change = torch.where(self.constant.to(change.device), torch.zeros_like(change), change)
        if self.levels is None:
            return cut_to_levels(clean, clean + change)
        levels, value = self.levels.to(clean), (clean + change).contiguous()
        below = levels[(torch.searchsorted(levels, value + _NEAR, right=True) - 1).clamp(min=0)]
        above = levels[torch.searchsorted(levels, value - _NEAR).clamp(max=len(levels) - 1)]
        return torch.where(change >= 0, torch.maximum(below, clean), torch.minimum(above, clean))


BYTES = Form("8-bit images")


def form_of(x: Images) -> Form | None:
    """What images have in common: few values, channels that are alike, values that are the same in each.

    None where there is nothing of the kind, or too few images to tell.

    Args:
        x: ``(n, c, h, w)`` in [0, 1].

    Example:
        >>> form_of((torch.rand(9, 1, 4, 4) * 4).round() / 4).levels.tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if len(x) < _ENOUGH:
        return None
    levels = x.unique()
    few = levels if 1 < len(levels) <= _FEW else None
    grey = x.shape[1] > 1 and bool((x == x[:, :1]).all())
    constant = (x == x[:1]).all(0)
    some = constant if bool(constant.any()) and not bool(constant.all()) else None
    if few is None and not grey and some is None:
        return None
    return Form("images of the values, channels and borders that the data have", few, grey, some)


class NearForm(nn.Module):
    """A model that sees the nearest image of a form; gradients pass as if nothing were changed (straight through).

    Args:
        model: the model.
        form: the form.
        usual: an image ``(c, h, w)`` of it.
    """

    def __init__(self, model: Classifier, form: Form, usual: Images) -> None:
        super().__init__()
        self.model, self.form = model, form
        self.usual = usual

    def forward(self, x: Images) -> Logits:
        """Logits, ``(b, k)``."""
        logits: Logits = call(self.model, x + (self.form.near(x, self.usual) - x).detach())
        return logits


def beats_stored(context: CheckContext) -> CheckResult:
    """C17: a search whose every image is like a stored one finds nothing that the attacks have missed.

    Users give a model images of 256 levels, attacks give it images between them: one that tells these apart answers
    attacks in another way. Likewise with what else the images have in common: fewer levels, channels that are alike,
    values that never change. APGD with 50 steps on the model behind a rounding to such images through which gradients
    pass (in two regions PGD), and Square with 500 queries (linf, l2), on 32 survivors; what they end with is cut to
    values between it and the clean image, so that it stays in the budget.

    Source: our own; gradients pass a rounding as Athalye, Carlini & Wagner, "Obfuscated gradients give a false sense of
    security", ICML 2018, section 4.1.1, have it.
    """
    budgets = balls_or_regions(context.budgets)
    if not budgets or not context.differentiable:
        return not_applicable("no attack has a budget of a ball or of two, or the model has no gradient")
    pairs = [(b, form) for form in forms_of(context) for b in budgets if form is not BYTES or _widest(b) >= 1 / _LEVELS]
    if not pairs:
        return not_applicable("no budget is as wide as a level of 1/255")
    return worst_result(tuple(_within(context, budget, form) for budget, form in pairs))


def forms_of(context: CheckContext) -> tuple[Form, ...]:
    """8-bit images, and what the set's own have in common besides: of up to 256 of them, fewer where they are large."""
    count = min(len(context.x), _MOST, max(_ENOUGH, _VALUES // context.x[0].numel()))
    at = torch.linspace(0, len(context.x) - 1, count).round().long().unique()
    own = form_of(context.at(at).float().cpu())
    return (BYTES,) if own is None else (BYTES, own)


def _widest(budget: Ball | Split) -> float:
    return budget.eps if isinstance(budget, Ball) else max(budget.foreground.eps, budget.background.eps)


def _within(context: CheckContext, budget: Ball | Split, form: Form) -> CheckResult:
    left = context.survivors(budget=budget)
    if not len(left):
        return passed(f"no sample survives within {budget.describe()} that {form.name} could break")
    tried = context.likeliest(left, _TRIED)
    usual = context.at(tried[:1])[0]
    hits = torch.zeros(len(tried), dtype=torch.bool)
    for search in _searches(budget, context.clean_logits.shape[1]):
        outcome = attack_again(
            context,
            search,
            tried,
            wrap=lambda model: NearForm(model, form, usual.to(context.device)),
            stop="never",  # cut, a first hit may be lost
        )
        hits |= broken(outcome) & context.fools(tried, form.cut(context.at(tried), outcome.images))
    return judge(
        context,
        tried[hits],
        f"{form.name} break",
        f"{len(tried)} survivors within {budget.describe()}",
        "it answers them in another way than images between them, or attacks were too weak",
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
