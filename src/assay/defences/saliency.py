"""Train a saliency model on foreground masks."""

from pathlib import Path

import torch
from torch import Tensor

from assay.core.call_context import in_neutral_context
from assay.core.types import Images, Labels
from assay.data.dataset import Dataset
from assay.defences.fit import EpochCallback, build_seeded, fit, take_step
from assay.masks.learned_saliency import SaliencyNetwork, fixation_loss
from assay.util.validate import described, reject

_NOISE = 0.02
"""Deviation of the noise on training images, without which the map would be as easily perturbed as a classifier."""


@in_neutral_context
def fit_saliency(
    data: Dataset,
    *,
    epochs: int = 10,
    seed: int = 0,
    rate: float = 3e-3,
    out: Path | None = None,
    progress: EpochCallback | None = None,
) -> SaliencyNetwork:
    """Train a small saliency network to look at the foreground, on noisy images, half of the batches mirrored.

    It stands for networks that are trained on people's fixations, such as DeepGaze II, whose weights are not free to
    pass on. The loss is the same, with the pixels of a mask for fixations; the network is a small one of its own.

    Args:
        data: images ``(n, c, h, w)`` with foreground masks ``(n, 1, h, w)``.
        epochs: passes over the data.
        seed: of weights and draws.
        rate: of Adam.
        out: checkpoint.
        progress: called after each epoch.

    Raises:
        ValueError: data without masks.

    Source: Kümmerer, Wallis, Gatys & Bethge, ICCV 2017, section 2.
    """
    masks = data.masks
    if masks is None:
        return reject("data", "images with foreground masks", described(f"{data.name or 'images'} without masks"))
    network = build_seeded(lambda: SaliencyNetwork(data.x.shape[1]), seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)

    def step(x: Images, y: Labels, at: Tensor, here: int) -> float:
        goal = masks[at].float()
        if torch.rand(()) < 0.5:
            x, goal = x.flip(3), goal.flip(3)
        network.train()
        return take_step(optimiser, fixation_loss(network((x + _NOISE * torch.randn_like(x)).clamp(0, 1)), goal))

    parts, optimisers = {"net": network}, {"optimiser": optimiser}
    fit(parts, optimisers, step, data, epochs=epochs, seed=seed, out=out, progress=progress)
    return network
