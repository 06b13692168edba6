"""Saliency of a class, how alike two maps are, and the attack that changes one while the class stays."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from assay.core.guard import untouched
from assay.core.types import Images, Labels, PerRow
from assay.diagnostics.trail import right_of

SMOOTHNESS = 30.0
"""β of the softplus that stands for ReLU while the attack looks for its way: ReLU has no second derivative."""


def saliency(model: nn.Module, x: Images, y: Labels, *, graph: bool = False, batch: int = 128) -> Tensor:
    """``Σ_c |∂Z_y/∂x_c|``, summing to 1 over each image: ``(n, h, w)``.

    Args:
        model: maps images to logits.
        x: images.
        y: labels.
        graph: keep what a gradient with respect to ``x`` needs; in one pass.
        batch: images a pass.
    """
    if not graph:
        parts = [saliency(model, part.detach().clone().requires_grad_(), labels, graph=True).detach()
                 for part, labels in zip(x.split(batch), y.split(batch), strict=True)]  # fmt: skip
        return torch.cat(parts)
    with untouched(model), torch.enable_grad():
        value = model(x).gather(1, y[:, None]).sum()
        (slope,) = torch.autograd.grad(value, x, create_graph=True)
    found = slope.abs().sum(1)
    return found / found.flatten(1).sum(1).clamp_min(1e-30).view(-1, 1, 1)


def unexplained(model: nn.Module, x: Images, y: Labels, *, eps: float, steps: int, k: int) -> Images:
    """Images within the ball, classified as before, whose saliency has left its most salient pixels."""
    before = saliency(model, x, y)
    salient = _top(before, k)
    image, best, least = x.clone(), x.clone(), torch.ones(len(x))
    rate = max(eps / 10, 2 * eps / steps)
    for _ in range(steps):
        slopes = []
        for part, labels, chosen in zip(image.split(128), y.split(128), salient.split(128), strict=True):
            leaf = part.detach().clone().requires_grad_()
            with smoothed(model) as smooth:
                kept = (saliency(smooth, leaf, labels, graph=True) * chosen).sum()
            bent = kept.requires_grad  # the saliency of a linear model is the same everywhere
            slopes.append(torch.autograd.grad(kept, leaf)[0] if bent else torch.zeros_like(leaf))
        image = image - rate * torch.cat(slopes).sign()
        image = torch.minimum(torch.maximum(image, x - eps), x + eps).clamp(0, 1)
        share = shared_top(before, saliency(model, image, y), k)
        wins = right_of(model, image, y) & (share < least)
        best = torch.where(wins.view(-1, 1, 1, 1), image, best)
        least = torch.where(wins, share, least)
    return best


@contextmanager
def smoothed(model: nn.Module) -> Iterator[nn.Module]:
    """The model with softplus in the place of its ReLU modules, while the block lasts."""
    modules = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    inplace = [module.inplace for module in modules]

    def soften(_: nn.Module, given: tuple[Tensor, ...], __: Tensor) -> Tensor:
        return nn.functional.softplus(given[0], beta=SMOOTHNESS)

    handles = [module.register_forward_hook(soften) for module in modules]
    try:
        for module in modules:
            module.inplace = False  # else the hook would be given what ReLU has made of it
        yield model
    finally:
        for module, before in zip(modules, inplace, strict=True):
            module.inplace = before
        for handle in handles:
            handle.remove()


def _top(maps: Tensor, k: int) -> Tensor:
    flat = maps.flatten(1)
    chosen = torch.zeros_like(flat).scatter_(1, flat.topk(k, dim=1).indices, 1.0)
    return chosen.view_as(maps)


def shared_top(before: Tensor, after: Tensor, k: int) -> PerRow:
    """The share of the k largest values' places that two maps have in common, ``(n,)``."""
    both: PerRow = (_top(before, k) * _top(after, k)).flatten(1).sum(1)
    return both / k


def spearman(before: Tensor, after: Tensor) -> PerRow:
    """Spearman's rank correlation of two maps, image by image, ``(n,)``; ties get their mean rank."""
    from scipy.stats import rankdata

    ranks = [torch.from_numpy(rankdata(part.flatten(1).numpy(), axis=1)) for part in (before, after)]
    a, b = (r - r.mean(1, keepdim=True) for r in ranks)
    found: PerRow = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-30)
    return found.float()
