"""Networks with noise in their layers."""

import copy

import torch
from torch import Tensor, nn

from assay.util.validate import number


class Noise(nn.Module):
    """Gaussian noise on whatever comes through, in training and in evaluation.

    Args:
        sigma: standard deviation.
    """

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = number("sigma", sigma, least=0)

    def extra_repr(self) -> str:
        """The deviation."""
        return f"sigma={self.sigma}"

    def forward(self, x: Tensor) -> Tensor:
        """Add noise."""
        return x + self.sigma * torch.randn_like(x)


def with_noise_layers(model: nn.Module, first: float = 0.2, inner: float = 0.1) -> nn.Module:
    """A copy of a network with a `Noise` layer before each convolution.

    Train it, then wrap it in `defences.SelfEnsemble`.

    Args:
        model: the network.
        first: deviation of the noise before the first convolution.
        inner: deviation before the others.

    Source: Liu, Cheng, Zhang & Hsieh, "Towards robust neural networks via random self-ensemble", ECCV 2018, section
    3.1; 0.2 and 0.1 as in its experiments.
    """
    noisy = copy.deepcopy(model)
    sites = [
        (parent, name)
        for parent in noisy.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Conv2d)
    ]
    for index, (parent, name) in enumerate(sites):
        sigma = first if index == 0 else inner
        setattr(parent, name, nn.Sequential(Noise(sigma), getattr(parent, name)))
    return noisy
