"""A saliency network that learns from foreground masks, its file, and saliency models by name."""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from assay.core.types import Images
from assay.masks.saliency import Density, Learned, SpectralResidual
from assay.util.tensors import read_tensors
from assay.util.validate import described, reject, whole

SPECTRAL = "spectral-residual"
"""The name of `SpectralResidual` with its defaults."""
PART, _KIND = "saliency", "assay-defence"
"""What `assay fit` writes of it: the part, and the kind of the file."""
_DILATIONS = (1, 2, 4, 8, 1)


class SaliencyNetwork(nn.Module):
    """Convolutions at the image's own resolution that see ever further, and one logit a pixel.

    Args:
        channels: of the images.
        width: channels of each layer.

    Example:
        >>> SaliencyNetwork(3)(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 1, 16, 16])
    """

    def __init__(self, channels: int, width: int = 24) -> None:
        super().__init__()
        self.channels, self.width = whole("channels", channels, least=1), whole("width", width, least=1)
        layers: list[nn.Module] = []
        for i, dilation in enumerate(_DILATIONS):
            layers += [
                nn.Conv2d(channels if i == 0 else width, width, 3, padding=dilation, dilation=dilation),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 1))

    def arguments(self) -> dict[str, int]:
        """The arguments that build it again."""
        return {"channels": self.channels, "width": self.width}

    def forward(self, x: Images) -> Density:
        """Logits ``(b, 1, h, w)`` of images ``(b, c, h, w)``."""
        logits: Density = self.layers(2 * x - 1)
        return logits


def fixation_loss(logits: Density, masks: Density) -> torch.Tensor:
    """Mean negative log-likelihood of looking anywhere on the foreground, each pixel of it alike.

    Args:
        logits: ``(b, 1, h, w)``.
        masks: foregrounds, at least 0; an image without any counts as one that is foreground everywhere.

    Example:
        >>> even, left = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]])
        >>> round(fixation_loss(even, left).item(), 4)
        0.6931

    Source: the log-likelihood of Kümmerer et al., 2017, section 2.3, with the pixels of a mask for fixations.
    """
    goal = masks.flatten(1).float()
    goal = torch.where(goal.sum(1, keepdim=True) > 0, goal, 1.0)
    goal = goal / goal.sum(1, keepdim=True)
    return -(goal * F.log_softmax(logits.flatten(1), 1)).sum(1).mean()


def load_saliency(spec: str | Path) -> nn.Module:
    """A saliency model by name.

    Args:
        spec: ``"spectral-residual"``, or a file that ``assay fit saliency`` wrote.

    Returns:
        Maps images ``(b, c, h, w)`` to a density ``(b, 1, h, w)`` that sums to 1.

    Raises:
        ValueError: no such name or file, or a file of something else.

    Example:
        >>> load_saliency("spectral-residual")(torch.rand(1, 3, 16, 16)).shape
        torch.Size([1, 1, 16, 16])
    """
    if spec == SPECTRAL:
        return SpectralResidual()
    path = Path(spec)
    if not path.is_file():
        reject("saliency", f"{SPECTRAL}, or a file that assay fit saliency wrote", str(spec))
    about, weights = read_tensors(path, _KIND, "saliency")
    if not isinstance(about, dict) or about.get("part") != PART:
        reject("saliency", "a file that assay fit saliency wrote", described(f"other weights in {path.name}"))
    network = SaliencyNetwork(**about["arguments"])
    network.load_state_dict(weights)
    return Learned(network.requires_grad_(False)).eval()
