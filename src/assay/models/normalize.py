"""Normalisation belongs in the model: assay's images are in [0, 1]."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from assay.util.validate import reject

STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "half": ((0.5,), (0.5,)),
    "none": ((0.0,), (1.0,)),
}
"""Usual channel means and standard deviations by name, for images in [0, 1]."""


class Normalize(nn.Module):
    """``(x − mean) / std``, channel by channel.

    Args:
        mean: one number, or one a channel.
        std: likewise, above 0.

    Raises:
        ValueError: lengths that differ, or a standard deviation that is not above 0.

    Example:
        >>> Normalize(0.5, 0.25)(torch.ones(1, 1, 1, 1)).item()
        2.0
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        means, stds = (torch.as_tensor(v, dtype=torch.float32).reshape(-1) for v in (mean, std))
        if len(means) != len(stds):
            reject("std", f"{len(means)} numbers, as many as `mean`", std)
        if not bool((stds > 0).all()):
            reject("std", "numbers above 0", std)
        self.register_buffer("mean", means.reshape(1, -1, 1, 1))
        self.register_buffer("std", stds.reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images."""
        channels = self.mean.shape[1]
        if channels != 1 and channels != x.shape[1]:
            raise ValueError(f"x: expected images of {channels} channels, got shape {list(x.shape)}")
        return (x - self.mean) / self.std
