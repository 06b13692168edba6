"""E4, E7, E9: the samples are a fair draw, masks belong to their images, and labels are not written beside them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.core.model_state import model_dtype, preserve_state
from assay.core.types import Images
from assay.data.dataset import pixels
from assay.parts.balls import Split
from assay.trust.answer import CheckResult, inconclusive, issue, not_applicable, passed, warning
from assay.trust.context import CheckContext
from assay.trust.gradients import margin_gradient, margins_of

_SIDE, _CHUNK, _MOST = 16, 512, 4096
_SAME = 0.12
"""Two images are one if they differ by less than this part of what two images of the set differ by in the middle."""
_REPEATED = 0.05
_RARE = 0.01
_ENOUGH, _EASY = 32, 0.33
_LEAST_COVER, _CLEARLY, _FEW = 0.02, 3.0, 8
_READ, _READ_OF_TWO, _VALUES, _FLAT = 0.9, 0.97, 12, 0.02


def fair(context: CheckContext) -> CheckResult:
    """E4: no image twice, no class left out, and not only images of which the model is sure.

    Which images were chosen is not known; what can be seen in them is: repetitions (also mirrored, moved by a pixel of
    16, or brighter), classes that are absent though so many images would hardly miss one, and answers without a doubt.
    """
    n, classes = len(context.y), context.clean_logits.shape[1]
    present = len(context.y.unique())
    if present == 1 and classes > 1:
        return issue(f"all {n} images are of one class: the number is not about {classes} classes", 1.0, float(classes))
    count = distinct(context.x)
    if n - count > max(_REPEATED * n, 1):
        return warning(
            f"{n} images are {count} different ones, the others repeat them: the interval is of {count}, not of {n}",
            float(count),
            float(n),
        )
    real = max(int(context.y.max()) + 1, classes - _refusals(context))
    missing = real - present
    if missing and real * (1 - 1 / real) ** n < _RARE:
        return warning(
            f"{missing} of {real} classes have no image, though {n} images would hardly miss one: were any left out?",
            float(missing),
            0.0,
        )
    sure = _surest(context)
    if sure is not None and sure > _EASY:
        return warning(
            f"of {len(context.chosen)} images all are right, the least sure answer is {sure:.2f} of the middle one: "
            "only easy images?",
            sure,
            _EASY,
        )
    return passed(f"{n} samples of {present} classes, identified by their contents; none repeats another")


def _refusals(context: CheckContext) -> int:
    return int(context.adaptation is not None and context.adaptation.test is not None)


def _surest(context: CheckContext) -> float | None:
    """The smallest margin as a part of the median one; None where some answer is wrong or they are few."""
    if len(context.chosen) < _ENOUGH or not bool(context.is_correct.all()):
        return None
    margins = -margins_of(context.clean_logits, context.labels)
    return float(margins.min() / margins.median().clamp_min(1e-9))


def distinct(x: Tensor) -> int:
    """How many different images there are; of more than 4,096 so many are compared, spread evenly.

    Example:
        >>> distinct(torch.rand(3, 1, 8, 8).repeat(4, 1, 1, 1))
        3
    """
    n = len(x)
    if n < 2:
        return n
    if n > _MOST:
        at = torch.linspace(0, n - 1, _MOST).round().long().unique()
        return round(distinct(x[at]) * n / len(at))
    small = F.adaptive_avg_pool2d(pixels(x).float().cpu(), (min(_SIDE, x.shape[2]), min(_SIDE, x.shape[3])))
    base = _standard(small)
    forms = [small, small.flip(3)] + [small.roll(by, dim) for by in (1, -1) for dim in (2, 3)]
    others = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    usual = float((base - base[others]).norm(dim=1).median())
    return _groups([_standard(form) for form in forms], base, _SAME * usual)


def _standard(images: Images) -> Tensor:
    """Images as vectors without brightness and contrast."""
    flat = images.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    size: Tensor = flat.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return flat / size


def _groups(forms: list[Tensor], base: Tensor, limit: float) -> int:
    """How many rows are left when those nearer than a limit to an earlier one, in any form, are taken away."""
    repeats = torch.zeros(len(base), dtype=torch.bool)
    for first in range(0, len(base), _CHUNK):
        part = base[first : first + _CHUNK]
        later = torch.arange(first, first + len(part))[:, None] > torch.arange(len(base))[None]
        for form in forms:
            repeats[first : first + len(part)] |= ((torch.cdist(part, form) <= limit) & later).any(1)
    return int((~repeats).sum())


def masks_belong(context: CheckContext) -> CheckResult:
    """E7: foregrounds cover something, not everything, and belong to their images.

    An image's own foreground tells its colours apart better than those of other images do. One that only follows the
    model's slope was made from the model, and puts the smaller budget where the model looks.
    """
    if context.masks is None or not any(isinstance(b, Split) or "mask" in b.needs for b in context.budgets):
        return not_applicable("no budget reads a foreground")
    masks = context.masks[context.chosen].float()
    cover = masks.flatten(1).mean(1)
    odd = int(((cover < _LEAST_COVER) | (cover > 1 - _LEAST_COVER)).sum())
    if odd > len(masks) // 4:
        return warning(
            f"{odd} of {len(masks)} foregrounds cover next to nothing or nearly all of the image: the smaller of both "
            "budgets holds next to nowhere",
            float(odd),
            float(len(masks) // 4),
        )
    if len(masks) < _FEW:
        return inconclusive(f"{len(masks)} foregrounds are too few to tell whose they are")
    colours = _explained(context.at(context.chosen).float().cpu(), masks)
    energy = _energy(context) if context.differentiable else None
    slope = 0.0 if energy is None else _clearly((energy * _spread(masks)).flatten(1).sum(1), _others(energy, masks))
    text = f"the images' colours by {colours:.1f} standard errors and the model's slope by {slope:.1f}"
    if colours < _CLEARLY:
        question = "do masks belong to these images, and to what is in them?"
        if slope >= _CLEARLY:
            question = "they follow the model, not what is in the images: were they made from it?"
        return warning(
            f"foregrounds fit the colours of their images no better than those of other images do ({text}): {question}",
            colours,
            _CLEARLY,
        )
    return passed(f"foregrounds fit their images better than those of other images do: {text}", colours, _CLEARLY)


def label_at_the_edge(context: CheckContext) -> CheckResult:
    """E9: the label cannot be read off a few values at the edge of the image.

    Where a mark, a border or a stamp tells the class, a model that reads it is as robust as the mark is strong, and its
    robustness is not about what is in the images. The twelve values of the outermost pixels that differ most between
    classes are taken, and class means over every second image tell the classes of the others.
    """
    present, y = context.y.unique(return_inverse=True)
    if len(y) < _ENOUGH or len(present) < 2 or min(context.x.shape[2:]) < _FEW:
        return not_applicable(f"{len(y)} images of {len(present)} classes and {context.x.shape[2]} rows are too few")
    at = torch.linspace(0, len(y) - 1, min(len(y), _CHUNK)).round().long().unique()
    x, y = context.at(at).float().cpu(), y[at]
    inner = torch.zeros(x.shape[2:], dtype=torch.bool)
    inner[1:-1, 1:-1] = True
    values = x[:, :, ~inner].flatten(1)
    share, limit = _told_by(values, y), _READ if len(present) > 2 else _READ_OF_TWO
    text = f"{_VALUES} values at the edge of the image tell {100 * share:.0f} % of {len(present)} classes"
    if share >= limit:
        return warning(
            f"{text}: is the label written there, or in a border or a stamp? What the model does without is not known",
            share,
            limit,
        )
    return passed(text, share, limit)


def _told_by(values: Tensor, y: Tensor) -> float:
    """The share of every second row whose class the means of the others tell, by the values that tell most."""
    known, other = values[::2], values[1::2]
    one_hot = F.one_hot(y[::2], int(y.max()) + 1).to(values)
    count = one_hot.sum(0)
    means = one_hot.T @ known / count.clamp_min(1)[:, None]
    within = (known - means[y[::2]]).square().mean(0) + _FLAT**2
    best = ((means[y[::2]] - known.mean(0)).square().mean(0) / within).topk(min(_VALUES, values.shape[1])).indices
    means[count == 0] = torch.inf  # a class that the others have no image of
    scale = within.sqrt()[best]
    nearest = torch.cdist(other[:, best] / scale, means[:, best] / scale).argmin(1)
    return float((nearest == y[1::2]).float().mean())


def _spread(masks: Tensor) -> Tensor:
    """Weights that add up to 1 over each foreground."""
    return masks / masks.flatten(1).sum(1).clamp_min(1)[:, None, None, None]


def _others(energy: Tensor, masks: Tensor) -> Tensor:
    spread = _spread(masks)
    return torch.stack([(energy * spread.roll(by, 0)).flatten(1).sum(1) for by in _turns(masks)]).mean(0)


def _turns(masks: Tensor) -> range:
    return range(1, min(len(masks), 9))


def _clearly(own: Tensor, others: Tensor) -> float:
    """By how many standard errors the first is larger, over images."""
    gain = own - others
    return float(gain.mean() / (gain.std() / len(gain) ** 0.5).clamp_min(1e-12))


def _explained(x: Images, masks: Tensor) -> float:
    """By how many standard errors two means of colour, inside and outside, explain more with an image's own mask."""
    own = _share(x, masks)
    return _clearly(own, torch.stack([_share(x, masks.roll(by, 0)) for by in _turns(masks)]).mean(0))


def _share(x: Images, masks: Tensor) -> Tensor:
    """The share of the variance of colours between the foreground and the rest, ``(b,)``."""
    total = (x - x.mean((2, 3), keepdim=True)).square().flatten(1).sum(1).clamp_min(1e-12)
    left = torch.zeros(len(x))
    for part in (masks, 1 - masks):
        mean = (x * _spread(part)).sum((2, 3), keepdim=True)
        left = left + (part * (x - mean).square()).flatten(1).sum(1)
    share: Tensor = 1 - left / total
    return share


def _energy(context: CheckContext) -> Tensor | None:
    """How steep the margin is at each pixel, as a share of the image's, ``(b, 1, h, w)``."""
    model = context.attack_model
    with preserve_state(model):
        grad = margin_gradient(model, context.images.to(model_dtype(model)), context.labels)
    if grad is None:
        return None
    size: Tensor = grad.float().square().sum(1, keepdim=True).cpu()
    return size / size.flatten(1).sum(1).clamp_min(1e-30)[:, None, None, None]
