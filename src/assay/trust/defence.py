"""D1 to D5: attacks take the defence into account."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from assay.attacks.auto_pgd.apgd import APGD
from assay.core.expectation import Expectation
from assay.core.model_calls import Classifier, classify
from assay.core.model_state import preserve_state, seeded
from assay.core.outcome import Status
from assay.core.types import Images, Logits
from assay.parts.balls import Ball
from assay.trust.again import attack_again, broken
from assay.trust.answer import CheckResult, inconclusive, not_applicable, passed, warning, worst_result
from assay.trust.context import AttackResult, CheckContext
from assay.trust.effort import GAIN
from assay.trust.gradients import margin_gradient
from assay.trust.model_state import record_calls

_STEPS, _MISSED = 50, 0.05
_FROZEN = 16


def enough_draws(context: CheckContext) -> CheckResult:
    """D1: twice the draws of the expectation break no more."""
    expectation = context.attack_model
    if not isinstance(expectation, Expectation) or not context.claims:
        return not_applicable("the model is not attacked in expectation")
    by_gradient = [r for r in context.counted if _of_gradients(r)]
    if not by_gradient:
        return not_applicable("no attack takes gradients of the expectation")
    last = {result.budget: result for result in by_gradient if result.budget in context.budgets}
    return worst_result(
        tuple(_more_draws(context, expectation, result) for result in list(last.values()) or by_gradient[-1:])
    )


def _more_draws(context: CheckContext, expectation: Expectation, result: AttackResult) -> CheckResult:
    left, before = context.survivors(budget=result.budget), expectation.draws
    if not len(left):
        return passed("no sample survives that more draws could break")
    try:
        expectation.draws = 2 * before
        outcome = attack_again(context, result.planned.attack, left)
    finally:
        expectation.draws = before
    newly_broken = left[broken(outcome)]
    share, threshold = len(newly_broken) / len(context.chosen), max(GAIN, 1.5 / len(context.chosen))
    if share > threshold:
        return warning(
            f"with {2 * before} draws instead of {before} {result.label} breaks {len(newly_broken)} more of "
            f"{len(context.chosen)}: the expectation is taken over too few",
            share,
            threshold,
            tuple(newly_broken.tolist()),
        )
    return passed(
        f"with {2 * before} draws instead of {before} {result.label} breaks {len(newly_broken)} more", share, threshold
    )


class FrozenDraws(nn.Module):
    """A model that draws the same random numbers at every pass.

    The numbers that an image gets depend on its place in the batch, so it is asked about one image at a time.

    Args:
        model: the classifier, or a surrogate of one.
        seed: of the draws.
    """

    def __init__(self, model: Classifier, seed: int) -> None:
        super().__init__()
        self.model, self.seed = model, seed

    @staticmethod
    def of(context: CheckContext) -> Callable[[Classifier], Classifier]:
        """What freezes the draws of a model, or of a surrogate."""
        return lambda model: FrozenDraws(model, context.seed)

    def forward(self, x: Images) -> Logits:
        """Logits, ``(b, k)``."""
        with seeded(self.seed, {x.device}):
            return classify(self.model, x)


def frozen_draws(context: CheckContext) -> CheckResult:
    """D1b: with frozen randomness the attack breaks the model; otherwise the attack is too weak.

    A model that withstands it without being random is distinguished from an attack that fails by APGD, on what is left.
    Of every attack by gradients the first part is tried, on 16 samples one by one.
    """
    if not (context.is_random or isinstance(context.attack_model, Expectation)):
        return not_applicable("the model draws no random numbers")
    if not context.differentiable:
        return not_applicable("the model has no gradient")
    ball = _claimed(context)
    if ball is None:
        return inconclusive("no attack by gradients has a budget")
    survivors = _withstand(context, ball)
    if survivors is None:
        return inconclusive("with its draws frozen the model is right on next to no sample")
    left, right, names = survivors
    text = f"with its draws frozen {len(left)} of {right} samples survive {' and '.join(names)}"
    return _withstood(
        context,
        ball,
        left,
        right,
        text,
        "the attacks fail where nothing is random already",
        wrap=FrozenDraws.of(context),
        slots=1,
    )


def _withstood(
    context: CheckContext, ball: Ball, left: Tensor, right: int, text: str, why: str, **more: Any
) -> CheckResult:
    """Whether the model withstands: of what the attacks have left APGD breaks next to none.

    Args:
        context: the model.
        ball: the budget.
        left: the samples that are left.
        right: of how many.
        text: the answer so far.
        why: what it means if APGD breaks more.
        more: as `CheckContext.attacked` takes it.
    """
    if len(left) <= max(1, _MISSED * right):
        return passed(text, len(left) / right)
    newly_broken = left[broken(attack_again(context, APGD(ball.eps, norm=ball.norm, steps=_STEPS), left, **more))]
    text, share = f"{text}, of which APGD-{_STEPS} breaks {len(newly_broken)}", len(newly_broken) / right
    if len(newly_broken) > max(1, _MISSED * right):
        return warning(f"{text}: {why}", share, _MISSED, tuple(newly_broken.tolist()))
    return passed(text, share, _MISSED)


def _of_gradients(result: AttackResult) -> bool:
    return result.stages[0].attack.traits.access == "gradient"


def _claimed(context: CheckContext) -> Ball | None:
    """The largest budget of attacks by gradients, in the norm of the first of them."""
    balls = [r.ball for r in context.claims if r.ball is not None and _of_gradients(r)]
    return max((b for b in balls if b.norm == balls[0].norm), key=lambda b: b.eps, default=None)


def _withstand(context: CheckContext, ball: Ball) -> tuple[Tensor, int, list[str]] | None:
    """Samples that every attack by gradients leaves with draws frozen, of how many, and the attacks; None: unknown."""
    left = context.chosen[context.is_correct][:_FROZEN]
    right, names = 0, list[str]()
    for result in context.claims:
        first = result.stages[0].attack
        if result.ball is None or result.ball.norm != ball.norm or not _of_gradients(result) or not len(left):
            continue
        outcome = attack_again(context, first, left, wrap=FrozenDraws.of(context), slots=1)
        right = right or int((outcome.predicted_clean == outcome.y).sum())
        names.append(first.describe())
        left = left[outcome.status == int(Status.SURVIVED)]
    return (left, right, names) if right > 1 else None


def no_way_round(context: CheckContext) -> CheckResult:
    """D2: where a defence has a part without a gradient, it is attacked past that (BPDA), and by queries."""
    how = context.adaptation
    if how is None:
        return not_applicable("the model declares no defence")
    flat = sorted(set(record_calls(context.model, context.images[:2]).without_gradient))
    if not flat and _has_gradient(context):
        return not_applicable("every part of the model lets a gradient through")
    part = ", ".join(flat) or "a part"
    if not context.is_adapted:
        return warning(f"attacked through {part}, without a gradient, as if it had one; it asks for: {how.how}")
    kinds = {stage.attack.traits.access for result in context.claims for stage in result.stages}
    if not kinds & {"scores", "labels"}:
        return warning(
            f"attacked past {part}, which has no gradient, but not by queries: what takes its place guesses a "
            "gradient. Add an attack such as square"
        )
    return passed(f"attacked past {part}, which has no gradient, and by queries")


def _has_gradient(context: CheckContext) -> bool:
    """Whether a gradient other than zero reaches the image through the model itself."""
    with preserve_state(context.model):
        grad = margin_gradient(context.model, context.images[:2], context.labels[:2])
    return grad is not None and bool(grad.any())


def without_it(context: CheckContext) -> CheckResult:
    """D4: the attacks succeed without the defence; otherwise they are too weak.

    A model that withstands them by itself is distinguished from attacks that fail by APGD, on what all by gradients
    leave.
    """
    inner = getattr(context.model, "model", None)
    if context.adaptation is None or not isinstance(inner, nn.Module):
        return not_applicable("there is no defence to take off")
    bare = replace(context, model=inner, results=(), transfer_images=(), reference=None, memory={})
    ball = _claimed(context)
    if ball is None:
        return inconclusive("no attack by gradients has a budget")
    left, right, names = bare.chosen[bare.is_correct], int(bare.is_correct.sum()), list[str]()
    if not right:
        return inconclusive("without the defence the model is right on no sample")
    for result in context.claims:
        if _of_gradients(result) and result.ball == ball and len(left):
            outcome = attack_again(bare, result.planned.attack, left)
            left = left[outcome.status == int(Status.SURVIVED)]
            names.append(result.label)
    text = f"without the defence {len(left)} of {right} samples survive {' and '.join(names)}"
    return _withstood(bare, ball, left, right, text, "the attacks are weak on the bare model already")


def declared(context: CheckContext) -> CheckResult:
    """D5: the evaluation states whether attacks knew the defence."""
    how = context.adaptation
    if how is None:
        return not_applicable("the model declares no defence")
    if context.is_adapted:
        return passed(f"attacked in full knowledge of the defence: {how.how}")
    return warning(
        f"attacked without knowledge of the defence, so the number is no bound on its robustness: it asks for {how.how}"
    )
