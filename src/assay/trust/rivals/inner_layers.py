"""What layers inside a model give, read out as logits: fitted to its classes, or as they are."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.model_calls import Classifier, call
from assay.core.model_state import model_dtype
from assay.core.types import Images, Logits
from assay.trust.planting.recorded_calls import RecordedCalls

_WIDEST = 2**16
_WEIGHTED: frozenset[Callable[..., Any]] = frozenset(
    {F.linear, F.conv2d, torch.conv2d, torch.matmul, torch.mm, torch.addmm, Tensor.matmul, Tensor.__matmul__, Tensor.mm}
)
_ALIKE, _SAME = 0.9, 1 - 1e-6


def layer_values(model: Classifier, x: Images) -> list[Tensor]:
    """What the model's layers with weights give that a gradient reaches, from the first, each ``(b, d)``.

    Args:
        model: the model; its layers may be modules, or mere products.
        x: images, ``(b, c, h, w)``.
    """
    with torch.enable_grad(), RecordedCalls(_WEIGHTED) as recorded:  # without, some take another way through
        call(model, x if x.requires_grad else x.detach().requires_grad_())
    values = [z for _, z in recorded.calls if z.dim() > 1 and z.requires_grad and len(z) == len(x)]
    return [z.flatten(1) for z in values if z[0].numel() <= _WIDEST]


class InnerLayer(nn.Module):
    """What one layer of a model gives.

    Args:
        model: the model.
        place: the layer's position in `layer_values`, from the last where below 0.
    """

    def __init__(self, model: nn.Module, place: int) -> None:
        super().__init__()
        self.model, self.place = model, place

    def forward(self, x: Images) -> Tensor:
        """Values, ``(b, d)``.

        Raises:
            RuntimeError: for these images the model has no such layer.
        """
        values = layer_values(lambda images: self.model(images.to(model_dtype(self.model))), x)
        if not -len(values) <= self.place < len(values):
            raise RuntimeError("the layer was not reached")
        return values[self.place].float()


def inner_scores(model: nn.Module, x: Images, logits: Logits, classes: int, most: int) -> list[InnerLayer]:
    """Layers that give the model's classes on nine of ten images, and are not its logits but for a factor.

    Args:
        model: the model.
        x: images, ``(b, c, h, w)``.
        logits: what it says of them, ``(b, k)``.
        classes: how many classes are labels: a layer has as many values at least, and k at most.
        most: how many layers, from the last.
    """
    layers, known = list[InnerLayer](), [logits]
    for place, scores in reversed(list(enumerate(layer_values(model, x)))):
        is_wide = classes <= scores.shape[1] <= logits.shape[1]
        if len(layers) == most or not is_wide or any(_are_alike(scores, other) for other in known):
            continue
        agree = scores.argmax(1) == logits.argmax(1)
        if float(agree.float().mean()) >= _ALIKE:
            layers.append(InnerLayer(model, place))
            known.append(scores)
    return layers


def _are_alike(scores: Tensor, other: Logits) -> bool:
    """Whether the differences between classes are the same, but for a factor."""
    if scores.shape != other.shape:
        return False
    ours, theirs = (z.detach().double() - z.detach().double().mean(1, keepdim=True) for z in (scores, other))
    return bool(F.cosine_similarity(ours.flatten(), theirs.to(ours).flatten(), dim=0) > _SAME)
