"""D1 to D5: a defence is attacked together with what it defends."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from assay.attacks import APGD
from assay.core.expectation import Expectation
from assay.core.model_calls import Classifier, classify
from assay.core.model_state import seeded
from assay.core.outcome import Status
from assay.core.types import Images, Logits
from assay.parts.balls import Ball
from assay.trust.answer import CheckResult, inconclusive, issue, not_applicable, passed, warning, worst_result
from assay.trust.context import CheckContext, Result, broken
from assay.trust.results import GAIN

_STEPS, _MISSED = 50, 0.05
_FROZEN = 16


def enough_draws(exam: CheckContext) -> CheckResult:
    """D1: twice the draws of the expectation break no more."""
    seen = exam.seen
    if not isinstance(seen, Expectation) or not exam.claims:
        return not_applicable("the model is not attacked in expectation")
    by_gradient = [r for r in exam.counted if _of_gradients(r)]
    if not by_gradient:
        return not_applicable("no attack takes gradients of the expectation")
    last = {result.budget: result for result in by_gradient if result.budget in exam.budgets}
    return worst_result(tuple(_more_draws(exam, seen, result) for result in list(last.values()) or by_gradient[-1:]))


def _more_draws(exam: CheckContext, seen: Expectation, result: Result) -> CheckResult:
    left, before = exam.survivors(budget=result.budget), seen.draws
    if not len(left):
        return passed("no sample survives that more draws could break")
    try:
        seen.draws = 2 * before
        value = exam.attacked(result.planned.attack, left)
    finally:
        seen.draws = before
    new = left[broken(value)]
    share, threshold = len(new) / len(exam.chosen), max(GAIN, 1.5 / len(exam.chosen))
    if share > threshold:
        return warning(
            f"with {2 * before} draws instead of {before} {result.label} breaks {len(new)} more of "
            f"{len(exam.chosen)}: the expectation is taken over too few",
            share,
            threshold,
            tuple(new.tolist()),
        )
    return passed(
        f"with {2 * before} draws instead of {before} {result.label} breaks {len(new)} more", share, threshold
    )


class Frozen(nn.Module):
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
    def of(exam: CheckContext) -> Callable[[Classifier], Classifier]:
        """What freezes the draws of a model, or of a surrogate."""
        return lambda model: Frozen(model, exam.seed)

    def forward(self, x: Images) -> Logits:
        """Logits, ``(b, k)``."""
        with seeded(self.seed, {x.device}):
            return classify(self.model, x)


def frozen_draws(exam: CheckContext) -> CheckResult:
    """D1b: with its draws frozen, the model is broken by the attack; else it is the attack that fails.

    A model that withstands it without being random is told from an attack that fails by APGD, on what is left. Of
    every attack by gradients the first part is tried, on 16 samples one by one.
    """
    if not (exam.random or isinstance(exam.seen, Expectation)):
        return not_applicable("the model draws no random numbers")
    if not exam.differentiable:
        return not_applicable("the model has no gradient")
    ball = _claimed(exam)
    if ball is None:
        return inconclusive("no attack by gradients has a budget")
    result = _withstand(exam, ball)
    if result is None:
        return inconclusive("with its draws frozen the model is right on next to no sample")
    left, right, names = result
    text = f"with its draws frozen {len(left)} of {right} samples survive {' and '.join(names)}"
    return _withstood(
        exam,
        ball,
        left,
        right,
        text,
        "the attacks fail where nothing is random already",
        through=Frozen.of(exam),
        slots=1,
    )


def _withstood(
    exam: CheckContext, ball: Ball, left: Tensor, right: int, text: str, why: str, **more: Any
) -> CheckResult:
    """Whether the model withstands: of what the attacks have left APGD breaks next to none.

    Args:
        exam: the model.
        ball: the budget.
        left: the samples that are left.
        right: of how many.
        text: the answer so far.
        why: what it means if APGD breaks more.
        more: as `CheckContext.attacked` takes it.
    """
    if len(left) <= max(1, _MISSED * right):
        return passed(text, len(left) / right)
    new = left[broken(exam.attacked(APGD(ball.eps, norm=ball.norm, steps=_STEPS), left, **more))]
    text, share = f"{text}, of which APGD-{_STEPS} breaks {len(new)}", len(new) / right
    if len(new) > max(1, _MISSED * right):
        return warning(f"{text}: {why}", share, _MISSED, tuple(new.tolist()))
    return passed(text, share, _MISSED)


def _of_gradients(result: Result) -> bool:
    return result.stages[0].attack.traits.access == "gradient"


def _claimed(exam: CheckContext) -> Ball | None:
    """The largest budget of attacks by gradients, in the norm of the first of them."""
    balls = [r.ball for r in exam.claims if r.ball is not None and _of_gradients(r)]
    return max((b for b in balls if b.norm == balls[0].norm), key=lambda b: b.eps, default=None)


def _withstand(exam: CheckContext, ball: Ball) -> tuple[Tensor, int, list[str]] | None:
    """Samples that every attack by gradients leaves with draws frozen, of how many, and the attacks; None: unknown."""
    left = exam.chosen[exam.right][:_FROZEN]
    right, names = 0, list[str]()
    for result in exam.claims:
        first = result.stages[0].attack
        if result.ball is None or result.ball.norm != ball.norm or not _of_gradients(result) or not len(left):
            continue
        value = exam.attacked(first, left, through=Frozen.of(exam), slots=1)
        right = right or int((value.predicted_clean == value.y).sum())
        names.append(first.describe())
        left = left[value.status == int(Status.SURVIVED)]
    return (left, right, names) if right > 1 else None


def no_way_round(exam: CheckContext) -> CheckResult:
    """D2: what lets no gradient through is attacked past (BPDA), and by queries."""
    how = exam.adaptation
    if how is None or "BPDA" not in how.methods:
        return not_applicable("no part declares that it lets no gradient through")
    if not exam.adapted:
        return warning(f"attacked through a part without gradients as if it had some; it asks for: {how.how}")
    kinds = {stage.attack.traits.access for result in exam.claims for stage in result.stages}
    if not kinds & {"scores", "labels"}:
        return warning(
            "attacked past the part without gradients (BPDA), but not by queries: BPDA guesses a gradient. "
            "Add an attack such as square"
        )
    return passed("attacked past the part without gradients (BPDA), and by queries")


def detector_counts(exam: CheckContext) -> CheckResult:
    """D3: success against a detector is to be wrong and accepted."""
    how = exam.adaptation
    if how is None or how.test is None:
        return not_applicable("the model refuses nothing")
    accepted = how.test(exam.clean, exam.images)
    refused = 1 - float(accepted.float().mean()) if len(exam.chosen) else 0.0
    text = f"it refuses {100 * refused:.0f} % of clean images"
    if not exam.adapted:
        return issue(
            "the model can refuse images, but the attacks did not know it: an image that is refused counts as "
            f"broken, and one that evades both was not looked for; {text}. Attack classifier and detector "
            "together",
            refused,
        )
    return passed(f"the attacks evade the detector, too: {how.how}; {text}", refused)


def without_it(exam: CheckContext) -> CheckResult:
    """D4: without the defence the attacks succeed; else it is the attacks that fail.

    A model that withstands them by itself is told from attacks that fail by APGD, on what all by gradients leave.
    """
    inner = getattr(exam.model, "model", None)
    if exam.adaptation is None or not isinstance(inner, nn.Module):
        return not_applicable("there is no defence to take off")
    bare = CheckContext(inner, exam.x, exam.y, masks=exam.masks, samples=exam.samples, seed=exam.seed)
    ball = _claimed(exam)
    if ball is None:
        return inconclusive("no attack by gradients has a budget")
    left, right, names = bare.chosen[bare.right], int(bare.right.sum()), list[str]()
    if not right:
        return inconclusive("without the defence the model is right on no sample")
    for result in exam.claims:
        if _of_gradients(result) and result.ball == ball and len(left):
            value = bare.attacked(result.planned.attack, left)
            left = left[value.status == int(Status.SURVIVED)]
            names.append(result.label)
    text = f"without the defence {len(left)} of {right} samples survive {' and '.join(names)}"
    return _withstood(bare, ball, left, right, text, "the attacks are weak on the bare model already")


def declared(exam: CheckContext) -> CheckResult:
    """D5: whether attacks knew of the defence is said."""
    how = exam.adaptation
    if how is None:
        return not_applicable("the model declares no defence")
    if exam.adapted:
        return passed(f"attacked in full knowledge of the defence: {how.how}")
    return warning(
        f"attacked without knowledge of the defence, so the number is no bound on its robustness: it asks for {how.how}"
    )
