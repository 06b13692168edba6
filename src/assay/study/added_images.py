"""Adversarial images that a training of a study adds to its own."""

import torch
from torch import nn

from assay.core.combinators import AnyAttack
from assay.core.outcome import Status
from assay.data.dataset import Dataset
from assay.diagnostics.trail import run_attack_to_end
from assay.study.training_schema import Added


def with_added(data: Dataset, model: nn.Module, attack: AnyAttack, added: Added, seed: int) -> Dataset:
    """Training images, and behind them adversarial ones of some of them with their correct labels.

    Args:
        data: training images.
        model: on which adversarial images are made.
        attack: how.
        added: of how many, and towards how many targets.
        seed: which images and targets, and of the attack.

    Returns:
        Uint8 images; those that the attack has broken are added, one for each target.

    Source: Tramèr et al., "Ensemble adversarial training", ICLR 2018; Xu et al., 2019, appendix H, table A1: 1,000
    images, each towards all nine other classes.
    """
    chosen = data.head(added.limit, seed)
    x, y = chosen.images(), chosen.y
    aims = None
    if added.targets:
        count = min(added.targets, len(data.classes) - 1)
        offsets = torch.stack(
            [
                torch.randperm(len(data.classes) - 1, generator=generator)[:count] + 1
                for generator in _generators(seed, y)
            ]
        )
        x, y = x.repeat_interleave(count, 0), y.repeat_interleave(count)
        aims = (y + offsets.flatten()) % len(data.classes)
    outcome = run_attack_to_end(model, x, y, attack, target=aims, seed=seed)
    broken = outcome.status == int(Status.BROKEN)
    images = [(part * 255).round().clamp(0, 255).to(torch.uint8) for part in (data.images(), outcome.images[broken])]
    name = f"{data.name} and {int(broken.sum())} adversarial images"
    return Dataset(torch.cat(images), torch.cat([data.y, y[broken]]), data.classes, name=name)


def _generators(seed: int, y: torch.Tensor) -> list[torch.Generator]:
    """One a sample, so that the targets of one do not depend on how many there are."""
    return [torch.Generator().manual_seed((seed * 1_000_003 + i) % 2**62) for i in range(len(y))]
