"""Saliency models: maps of where people look, as densities that sum to 1 over an image, differentiable by it."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.model_calls import call
from assay.core.types import Images
from assay.util.validate import described, number, reject, whole

Density = Float[Tensor, "b 1 h w"]

_LUMA = (0.299, 0.587, 0.114)


class SpectralResidual(nn.Module):
    """Saliency without weights: what stands out from the image's own smoothed log spectrum.

    Each image is brought to ``size`` × ``size``, its log amplitude spectrum is reduced by its 3×3 local mean, and the
    phase is kept; the squared inverse transform, smoothed by a Gaussian and weighted by a centre bias, is the map.

    Args:
        size: side at which the map is computed, in pixels (the scale of what is salient); at least 8.
        sigma: standard deviation of the smoothing, in pixels of that scale.
        window: share of each side over which the image fades to its mean, in [0, 1]: a spectrum takes images as
            periodic, and the jump from one border to the other would be what stands out most.
        centre: standard deviation of the centre bias as a share of each side; None for none.
        uniform: share of an even density mixed in, in [0, 1), so that no pixel has none.

    Example:
        >>> image = torch.zeros(1, 1, 32, 32)
        >>> image[..., 18:22, 8:12] = 1.0
        >>> density = SpectralResidual()(image)
        >>> round(density.sum().item(), 4), int(density[0, 0].amax(1).argmax()) in range(16, 24)
        (1.0, True)

    Source: Hou & Zhang, "Saliency detection: a spectral residual approach", CVPR 2007, section 3. Deviations: the
    window and the centre bias (people look at the middle; Kümmerer et al., 2017, add one too); the local mean is
    circular, as the spectrum is; amplitudes get a floor of 1e-4 so that the logarithm has a bounded gradient.
    """

    def __init__(
        self,
        size: int = 32,
        *,
        sigma: float = 2.5,
        window: float = 0.3,
        centre: float | None = 0.3,
        uniform: float = 0.01,
    ) -> None:
        super().__init__()
        self.size = whole("size", size, least=8)
        self.sigma = number("sigma", sigma, least=0)
        self.window = number("window", window, least=0, most=1)
        self.centre = None if centre is None else number("centre", centre, least=0, above=True)
        self.uniform = number("uniform", uniform, least=0, most=0.999)

    def extra_repr(self) -> str:
        """The settings, so that two different models never look the same in a record."""
        return f"{self.size}, sigma={self.sigma}, window={self.window}, centre={self.centre}, uniform={self.uniform}"

    def forward(self, x: Images) -> Density:
        """Density of each image, ``(b, 1, h, w)``, at least 0, summing to 1."""
        height, width = x.shape[2:]
        inner = (self.size, self.size)
        gray = F.interpolate(luminance(x), size=inner, mode="bilinear", antialias=True, align_corners=False)
        fade = taper(self.size, self.window).to(gray)
        fade = fade[:, None] * fade
        spectrum = torch.fft.fft2((gray - gray.mean((2, 3), keepdim=True)) * fade)
        amplitude = (spectrum.real.square() + spectrum.imag.square() + 1e-8).sqrt()
        logarithm = amplitude.log()
        residual = logarithm - F.avg_pool2d(F.pad(logarithm, (1, 1, 1, 1), mode="circular"), 3, stride=1)
        back = torch.fft.ifft2(spectrum * (residual.exp() / amplitude))
        energy = blur((back.real.square() + back.imag.square()) * fade, self.sigma)
        full = F.interpolate(energy, size=(height, width), mode="bilinear", align_corners=False)
        if self.centre is not None:
            full = as_density(full) * gaussian_centre_bias(height, width, spread=self.centre).exp().to(full)
        return (1 - self.uniform) * as_density(full) + self.uniform / (height * width)


class Learned(nn.Module):
    """Any saliency network as a density: resizing, centre bias and normalisation around it.

    The readout follows DeepGaze II: the network's map is blurred, the logarithm of a centre bias is added, and a
    softmax over the pixels makes a density.

    Args:
        network: maps images to ``(b, 1, h', w')`` or ``(b, h', w')``; kept in evaluation mode.
        kind: what the network returns: ``"logits"`` (unnormalised log-densities), ``"log-density"`` or ``"density"``
            (non-negative, any scale).
        centre_bias: log-density ``(h, w)`` of where people look before they see anything, resized to the image;
            None for none.
        size: side in pixels that the network wants its input's shorter side to have; None for the image's own.
        sigma: standard deviation in pixels of a blur on the map before the normalisation.

    Example:
        >>> even = Learned(nn.AdaptiveAvgPool2d(4), kind="density")
        >>> even(torch.full((1, 1, 8, 8), 0.5)).sum().item()
        1.0

    Source: Kümmerer, Wallis, Gatys & Bethge, "Understanding low- and high-level contributions to fixation
    prediction", ICCV 2017, section 2.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        kind: str = "logits",
        centre_bias: Tensor | None = None,
        size: int | None = None,
        sigma: float = 0.0,
    ) -> None:
        super().__init__()
        if kind not in ("logits", "log-density", "density"):
            reject("kind", "'logits', 'log-density' or 'density'", kind)
        if centre_bias is not None and centre_bias.dim() != 2:
            reject("centre_bias", "a log-density of shape (h, w)", described(f"shape {tuple(centre_bias.shape)}"))
        self.network = network.eval()
        self.kind = kind
        self.size = None if size is None else whole("size", size, least=1)
        self.sigma = number("sigma", sigma, least=0)
        self.centre_bias: Tensor | None
        self.register_buffer("centre_bias", centre_bias)

    def train(self, mode: bool = True) -> "Learned":
        """The network stays in evaluation mode: a saliency model is asked, never trained, by an attack."""
        super().train(mode)
        self.network.eval()
        return self

    def extra_repr(self) -> str:
        """The settings, so that two different models never look the same in a record."""
        return f"kind={self.kind!r}, size={self.size}, sigma={self.sigma}"

    def forward(self, x: Images) -> Density:
        """Density of each image, ``(b, 1, h, w)``."""
        shape = tuple(x.shape[2:])
        seen = x
        if self.size is not None:
            scale = self.size / min(shape)
            inner = (round(shape[0] * scale), round(shape[1] * scale))
            seen = F.interpolate(x, size=inner, mode="bilinear", antialias=True, align_corners=False)
        map_ = call(self.network, seen)
        map_ = map_[:, None] if map_.dim() == 3 else map_
        if map_.dim() != 4 or map_.shape[1] != 1:
            reject("network", "a map of shape (b, 1, h, w) or (b, h, w)", described(f"shape {tuple(map_.shape)}"))
        map_ = blur(F.interpolate(map_, size=shape, mode="bilinear", align_corners=False), self.sigma)
        if self.kind == "density" and self.centre_bias is None:
            return as_density(map_.clamp_min(0))
        logs = map_.clamp_min(1e-12).log() if self.kind == "density" else map_
        if self.centre_bias is not None:
            bias = F.interpolate(self.centre_bias[None, None].to(x), size=shape, mode="bilinear", align_corners=False)
            logs = logs + bias
        return logs.flatten(1).softmax(1).view_as(logs)


def gaussian_centre_bias(height: int, width: int, *, spread: float = 0.25) -> Float[Tensor, "h w"]:
    """The log-density of a Gaussian about the centre.

    Args:
        height: rows.
        width: columns.
        spread: standard deviation as a share of each side.
    """
    rows = (torch.arange(height) + 0.5) / height - 0.5
    columns = (torch.arange(width) + 0.5) / width - 0.5
    square = rows[:, None].square() + columns[None].square()
    logs = -square / (2 * number("spread", spread, least=0, above=True) ** 2)
    return logs - logs.logsumexp((0, 1))


def taper(count: int, share: float) -> Float[Tensor, "n"]:
    """A window that is 1 in the middle and falls to 0 as a cosine over ``share`` of the samples (Tukey's)."""
    edge = torch.minimum(at := (torch.arange(count) + 0.5) / count, 1 - at) * 2 / max(share, 1e-6)
    return torch.where(edge < 1, 0.5 - 0.5 * torch.cos(math.pi * edge), 1.0)


def luminance(x: Images) -> Float[Tensor, "b 1 h w"]:
    """Brightness as seen (Rec. 601) of colour images; the mean of the channels of others."""
    if x.shape[1] == 3:
        weights = torch.tensor(_LUMA, dtype=x.dtype, device=x.device).reshape(1, 3, 1, 1)
        return (x * weights).sum(1, keepdim=True)
    return x.mean(1, keepdim=True)


def as_density(map_: Float[Tensor, "b 1 h w"]) -> Density:
    """A non-negative map divided by its sum; even where the sum is 0."""
    total = map_.flatten(1).sum(1).reshape(-1, 1, 1, 1)
    even = torch.full_like(map_, 1 / map_[0].numel()) if len(map_) else map_
    return torch.where(total > 0, map_ / total.clamp_min(1e-30), even)


def blur(map_: Float[Tensor, "b 1 h w"], sigma: float) -> Float[Tensor, "b 1 h w"]:
    """Gaussian smoothing, with edges repeated.

    Args:
        map_: one-channel maps.
        sigma: standard deviation in pixels; 0 leaves the map as it is.
    """
    if sigma == 0:
        return map_
    half = min(math.ceil(3 * sigma), *(s - 1 for s in map_.shape[2:]))
    at = torch.arange(-half, half + 1, dtype=map_.dtype, device=map_.device)
    kernel = (-at.square() / (2 * sigma**2)).exp()
    kernel = kernel / kernel.sum()
    padded = F.pad(map_, (half, half, half, half), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.reshape(1, 1, -1, 1)), kernel.reshape(1, 1, 1, -1))
