"""Training data with adversarial examples, made once against a fixed model."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from assay.core.combinators import AnyAttack
from assay.data.dataset import Dataset
from assay.engine.api import perturb
from assay.training.objectives.batch import needs_of
from assay.util.validate import number


def with_stored(
    data: Dataset,
    model: nn.Module,
    attack: AnyAttack,
    *,
    share: float = 1.0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """The data, and adversarial examples of a share of them with their true labels.

    A defence against the very attack it has seen, against the very model: measure the retrained model anew.

    Args:
        data: training images.
        model: the model that the examples fool.
        attack: makes them.
        share: of the images, chosen by ``seed``.
        seed: of the choice and the attack.
        progress: called with how many of how many are made.

    Returns:
        A larger data set.

    Source: Szegedy et al., 2014, section 4; Xu et al., 2019, appendix H, table A1 (retraining on stored examples).
    """
    number("share", share, least=0, most=1)
    chosen = torch.arange(len(data))
    if share < 1:
        chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[: round(share * len(data))]
    adversarial = []
    for at in chosen.split(256):
        mask = data.masks[at] if data.masks is not None and "mask" in needs_of(attack) else None
        x = data.images(at)
        adversarial.append(perturb(model, x, data.y[at], attack, mask=mask, keep="best", seed=seed, ids=at))
        if progress is not None:
            progress(sum(map(len, adversarial)), len(chosen))
    images = torch.cat([data.images(), *adversarial])
    masks = None if data.masks is None else torch.cat([data.masks, data.masks[chosen]])
    name = f"{data.name} and {len(chosen)} stored examples of {attack.describe()}"
    return replace(data, x=images, y=torch.cat([data.y, data.y[chosen]]), masks=masks, name=name)
