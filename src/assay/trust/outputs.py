"""A4, A10, A11, A12: outputs are logits, inputs are pixels in [0, 1], labels match."""

import torch
from torch import Tensor

from assay.core.model_state import preserve_state
from assay.data.dataset import pixels as pixels_of
from assay.engine.preflight import input_range, non_finite, squeezed
from assay.trust.answer import CheckResult, inconclusive, issue, not_applicable, passed, warning
from assay.trust.context import CheckContext
from assay.util.statistics import exact_interval

_GAIN = 0.25
_ENOUGH = 16
_RARE = 0.01
_SEVERAL, _TOLD_APART = 5, 0.6


def logits(context: CheckContext) -> CheckResult:
    """A4: logits, not probabilities, and all of them numbers."""
    finding = non_finite(context.clean_logits, context.at(context.chosen))
    if finding is not None:
        return issue(finding.text)
    if not context.differentiable:
        return not_applicable("the model can only be asked: nothing is lost if its scores are probabilities")
    text = squeezed(context.clean_logits)
    if text is not None:
        return issue(text.text)
    low, high = float(context.clean_logits.min()), float(context.clean_logits.max())
    if len(context.clean_logits) >= _ENOUGH and low >= 0 and high <= 1:
        return warning(
            f"all outputs lie between {low:.3g} and {high:.3g}: a sigmoid, whose gradient "
            "vanishes where it is confident? Attacks need what goes into it",
            high,
            1.0,
        )
    return passed("outputs are unbounded scores")


def pixels(context: CheckContext) -> CheckResult:
    """A10: the model expects pixels in [0, 1], RGB."""
    ends = pixels_of(torch.stack([context.x.min(), context.x.max()])) if context.x.numel() else torch.tensor([0.0, 1.0])
    low, high = ends.tolist()
    if low < 0 or high > 1:
        return issue(f"pixels from {low:.4g} to {high:.4g}, expected [0, 1]", high, 1.0)
    if len(context.chosen) < _ENOUGH:
        return inconclusive(f"{len(context.chosen)} images are too few to compare input ranges")
    with preserve_state(context.model), torch.no_grad():
        finding = input_range(context.model, context.images, context.labels, context.clean_logits)
    if finding is not None:
        return issue(finding.text)
    return passed("no other scaling or order of channels makes the model better")


def labels(context: CheckContext) -> CheckResult:
    """A11: better than chance, and not much better under another naming of the classes.

    Chance is the agreement that labels and answers would have if they had nothing to do with each other (Cohen, "A
    coefficient of agreement for nominal scales", Educational and Psychological Measurement 20 (1960)): naming the
    commonest class throughout is chance, whatever its share. What cannot be told from chance is an issue
    where it is clearly less than a model a quarter of the way from chance to perfect would have, and open where it may
    be either: more images would tell. A class that is never recognised, where a model of this accuracy would miss one
    only once in a hundred times, is a warning if its output does not tell its images from others: it is missing, not
    hard.

    The other naming is the best one for every second sample, and judged on the rest: what fits best by chance where
    classes outnumber samples is no evidence.
    """
    from scipy.stats import binomtest

    predicted, y = context.clean_logits.argmax(1).cpu(), context.y[context.chosen]
    for result in context.results:  # the whole set is known already
        was_predicted = result.outcome.predicted_clean >= 0
        predicted, y = result.outcome.predicted_clean[was_predicted], result.outcome.y[was_predicted]
        break
    n, classes = len(y), max(int(y.max()) + 1 if len(y) else 0, context.clean_logits.shape[1])
    if n < _ENOUGH:
        return inconclusive(f"{n} images are too few to judge labels")
    right = int((predicted == y).sum())
    present, plain = len(y.unique()), int((predicted == y)[1::2].sum()) / (n // 2)
    best = float((_renamed(y[::2], predicted[::2], classes)[predicted[1::2]] == y[1::2]).float().mean())
    if best - plain >= _GAIN and best > 2 / max(present, 1):
        return issue(
            f"{100 * plain:.0f} % of clean images are right, but {100 * best:.0f} % would be if the classes "
            "had other names (chosen on half of them, judged on the rest): labels and outputs are not in the "
            "same order",
            best,
            plain,
        )
    counts = torch.bincount(y, minlength=classes)
    named = torch.bincount(predicted.clamp(0, classes - 1), minlength=classes)
    chance = float((counts / n * named / n).sum()) if present > 1 else 0.5
    text = f"{100 * right / n:.0f} % of {n} clean images are right"
    doubtful = binomtest(right, n, chance, alternative="greater").pvalue > _RARE
    fair = chance + _GAIN * (1 - chance)
    if right / n <= chance or (doubtful and binomtest(right, n, fair, alternative="less").pvalue < _RARE):
        return issue(f"{text}, which is chance among {present} classes: there is nothing to attack", right / n, chance)
    if doubtful:
        return inconclusive(
            f"{text}, which may be chance among {present} classes ({100 * chance:.0f} %): more images would tell"
        )
    hits = torch.bincount(y[predicted == y], minlength=classes)
    never = [int(c) for c in ((counts >= _SEVERAL) & (hits == 0)).nonzero().squeeze(1)]
    blind = [label for label in never if _unseen(context, label)]
    if blind and present * (1 - right / n) ** min(int(counts[c]) for c in blind) < _RARE:
        return warning(
            f"{len(blind)} classes are never recognised, and their outputs no higher for their images than for others "
            f"(first: {blind[0]}): is the list of classes whole?",
            float(len(blind)),
            0.0,
        )
    if never:
        text += f"; {len(never)} classes are hard and never recognised (first: {never[0]})"
    return passed(f"{text}; no other order of classes is better", right / n)


def _unseen(context: CheckContext, label: int) -> bool:
    """Whether the output of a class is no higher for its images than for others (area of at most 0.6).

    The area under the curve of hits and false alarms: the probability that it is higher.
    """
    if label >= context.clean_logits.shape[1]:
        return True
    scores, mine = context.clean_logits[:, label].cpu(), context.y[context.chosen] == label
    if not bool(mine.any()) or bool(mine.all()):
        return True
    higher = (scores[mine][:, None] > scores[~mine][None]).float() + (scores[mine][:, None] == scores[~mine][None]) / 2
    return float(higher.mean()) < _TOLD_APART


def _renamed(y: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """For each output the label that it stands for, if outputs are named so that most are right."""
    from scipy.optimize import linear_sum_assignment

    table = torch.zeros(classes, classes, dtype=torch.int64)
    table.index_put_((y, predicted), torch.ones_like(y), accumulate=True)
    rows, columns = linear_sum_assignment(-table.numpy())
    result = torch.zeros(classes, dtype=torch.int64)
    result[torch.from_numpy(columns)] = torch.from_numpy(rows)
    return result


def reference(context: CheckContext) -> CheckResult:
    """A12: the clean accuracy that is known of this model."""
    if context.reference is None:
        return not_applicable("no clean accuracy of this model was given to compare with")
    right, n = int(context.is_correct.sum()), len(context.is_correct)
    for result in context.results:
        was_predicted = result.outcome.predicted_clean >= 0
        right, n = (
            int((result.outcome.predicted_clean == result.outcome.y)[was_predicted].sum()),
            int(was_predicted.sum()),
        )
        break
    low, high = exact_interval(right, n)
    if low <= context.reference <= high:
        return passed(f"clean accuracy {100 * right / max(n, 1):.1f} %, as known", right / max(n, 1), context.reference)
    return warning(
        f"clean accuracy is {100 * right / max(n, 1):.1f} % ({100 * low:.1f} to {100 * high:.1f}), but "
        f"{100 * context.reference:.1f} % is known: is something different before the model?",
        right / max(n, 1),
        context.reference,
    )
