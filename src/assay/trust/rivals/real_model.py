"""C14, D6: the model itself is asked, by labels and beside what a defence declares in its place."""

from itertools import islice

import torch
from torch import Tensor

from assay.attacks.blackbox.hopskipjump import HopSkipJump
from assay.core.expectation import Expectation
from assay.core.model_calls import classify
from assay.core.model_state import model_dtype, preserve_state, seeded
from assay.core.outcome import Outcome
from assay.core.types import Images, Labels
from assay.engine.starts import nearest_starts
from assay.parts.balls import Ball
from assay.trust.again import attack_again, broken
from assay.trust.answer import CheckResult, inconclusive, issue, not_applicable, passed, warning, worst_result
from assay.trust.budgets import change_a_value
from assay.trust.context import CheckContext
from assay.trust.rivals.hits import judge

_QUERIES, _TRIED, _POOL = 1000, 12, 512
_AGREE, _AGREE_RANDOM = 0.97, 0.8


def beats_labels(context: CheckContext) -> CheckResult:
    """C14: a search by labels on the model itself finds nothing that the attacks have missed.

    HopSkipJump with 1,000 queries from the nearest image that the model gives another class, on 12 survivors.
    """
    balls = _balls(context)
    if not balls:
        return not_applicable("no attack has a ball of linf or l2 as its budget")
    if context.is_random:
        return not_applicable("the model is random: a boundary cannot be walked along")
    return worst_result(tuple(_by_labels(context, ball) for ball in balls))


def rehearse_labels(context: CheckContext) -> None:
    """What C14 attacks, without what it starts from: see `Check.rehearse`."""
    for ball in _balls(context):
        _walk(context, ball, context.likeliest(context.survivors(budget=ball), _TRIED))


def _balls(context: CheckContext) -> list[Ball]:
    return [b for b in context.budgets if isinstance(b, Ball) and b.norm in ("linf", "l2") and b.eps > 0]


def _by_labels(context: CheckContext, ball: Ball) -> CheckResult:
    left = context.survivors(budget=ball)
    if not len(left):
        return passed(f"no sample survives within {ball.describe()} that it could break")
    tried = context.likeliest(left, _TRIED)
    pool = _pool(context, tried)
    classes = context.logits(pool, 64).argmax(1).cpu()
    outcome = _walk(context, ball, tried, nearest_starts(context.at(tried), context.y[tried], pool, classes))
    where = f"{len(tried)} survivors within {ball.describe()}"
    return judge(context, tried[broken(outcome)], "labels alone break", where, "scores and gradients mislead")


def _walk(context: CheckContext, ball: Ball, tried: Labels, start: Images | None = None) -> Outcome:
    walk = HopSkipJump(steps=30, norm=ball.norm, queries=_QUERIES, samples=50, eps=ball.eps)
    return attack_again(context, walk, tried, itself=True, start=start, max_forwards=_QUERIES)


def _pool(context: CheckContext, tried: Labels) -> Images:
    """Images to start from: those of the set, and as many adversarial ones at most, first of those tried."""
    at = torch.linspace(0, len(context.x) - 1, min(_POOL, len(context.x))).round().long().unique()
    images = (result.image(i) for part in (tried, at) for result in context.results for i in part.tolist())
    clean, adversarial = context.at(at), list(islice((image for image in images if image is not None), _POOL))
    return torch.cat((clean, torch.stack(adversarial).to(clean))) if adversarial else clean


def surrogate_agrees(context: CheckContext) -> CheckResult:
    """D6: what attacks see in the model's place answers as the model does.

    On clean images, under noise of the budget's size, half-way to another image of the set, and on images that attacks
    have made. A model in expectation may differ from a vote over its draws where the two are close.
    """
    how = context.adaptation
    if how is None or how.surrogate is None:
        return not_applicable("attacks see the model itself")
    if not context.is_adapted:
        return not_applicable("attacks saw the model itself, not what it declares")
    if len(context.chosen) < 2:
        return inconclusive("two images are needed to compare")
    shares = {name: _agreement(context, images) for name, images in _places(context).items()}
    least = min(shares, key=lambda name: shares[name])
    is_random = context.is_random or isinstance(context.attack_model, Expectation)
    needed = _AGREE_RANDOM if is_random else _AGREE
    text = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
    if shares[least] < needed:
        name = type(how.surrogate).__name__
        kind = issue if shares[least] < _AGREE_RANDOM - 0.2 else warning
        return kind(
            f"what attacks see in the model's place ({name}) gives another class than the model does (agreement: "
            f"{text}): what does not fool it may well fool the model. Attack the model itself, or a surrogate that "
            "answers as it does",
            shares[least],
            needed,
        )
    return passed(f"what attacks see answers as the model does ({text})", shares[least], needed)


def _places(context: CheckContext) -> dict[str, Images]:
    """Images to compare on, by name."""
    clean = context.at(context.chosen)
    generator = torch.Generator().manual_seed(context.seed)
    size = change_a_value(context.budgets, clean[0].numel())
    noise = (torch.randint(0, 2, clean.shape, generator=generator) * 2 - 1).to(clean)
    places = {"clean": clean, "noise": (clean + size * noise).clamp(0, 1), "half-way": (clean + clean.roll(1, 0)) / 2}
    adversarial = [im for r in context.claims for i in context.chosen.tolist() if (im := r.image(i)) is not None]
    if adversarial:
        places["attacked"] = torch.stack(adversarial[: len(clean)]).to(clean)
    return places


def _agreement(context: CheckContext, images: Images) -> float:
    """Share of images that both give the same class; of a detector's answer without the refusal."""
    seen = context.attack_model
    with seeded(context.seed, {context.device}), preserve_state(seen), torch.no_grad():
        other: Tensor = classify(seen, images.to(context.device, model_dtype(seen))).float()
    own = context.logits(images, 64)
    count = min(other.shape[1], own.shape[1])
    return float((own[:, :count].argmax(1) == other[:, :count].argmax(1)).float().mean())
