"""B12, B13: in numbers, why an attack may have failed, and what more of it would break."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from assay.core.model_calls import classify
from assay.core.model_state import model_dtype, preserve_state
from assay.core.outcome import Status
from assay.core.types import Images, Labels
from assay.trust.again import attack_again, broken
from assay.trust.answer import CheckResult, not_applicable, passed, warning
from assay.trust.context import AttackResult, CheckContext
from assay.trust.effort import doubled
from assay.trust.gradients import margin_gradient, margins_of
from assay.trust.more import what_more_breaks
from assay.trust.vary import at_less_effort, over_the_box, with_step_size

_TRIED, _STEPS, _DRAWS, _WIDTH = 16, 400, 100, 8 / 255
_DROP = 0.05
_CERTAIN = 0.03
_QUERIES = 500


@dataclass(frozen=True)
class Indicators:
    """The six indicators of attack failure, each from 0 to 1: the share of survivors that it holds of, or their mean.

    Attributes:
        unavailable_gradients: no gradient of the margin at the clean image, or none but zero.
        unstable_predictions: by how much noise about the attack's last image changes the margin, as a part of it.
        silent_success: the image that the attack ended with fools the model, and was not counted.
        incomplete_optimisation: twice the steps come further towards the boundary, by more than a twentieth.
        transfer_failure: the attack's last image fools what it saw in the model's place, and not the model.
        unconstrained_failure: the attack fails even where any image is allowed.
    """

    unavailable_gradients: float
    unstable_predictions: float
    silent_success: float
    incomplete_optimisation: float
    transfer_failure: float
    unconstrained_failure: float

    def describe(self) -> str:
        """One line."""
        return ", ".join(f"{field.name.replace('_', ' ')} {getattr(self, field.name):.2f}" for field in fields(self))


def indicators(context: CheckContext, result: AttackResult) -> Indicators | None:
    """The six indicators of one attack, on samples that it left, at most 16 of them; None where it left none.

    Source: Pintor, Demetrio, Sotgiu, Demontis, Carlini, Biggio & Roli, "Indicators of attack failure: debugging and
    improving optimization of adversarial examples", NeurIPS 2022, section 3. Deviations: the margin takes the place of
    the attack's loss; the optimisation is called incomplete where twice the steps bring the margin nearer to 0 by more
    than a twentieth of the way so far, and not where its last ten steps do, as schedules differ.

    Args:
        context: the model, its images and its results.
        result: one of the results.

    Example:
        >>> import assay
        >>> from assay.attacks.plan import plan
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)).eval()
        >>> x, planned = torch.rand(8, 1, 4, 4), plan("pgd:steps=3", eps=0.01)
        >>> y = model(x).argmax(1)
        >>> outcome = assay.attack(model, x, y, planned.attack, preflight=False)
        >>> result = AttackResult(planned, outcome, lambda i: outcome.images[i])
        >>> values = indicators(CheckContext(model, x, y, (result,)), result)
        >>> values is None or values.silent_success == 0
        True
    """
    left = context.chosen[result.outcome.status[context.chosen] == int(Status.SURVIVED)]
    if not len(left):
        return None
    tried = context.likeliest(left, _TRIED)
    ends = _last_images(context, result, tried)
    fooled = context.fools(tried, ends)
    return Indicators(
        _unavailable(context, tried),
        _unstable(context, tried, ends),
        float(fooled.float().mean()),
        _incomplete(context, result),
        _not_transferred(context, tried, ends) if context.attack_model is not context.model else 0.0,
        _unconstrained(context, result, tried),
    )


def _last_images(context: CheckContext, result: AttackResult, tried: Labels) -> Images:
    """What the attack ended with; the clean image where nothing was kept."""
    kept = [result.image(i) for i in tried.tolist()]
    clean = context.at(tried)
    return torch.stack([x if image is None else image.to(x) for x, image in zip(clean, kept, strict=True)])


def _unavailable(context: CheckContext, tried: Labels) -> float:
    if not context.differentiable:
        return 1.0
    model = context.attack_model
    x, y = context.at(tried).to(context.device, model_dtype(model)), context.y[tried].to(context.device)
    with preserve_state(model):
        grad = margin_gradient(model, x, y)
    return 1.0 if grad is None else float((grad == 0).flatten(1).all(1).float().mean())


def _unstable(context: CheckContext, tried: Labels, ends: Images) -> float:
    generator, y = torch.Generator().manual_seed(context.seed), context.y[tried]
    here = margins_of(context.logits(ends).cpu(), y)
    changes = []
    for _ in range(_DRAWS):
        noise = _WIDTH * (torch.rand(ends.shape, generator=generator).to(ends) - 0.5)
        there = margins_of(context.logits((ends + noise).clamp(0, 1)).cpu(), y)
        changes.append(((there - here).abs() / here.abs().clamp_min(1e-9)).clamp(max=1))
    return float(torch.stack(changes).mean())


def _incomplete(context: CheckContext, result: AttackResult) -> float:
    again = doubled(context, result)
    if again is None or again.outcome is None:
        return 0.0
    start = margins_of(context.logits(context.at(again.tried)).cpu(), context.y[again.tried])
    before, after = result.outcome.margin[again.tried].cpu(), again.outcome.margin.cpu()
    further = (after - before) > _DROP * (before - start).clamp_min(1e-9)
    return float((further | broken(again.outcome)).float().mean())


def _not_transferred(context: CheckContext, tried: Labels, ends: Images) -> float:
    seen = context.attack_model
    with preserve_state(seen), torch.no_grad():
        other: Tensor = classify(seen, ends.to(context.device, model_dtype(seen))).argmax(1).cpu()
    own = context.logits(ends).argmax(1).cpu()
    y = context.y[tried]
    return float(((other != y) & (own == y)).float().mean())


def _unconstrained(context: CheckContext, result: AttackResult, tried: Labels) -> float:
    free = None if result.ball is None else over_the_box(result.planned.attack, context.x.shape[1:])
    if free is None:
        return 0.0
    return attack_again(context, at_less_effort(free, _STEPS), tried).count(Status.SURVIVED) / len(tried)


def in_numbers(context: CheckContext, result: AttackResult) -> CheckResult:
    """B12: the six indicators of attack failure, as numbers. For information: A6, A8, B5, B6, D6 and C3 judge."""
    if result.budget is None:
        return not_applicable("the attack has no budget")
    values = indicators(context, result)
    if values is None:
        return passed("nothing is left on which it could have failed", about=result.label)
    return passed(f"of what is left: {values.describe()}", about=result.label)


def rehearse_indicators(context: CheckContext, result: AttackResult) -> None:
    """What B12 attacks, without the noise: see `Check.rehearse`."""
    tried = context.likeliest(context.chosen[result.outcome.status[context.chosen] == int(Status.SURVIVED)], _TRIED)
    if result.budget is not None and len(tried):
        doubled(context, result)
        _unconstrained(context, result, tried)


def more_passes(context: CheckContext, result: AttackResult) -> CheckResult:
    """B13: how many samples ten times the passes would still break, estimated from when samples were broken.

    Where steps are sized by their number, or a search has just begun, hits follow the schedule, and promise nothing.
    """
    minimises = all(stage.attack.traits.minimises for stage in result.stages)
    if result.budget is None or minimises or context.recorded.get("stop", "hit") != "hit":
        return not_applicable("no part of the attack ends at its first hit: when samples were broken is not known")
    gradients = any(stage.attack.traits.access == "gradient" for stage in result.stages)
    queries = max((stage.attack.traits.steps or 0) for stage in result.stages)
    if with_step_size(result.planned.attack, 2) is not None or not (gradients or queries >= _QUERIES):
        return not_applicable("hits follow the schedule of its steps: B6, B7 and B8 ask again")
    value = what_more_breaks(result.outcome)
    if value.low > _CERTAIN:
        text = f"{value.describe()}: it was stopped too early"
        return warning(text, value.share, _CERTAIN, about=result.label)
    return passed(value.describe(), value.share, _CERTAIN, about=result.label)
