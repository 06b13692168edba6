"""A5, A6, A8: gradients exist, do not vanish, and the surface they are of is smooth."""

from types import MappingProxyType

import torch
from torch import Tensor, nn

from assay.core.model_calls import classify, gradients
from assay.core.model_state import model_dtype, preserve_state
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import content_keys
from assay.core.rows import Rows, untargeted
from assay.core.types import Images, Labels
from assay.engine.outputs import describe_squeeze
from assay.parts.losses import DLR, CrossEntropy, Margin, PlainCrossEntropy
from assay.trust.answer import CheckResult, inconclusive, issue, not_applicable, passed, warning
from assay.trust.context import CheckContext
from assay.util.text import plain

_NOISE = 4 / 255
_DRAWS = 32
_ROUGH = 0.5
_AT_ONCE = 16


def differentiable(context: CheckContext) -> CheckResult:
    """A5: a gradient from the output to the image."""
    if not context.differentiable:
        return _without(context, "the model is query-only: it has no gradients")
    try:
        grad = _gradients(context, context.images[:8], context.labels[:8])
    except RuntimeError as error:
        return _without(context, f"the gradient cannot be taken: {plain(str(error), 120)}")
    if grad is None:
        return _without(context, "no gradient reaches the image: something in the model cuts it off")
    if not bool(grad.isfinite().all()):
        return issue("the gradient by the image is not finite")
    return passed("a finite gradient reaches the image")


def vanishing(context: CheckContext) -> CheckResult:
    """A6: gradients that are zero leave an attack where it began."""
    if not context.differentiable or not len(context.chosen) or not bool(context.is_correct.any()):
        return not_applicable("there is no gradient to vanish")
    part = context.is_correct.nonzero().squeeze(1)
    x, y = context.images[part.to(context.device)], context.labels[part.to(context.device)]
    attack_losses = _attack_losses(context)
    shares = {name: _zero_share(context, loss, x, y) for name, loss in {**_LOSSES, **attack_losses}.items()}
    text = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items() if share is not None)
    if context.claims and not attack_losses:
        return not_applicable(f"no attack here uses a gradient (share of images with a zero one: {text})")
    used = [
        (share, name)
        for name, share in shares.items()
        if share is not None and name in (attack_losses or {"cross-entropy"})
    ]
    if not used:
        return inconclusive(f"the losses that the attacks use cannot be computed here ({text})")
    share, best = min(used)
    if share > 0.2:
        return issue(
            f"the gradient is exactly zero on {100 * share:.0f} % of images for {best}, which the attacks use "
            f"({text}): they stand still there. Use a loss that does not saturate",
            share,
            0.2,
        )
    if share > 0.01:
        return warning(
            f"the gradient is exactly zero on {100 * share:.0f} % of images for {best} ({text})", share, 0.01
        )
    what = describe_squeeze(context.clean_logits)
    if what:
        return warning(
            f"the outputs seem to pass through {what}: where it saturates, gradients vanish ({text}). "
            "Return what goes into it",
            share,
            0.01,
        )
    return passed(f"share of images with a zero gradient: {text}", share, 0.01)


def rough(context: CheckContext) -> CheckResult:
    """A8: how much the output jumps within 4/255 of an image."""
    if not len(context.chosen):
        return not_applicable("there are no images")
    if context.is_random:
        return not_applicable("the model is random, so jumps cannot be told from noise")
    x, y = context.images[:16], context.labels[:16]
    generator = torch.Generator().manual_seed(context.seed)
    here = margins_of(context.logits(x), y)
    spread = context.clean_logits.std(1).median().clamp_min(1e-9)
    jumps = []
    for _ in range(_DRAWS):
        noise = (torch.rand(x.shape, generator=generator).to(x) * 2 - 1) * _NOISE
        there = margins_of(context.logits((x + noise).clamp(0, 1)), y)
        jumps.append(((there - here).abs() / spread).clamp(max=1))
    value = float(torch.stack(jumps).mean())
    if value > _ROUGH:
        return warning(
            f"noise within 4/255 moves the margin by {value:.2f} of the logits' spread: so rough a surface "
            "misleads gradients",
            value,
            _ROUGH,
        )
    return passed(f"noise within 4/255 moves the margin by {value:.2f} of the logits' spread", value, _ROUGH)


_LOSSES = MappingProxyType({loss.describe(): loss for loss in (CrossEntropy(), Margin(), DLR(), PlainCrossEntropy())})
"""The losses whose gradients are always looked at, by name."""


def _attack_losses(context: CheckContext) -> dict[str, Objective]:
    """The losses that the claimed attacks follow the gradient of, term by term, by name."""
    losses = [
        stage.attack.traits.objective
        for result in context.claims
        for stage in result.stages
        if stage.attack.traits.access == "gradient"
    ]
    terms = [term for loss in losses if loss is not None for _, term in loss.terms]
    return {term.describe(): Objective(((1.0, term),)) for term in terms if not term.needs}


def _without(context: CheckContext, text: str) -> CheckResult:
    how = context.adaptation
    if how is not None and how.surrogate is not None and context.is_adapted:
        return passed(f"{text}; attacked as the defence declares: {how.how}")
    queried = any(
        stage.attack.traits.access in ("scores", "labels") for result in context.claims for stage in result.stages
    )
    more = "" if queried else ", and by an attack that needs no gradient (square, hopskipjump)"
    return warning(f"{text}. Attack it past that (BPDA: assay.defences.Transformed){more}")


def _zero_share(context: CheckContext, objective: Objective, x: Tensor, y: Tensor) -> float | None:
    """Share of images whose gradient is exactly zero at the image or at a random point within 8/255 of it.

    None where the loss cannot be computed, as with too few classes.
    """
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(context.seed)).to(x)
    zeros = []
    oracle = Oracle(context.attack_model, device=context.device)
    try:
        with preserve_state(context.attack_model):
            for whole in (x, (x + 8 / 255 * (2 * noise - 1)).clamp(0, 1)):
                for images, labels in zip(whole.split(_AT_ONCE), y.split(_AT_ONCE), strict=True):
                    rows = Rows(images, untargeted(labels), content_keys(images, labels).to(images.device))
                    oracle.start(len(images))
                    grad = oracle.evaluate(objective, images, rows).grad
                    zeros.append((grad == 0).flatten(1).all(1))
    except ValueError:  # too few classes for this loss
        return None
    return float(torch.cat(zeros).float().mean())


def _gradients(context: CheckContext, x: Tensor, y: Tensor) -> Tensor | None:
    def logit(leaf: Images) -> tuple[list[Tensor], bool]:
        out = classify(context.attack_model, leaf)
        return [out.gather(1, y[:, None]).sum()], out.requires_grad

    with preserve_state(context.attack_model):
        (grad,), reached = gradients(logit, x.to(model_dtype(context.attack_model)))
    return grad if reached else None


def margins_of(logits: Tensor, y: Tensor) -> Tensor:
    """How far the best other class is above the label, ``(b,)``."""
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    return others - logits.gather(1, y[:, None]).squeeze(1)


def margin_gradient(model: nn.Module, x: Images, y: Labels) -> Images | None:
    """The gradient of the margin by the images, ``(b, c, h, w)``; None where none reaches them."""

    def margin(leaf: Images) -> tuple[list[Tensor], bool]:
        value = margins_of(classify(model, leaf), y).sum()
        return [value], value.requires_grad

    (grad,), reached = gradients(margin, x)
    return grad if reached else None
