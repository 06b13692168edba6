"""D3: what a detector refuses, and whether images that are written or smoothed otherwise get past it."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.auto_pgd.apgd import APGD
from assay.core.model_calls import Classifier, classify
from assay.core.rows import Test
from assay.core.types import Images, Logits
from assay.parts.balls import Ball
from assay.trust.again import attack_again, broken
from assay.trust.answer import CheckResult, issue, not_applicable, passed, warning, worst_result
from assay.trust.budgets import members
from assay.trust.context import CheckContext
from assay.trust.effort import GAIN

_STEPS, _TRIED = 50, 32
_REFUSED = 0.1


class Classes(nn.Module):
    """The first classes of a model: its answers without the refusal.

    Args:
        model: the classifier.
        count: how many classes there are.
    """

    def __init__(self, model: Classifier, count: int) -> None:
        super().__init__()
        self.model, self.count = model, count

    def forward(self, x: Images) -> Logits:
        """Logits, ``(b, count)``."""
        return classify(self.model, x)[:, : self.count]


def detector_counts(context: CheckContext) -> CheckResult:
    """D3: an attack on a detector succeeds only if the image is wrong and accepted, and such images are looked for.

    The classifier alone is attacked on what is left, and the images are shown to the detector as they are, rounded to
    bytes, with the zeros of the clean image kept, smoothed, and half as strong.
    """
    how = context.adaptation
    if how is None or how.test is None:
        return not_applicable("the model refuses nothing")
    accepted = how.test(context.clean_logits, context.images)
    refused = 1 - float(accepted.float().mean()) if len(context.chosen) else 0.0
    text = f"it refuses {100 * refused:.0f} % of clean images"
    if not context.is_adapted:
        return issue(
            "the model can refuse images, but the attacks did not know it: one that is wrong and accepted was not "
            f"looked for; {text}. Attack classifier and detector together",
            refused,
        )
    balls = [b for b in context.budgets if isinstance(b, Ball) and b.eps > 0]
    answers = [_evaded(context, how.test, ball, text) for ball in balls] if context.differentiable else []
    return (
        worst_result(tuple(answers)) if answers else passed(f"the attacks evade the detector, too: {how.how}; {text}")
    )


def _evaded(context: CheckContext, test: Test, ball: Ball, text: str) -> CheckResult:
    left, n = context.survivors(budget=ball), len(context.chosen)
    threshold = max(GAIN, 1 / max(n, 1))
    if not len(left):
        return passed(f"no sample is left whose refusal could be evaded; {text}", 0.0, threshold)
    tried = context.likeliest(left, _TRIED)
    count = _class_count(context, test)
    attack = APGD(ball.eps, norm=ball.norm, steps=_STEPS)
    outcome = attack_again(context, attack, tried, wrap=lambda model: Classes(model, count), itself=True, test=None)
    x, images = context.at(tried), outcome.images
    wrong = context.logits(images, 64)[:, :count].argmax(1).cpu() != context.y[tried]
    evading = torch.zeros(len(tried), dtype=torch.bool)
    ways = []
    for way, form in _forms(x, images):
        hit = context.fools(tried, form) & members(ball, x, form)
        ways += [way] if bool((hit & ~evading).any()) else []
        evading |= hit
    share, stopped = int(evading.sum()) / n, int((wrong & ~evading).sum())
    if share > threshold:
        return warning(
            f"images made on the classifier alone, shown {' and '.join(ways)}, are wrong and accepted on "
            f"{int(evading.sum())} of {n} samples that every attack had left: the attacks do not evade the detector",
            share,
            threshold,
            tuple(tried[evading].tolist()),
        )
    success = torch.stack([broken(r.outcome) for r in context.claims]).any()
    if stopped / n > _REFUSED and not bool(success):
        return warning(
            f"{stopped} of {n} images that fool the classifier are refused, and no attack has evaded the detector on "
            "any sample: the number rests on the detector, which was not attacked with success anywhere",
            stopped / n,
            _REFUSED,
        )
    return passed(
        f"of {len(tried)} survivors {int(wrong.sum())} fool the classifier alone and {int(evading.sum())} get past the "
        f"detector in another form; {text}",
        share,
        threshold,
    )


def _class_count(context: CheckContext, test: Test) -> int:
    """How many outputs are classes: not the last, where an image of which it is the highest is refused."""
    logits = context.clean_logits.clone()
    logits[:, -1] = logits.amax(1) + 1
    refuses = not bool(test(logits, context.images).any()) and int(context.y.max()) + 1 < logits.shape[1]
    return logits.shape[1] - int(refuses)


def _forms(x: Images, images: Images) -> Iterator[tuple[str, Tensor]]:
    """Adversarial images in other forms, with words."""
    change = images - x
    yield "as they are", images
    yield "rounded to bytes", _as_bytes(x, images)
    kept = torch.where((x <= 0) | (x >= 1), x, images)
    yield "with black and white pixels kept", kept
    yield "with both", _as_bytes(x, kept)
    smooth = F.avg_pool2d(F.pad(change, (1, 1, 1, 1), mode="replicate"), 3, 1)
    yield "smoothed", (x + smooth).clamp(0, 1)
    yield "half as strong", x + change / 2


def _as_bytes(x: Images, images: Images) -> Tensor:
    """Rounded to the grid of bytes, towards the clean image, so that the budget is kept."""
    change = 255 * (images - x)
    whole = change.sign() * (change.abs() + 1e-3).floor()
    return ((255 * x + whole).round() / 255).clamp(0, 1)
