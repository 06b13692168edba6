"""Maps that explain a class, how alike two are, and the attack that changes one while the class stays."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from assay.core.call_context import in_neutral_context
from assay.core.model_calls import classify
from assay.core.model_state import model_device, preserve_state
from assay.core.smooth_activations import Softened
from assay.core.types import Images, Labels, PerRow
from assay.diagnostics.trail import right_of
from assay.util.validate import one_of

EXPLANATIONS = ("gradient", "integrated-gradients")
POINTS = 10
"""Of the path of integrated gradients, by the midpoint rule."""


@in_neutral_context
def saliency(
    model: nn.Module,
    x: Images,
    y: Labels,
    *,
    explanation: str = "gradient",
    graph: bool = False,
    batch: int = 128,
) -> Tensor:
    """How much each pixel matters for the logit ``Z_y``, summing to 1 over an image: ``(n, h, w)``, where ``x`` is.

    Args:
        model: maps images to logits.
        x: images.
        y: labels.
        explanation: ``"gradient"``, which is ``Σ_c |∂Z_y/∂x_c|``, or ``"integrated-gradients"``, which is
            ``Σ_c |x_c · mean of ∂Z_y/∂x_c on the way from black to x|``.
        graph: keep what a gradient with respect to ``x`` needs; in one pass.
        batch: images a pass.

    Source: Simonyan et al., "Deep inside convolutional networks", 2014, section 3; Sundararajan, Taly & Yan, "Axiomatic
    attribution for deep networks", ICML 2017, equation 3, with 10 points.
    """
    one_of("explanation", explanation, EXPLANATIONS)
    if not graph:
        parts = [
            saliency(
                model, part.detach().clone().requires_grad_(), labels, explanation=explanation, graph=True
            ).detach()
            for part, labels in zip(x.split(batch), y.split(batch), strict=True)
        ]
        return torch.cat(parts)
    device = model_device(model, x.device)
    image, label = x.to(device), y.to(device)
    with preserve_state(model), torch.enable_grad():
        if explanation == "gradient":
            weights = _slopes(model, image, label)
        else:
            path = torch.cat([image * ((k + 0.5) / POINTS) for k in range(POINTS)])
            weights = image * _slopes(model, path, label.repeat(POINTS)).unflatten(0, (POINTS, -1)).mean(0)
    result = weights.abs().sum(1)
    return (result / result.flatten(1).sum(1).clamp_min(1e-30).view(-1, 1, 1)).to(x.device)


def _slopes(model: nn.Module, x: Images, y: Labels) -> Tensor:
    """``∂Z_y/∂x`` with a graph; 0 where the model lets no gradient through."""
    value = classify(model, x).gather(1, y[:, None]).sum()
    if not value.requires_grad:
        return torch.zeros_like(x)
    (slopes,) = torch.autograd.grad(value, x, create_graph=True)
    return slopes


@in_neutral_context
def attack_saliency(
    model: nn.Module,
    x: Images,
    y: Labels,
    *,
    eps: float,
    steps: int,
    k: int,
    candidates: Images,
    explanation: str = "gradient",
) -> Images:
    """Images within the ball, classified as before, whose saliency has left its most salient pixels.

    Args:
        model: maps images to logits.
        x: images that it classifies as labelled.
        y: labels.
        eps: linf budget.
        steps: signed gradient steps.
        k: pixels that are to lose their saliency.
        candidates: further candidates, used where they are better.
        explanation: as in `saliency`.
    """
    explain = partial(saliency, model, explanation=explanation)
    before = explain(x, y)
    salient = _top(before, k)
    image, best, least = x.clone(), x.clone(), torch.ones(len(x), device=x.device)
    rate = max(eps / 10, 2 * eps / steps)
    best, least = _better(model, explain, candidates, y, before, k, best, least)
    for _ in range(steps):
        slopes = []
        for part, labels, chosen in zip(image.split(128), y.split(128), salient.split(128), strict=True):
            leaf = part.detach().clone().requires_grad_()
            with Softened():
                kept = (explain(leaf, labels, graph=True) * chosen).sum()
            bent = kept.requires_grad  # the saliency of a linear model is the same everywhere
            slopes.append(torch.autograd.grad(kept, leaf)[0] if bent else torch.zeros_like(leaf))
        image = image - rate * torch.cat(slopes).sign()
        image = torch.minimum(torch.maximum(image, x - eps), x + eps).clamp(0, 1)
        best, least = _better(model, explain, image, y, before, k, best, least)
    return best


def _better(
    model: nn.Module,
    explain: Callable[[Images, Labels], Tensor],
    image: Images,
    y: Labels,
    before: Tensor,
    k: int,
    best: Images,
    least: PerRow,
) -> tuple[Images, PerRow]:
    """The images that are classified as labelled and share fewer salient pixels, in the place of the best so far."""
    share = shared_top(before, explain(image, y), k)
    wins = right_of(model, image, y) & (share < least)
    return torch.where(wins.view(-1, 1, 1, 1), image, best), torch.where(wins, share, least)


def _top(maps: Tensor, k: int) -> Tensor:
    flat = maps.flatten(1)
    chosen = torch.zeros_like(flat).scatter_(1, flat.topk(k, dim=1).indices, 1.0)
    return chosen.view_as(maps)


def shared_top(before: Tensor, after: Tensor, k: int) -> PerRow:
    """The share of the k largest values' places that two maps have in common, ``(n,)``."""
    both: PerRow = (_top(before, k) * _top(after, k)).flatten(1).sum(1)
    return both / k


def spearman(before: Tensor, after: Tensor) -> PerRow:
    """Spearman's rank correlation of two maps, image by image, ``(n,)`` on the CPU; ties get their mean rank."""
    from scipy.stats import rankdata

    ranks = [torch.from_numpy(rankdata(part.flatten(1).cpu().numpy(), axis=1)) for part in (before, after)]
    a, b = (r - r.mean(1, keepdim=True) for r in ranks)
    result: PerRow = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-30)
    return result.float()
