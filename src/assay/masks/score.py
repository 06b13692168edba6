"""The foreground score: how much of the gaze stays on the object."""

from dataclasses import dataclass

from torch import nn

from assay.core.model_state import model_device
from assay.core.objective import Objective
from assay.core.rows import Rows
from assay.core.types import Images, Logits, PerRow
from assay.util.validate import described, reject


@dataclass(frozen=True)
class _Score:
    saliency: nn.Module
    needs: tuple[str, ...] = ("mask",)

    def __call__(self, logits: Logits, x: Images, rows: Rows) -> PerRow:
        if rows.mask is None:
            reject("mask", "a foreground mask, which the foreground score needs", None)
        return foreground_score(self.saliency, x, rows.mask)

    def describe(self) -> str:
        """The name of the term."""
        return "foreground score"


def foreground_score(saliency: nn.Module, x: Images, mask: Images) -> PerRow:
    """``S(x) = Σ_{i ∈ F} s_i``: the share of the density that falls on the foreground.

    Args:
        saliency: maps images to a density ``(b, 1, h, w)`` that sums to 1 over each image; on a device of its own if
            need be.
        x: images, ``(b, c, h, w)`` in [0, 1].
        mask: foreground, ``(b, 1, h, w)`` of 0 and 1.

    Returns:
        ``(b,)`` in [0, 1], differentiable by ``x``.

    Raises:
        ValueError: a density of another shape.

    Example:
        >>> import torch
        >>> class Even(nn.Module):
        ...     def forward(self, x):
        ...         return torch.full_like(x[:, :1], 1 / x[0, 0].numel())
        >>> foreground_score(Even(), torch.zeros(1, 3, 2, 2), torch.tensor([[[[1.0, 0], [0, 0]]]])).item()
        0.25

    Source: Tong et al., 2020, section 3.2.
    """
    density = saliency(x.to(model_device(saliency, x.device))).to(x.device)
    if density.shape != mask.shape:
        reject("saliency", f"a density of shape {tuple(mask.shape)}", described(f"shape {tuple(density.shape)}"))
    share: PerRow = (density * mask).flatten(1).sum(1)
    return share


def ForegroundScore(saliency: nn.Module) -> Objective:
    """The foreground score as an objective; the foreground is that of the clean image (the mask of the rows).

    Args:
        saliency: as in `foreground_score`.
    """
    return Objective(((1.0, _Score(saliency)),))
