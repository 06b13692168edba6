"""C1 to C10: what must hold between attacks and budgets, whatever the model is."""

import math

import torch

from assay.attacks import FGSM, Square
from assay.attacks.fgsm import FGM
from assay.attacks.noise import UniformNoise
from assay.core.geometry import Ball
from assay.core.outcome import Status
from assay.trust.answer import Found, issue, not_applicable, passed, warning
from assay.trust.changed import with_radius
from assay.trust.exam import Exam, Result, broken
from assay.trust.results import GAIN

_FEW, _SMALL = 8, 32
_DRAWS = 500
_QUERIES = 300


def no_budget(exam: Exam, result: Result) -> Found:
    """C1: with a budget of 0 nothing is broken."""
    if result.ball is None:
        return not_applicable("the attack has no budget")
    index = exam.chosen[:_FEW]
    outcome = exam.attacked(with_radius(result.planned.attack, 0.0), index)
    count = outcome.count(Status.BROKEN)
    if count and not exam.in_expectation:
        return issue(f"with a budget of 0 it breaks {count} of {len(index)} samples", float(count), 0.0,
                     about=result.label)  # fmt: skip
    return passed(f"with a budget of 0 it breaks none of {len(index)}", float(count), 0.0, about=result.label)


def monotone(exam: Exam, result: Result) -> Found:
    """C2: a larger budget breaks what a smaller one broke, and the budget has an effect."""
    ball = result.ball
    if ball is None or ball.eps <= 0:
        return not_applicable("the attack has no budget")
    index = exam.chosen[:: max(1, len(exam.chosen) // _SMALL)]
    half = broken(exam.attacked(with_radius(result.planned.attack, ball.eps / 2), index))
    full = broken(result.outcome)[index]
    left = torch.isin(index, exam.survivors(index))
    lost = index[half & left]
    if len(lost) > max(1, 0.03 * len(index)):
        return issue(f"{len(lost)} of {len(index)} samples are broken at half the budget, and survive every attack "
                     "at all of it: the attacks do not use the budget that they have", float(len(lost)), 1.0,
                     tuple(lost.tolist()), result.label)  # fmt: skip
    wide = broken(exam.attacked(with_radius(result.planned.attack, 4 * ball.eps), index))
    right = int((result.outcome.status[index] != int(Status.MISCLASSIFIED)).sum())
    if right >= _FEW and int(half.sum()) == int(full.sum()) == int(wide.sum()) < right:
        return warning(f"half, all and four times the budget break the same {int(full.sum())} of {right} samples: the "
                       "budget has no effect", float(full.sum()), float(right), about=result.label)  # fmt: skip
    return passed(f"half, all and four times the budget break {int(half.sum())}, {int(full.sum())} and "
                  f"{int(wide.sum())} of {len(index)}", about=result.label)  # fmt: skip


def unbounded(exam: Exam) -> Found:
    """C3: with a budget that allows any image, next to nothing survives all attacks."""
    balls = [result for result in exam.claims if result.ball is not None]
    if not balls:
        return not_applicable("no attack has a budget")
    index = exam.chosen[:: max(1, len(exam.chosen) // _SMALL)]
    n, size, classes = len(index), math.prod(exam.x.shape[1:]), exam.clean.shape[1]
    left, right = index, 0
    for result in balls:
        ball = result.ball or balls[0].ball
        if ball is None or not len(left):
            break
        wide = {"linf": 0.5, "l2": 0.5 * math.sqrt(size), "l1": 0.5 * size}[ball.norm]
        outcome = exam.attacked(with_radius(result.planned.attack, max(wide, ball.eps)), left)
        right = right or int((outcome.predicted_clean == outcome.y).sum())
        left = left[outcome.status == int(Status.SURVIVED)]
    if len(left) / n > 1 / classes + 2 / math.sqrt(n * classes):
        return issue(f"even with a budget that allows a grey image {len(left)} of {right} samples survive every "
                     f"attack: the "
                     "attacks fail, it is not that the model withstands them (masked gradients, or a wrong loss)",
                     len(left) / n, 1 / classes, tuple(left.tolist()))  # fmt: skip
    return passed(f"with a budget that allows a grey image {len(left)} of {right} samples survive", len(left) / n,
                  1 / classes)  # fmt: skip


def beats_one_step(exam: Exam) -> Found:
    """C4: one step finds nothing that the attacks have missed."""
    ball = _ball(exam)
    if ball is None or not exam.differentiable:
        return not_applicable("no attack with a budget, or no gradient")
    one = FGSM(ball.eps) if ball.norm == "linf" else FGM(ball.eps, norm=ball.norm)
    return _missed(exam, one, "one gradient step breaks", "an iterated attack that does worse than its first step goes "
                   "the wrong way: look at its loss, its targets and its step size")  # fmt: skip


def beats_queries(exam: Exam) -> Found:
    """C5: a search without gradients finds nothing that attacks with gradients have missed."""
    ball = _ball(exam)
    if ball is None or ball.norm not in ("linf", "l2"):
        return not_applicable("no attack with an linf or l2 budget")
    return _missed(exam, Square(ball.eps, norm=ball.norm, queries=_QUERIES), f"{_QUERIES} random queries (Square) "
                                                                             f"break",
                   "gradients that know less than queries are masked")  # fmt: skip


def beats_noise(exam: Exam) -> Found:
    """C6: random noise of the same size finds nothing that the attacks have missed."""
    ball = _ball(exam)
    if ball is None or ball.norm == "l1":
        return not_applicable("no attack with an linf or l2 budget")
    return _missed(exam, UniformNoise(ball.eps, norm=ball.norm, draws=_DRAWS), f"{_DRAWS} draws of noise break",
                   "an attack that does worse than noise does not attack")  # fmt: skip


def beats_transfer(exam: Exam) -> Found:
    """C7: images made on other models find nothing that the attacks have missed."""
    left = set(exam.survivors(torch.arange(len(exam.x))).tolist())
    pairs = [(sample, image) for sample, image in exam.others if sample in left][: 4 * exam.samples]
    if not exam.others:
        return not_applicable("no other model was attacked on the same images")
    if not pairs:
        return passed("no image made on another model is about a sample that survives here", 0.0, GAIN)
    index = torch.tensor([sample for sample, _ in pairs])
    fooled = exam.logits(torch.stack([image for _, image in pairs])).argmax(1).cpu() != exam.y[index]
    new = index[fooled].unique()
    share = len(new) / max(len(index.unique()), 1)
    if share > max(GAIN, 1 / max(len(index.unique()), 1)) and len(new) > 1:
        return warning(f"images made on other models break {len(new)} of {len(index.unique())} samples that every "
                       f"attack "
                       "on this one had left: its gradients mislead", share, GAIN, tuple(new.tolist()))  # fmt: skip
    return passed(f"images made on other models break {len(new)} of {len(index.unique())} survivors", share, GAIN)


def all_targets(exam: Exam) -> Found:
    """C8: whether targets were tried one by one. For information."""
    tried = [result.label for result in exam.claims for stage in result.stages
             if any(variant.rank for variant in stage.variants) or "targets" in repr(stage.attack)]  # fmt: skip
    if not exam.claims:
        return not_applicable("nothing was attacked")
    return passed("wrong classes were also tried one by one" if tried else "wrong classes were not tried one by one")


def per_sample(exam: Exam) -> Found:
    """C9: the worst case is taken sample by sample."""
    if len(exam.claims) < 2:
        return not_applicable("one attack alone has no worst case over attacks")
    survived = torch.stack([result.outcome.status == int(Status.SURVIVED) for result in exam.claims])
    worst, least = float(survived.all(0).float().mean()), float(survived.float().mean(1).min())
    if worst > least + 1e-9:
        return issue("the worst case over attacks is above the lowest single attack", worst, least)
    return passed(f"robust accuracy counts samples that survive every attack ({100 * worst:.1f} %), not the lowest "
                  f"single attack ({100 * least:.1f} %)", worst, least)  # fmt: skip


def diverse(exam: Exam) -> Found:
    """C10: attacks by gradients and attacks without."""
    if not exam.claims:
        return not_applicable("nothing was attacked")
    kinds = {kind_of(stage.attack) for result in exam.claims for stage in result.stages}
    stages = sum(len(result.stages) for result in exam.claims)
    if "gradient" in kinds and kinds & {"scores", "labels"}:
        return passed(f"{stages} attacks: by gradients, and by {' and '.join(sorted(kinds & {'scores', 'labels'}))} "
                      f"alone",
                      float(len(kinds)), 2.0)  # fmt: skip
    if not exam.differentiable and kinds & {"scores", "labels"}:
        return passed("the model has no gradients; attacked by queries", float(len(kinds)), 1.0)
    lacking = "attack that needs no gradient (such as square)" if "gradient" in kinds else "attack by gradients"
    return warning(f"all attacks are of one kind; add an {lacking}", float(len(kinds)), 2.0)


def kind_of(attack: object) -> str:
    """``"gradient"``, ``"scores"``, ``"labels"`` or ``"noise"``: what an attack goes by."""
    place = type(attack).__module__.partition("attacks.")[2]
    if place.startswith("blackbox"):
        return "scores" if "scores" in getattr(attack, "needs", ()) else "labels"
    return "noise" if place.startswith(("noise", "spatial")) else "gradient"


def _ball(exam: Exam) -> Ball | None:
    """The largest budget that is claimed, of the first norm that is."""
    balls = [result.ball for result in exam.claims if result.ball is not None]
    if not balls:
        return None
    return max((ball for ball in balls if ball.norm == balls[0].norm), key=lambda ball: ball.eps)


def _missed(exam: Exam, attack: object, words: str, why: str) -> Found:
    ball = _ball(exam)
    within = [r for r in exam.claims if ball is not None and r.ball is not None and r.ball.norm == ball.norm
              and r.ball.eps >= ball.eps]  # fmt: skip
    index = exam.chosen
    if within:
        standing = torch.stack([r.outcome.status[index] == int(Status.SURVIVED) for r in within]).all(0)
        index = index[standing]
    if not len(index):
        return passed("no sample survives that it could break", 0.0, GAIN)
    new = index[broken(exam.attacked(attack, index))]  # type: ignore[arg-type]
    share = len(new) / len(exam.chosen)
    if share > max(GAIN, 1.5 / len(exam.chosen)):
        return warning(f"{words} {len(new)} of {len(exam.chosen)} samples that every attack had left: {why}", share,
                       GAIN, tuple(new.tolist()))  # fmt: skip
    return passed(f"{words} {len(new)} of {len(index)} survivors", share, GAIN)
