"""A denoiser before a classifier, so that one that was never trained on noise can be smoothed."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from assay.core.types import Images, Logits
from assay.util.validate import described, number, reject


class Denoised(nn.Module):
    """A classifier that sees what a denoiser makes of the image; gradients pass through both.

    Inside `Smoothed` it is denoised smoothing: any classifier gets a certified l2 radius, as far as it is right about
    denoised images.

    Args:
        model: maps images to logits.
        denoiser: maps noisy images, ``(b, c, h, w)``, to images of the same shape in [0, 1], which are clamped; trained
            for the noise that `Smoothed` adds. For a diffusion model see `DiffusionDenoiser`.

    Raises:
        TypeError: no modules.
        ValueError: at a pass: a denoiser that changes the shape.

    Example:
        >>> from assay.defences import Smoothed
        >>> model, denoiser = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), nn.AvgPool2d(1)
        >>> smooth = Smoothed(Denoised(model, denoiser), sigma=0.25)
        >>> smooth.certify(torch.rand(1, 1, 2, 2), n=100).radius.shape
        torch.Size([1])

    Source: Salman, Sun, Yang, Kapoor & Kolter, "Denoised smoothing: a provable defense for pretrained classifiers",
    NeurIPS 2020, section 3.
    """

    def __init__(self, model: nn.Module, denoiser: nn.Module) -> None:
        super().__init__()
        for name, own in (("model", model), ("denoiser", denoiser)):
            if not isinstance(own, nn.Module):
                reject(name, "a torch.nn.Module", type(own), error=TypeError)
        self.model, self.denoiser = model, denoiser

    def forward(self, x: Images) -> Logits:
        """The classifier's logits of denoised images."""
        clean = self.denoiser(x)
        if not isinstance(clean, Tensor) or clean.shape[1:] != x.shape[1:]:  # a rule for any number of images
            got = tuple(clean.shape[1:]) if isinstance(clean, Tensor) else type(clean).__name__
            reject("denoiser", f"images of the shape {tuple(x.shape[1:])} of its input", described(f"{got}"))
        logits: Logits = self.model(clean.clamp(0, 1))
        return logits


class DiffusionDenoiser(nn.Module):
    """One step of a diffusion model: the image that it expects behind a noisy one.

    Args:
        network: predicts the noise: a function of images in [−1, 1] scaled as the model was trained, ``(b, c, h, w)``,
            and of the time step, int64 ``(b,)``; a second half of channels (a learned variance) is dropped.
        alphas: ᾱ_t of the model, falling from about 1 to about 0.
        sigma: standard deviation of the noise of the images in input units ([0, 1]), as that of `Smoothed`.

    Raises:
        TypeError, ValueError: a wrong argument, by name.

    Example:
        >>> class Nothing(nn.Module):
        ...     def forward(self, x, t):
        ...         return torch.zeros_like(x)
        >>> denoiser = DiffusionDenoiser(Nothing(), torch.linspace(0.999, 0.01, 100), sigma=0.25)
        >>> denoiser(torch.full((1, 1, 2, 2), 0.75)).unique()
        tensor([0.7500])

    Source: Carlini, Tramèr, Dvijotham, Rice, Sun & Kolter, "(Certified!!) adversarial robustness for free!", ICLR 2023,
    algorithm 1: the time step t with ``(1 − ᾱ_t) / ᾱ_t = σ²`` in the model's units, here ``2σ`` as [0, 1] becomes
    [−1, 1]; one step, as several change what the image shows. Deviation: between two time steps the nearer one.
    """

    def __init__(self, network: nn.Module, alphas: Sequence[float] | Tensor, sigma: float) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            reject("network", "a torch.nn.Module of images and time steps", type(network), error=TypeError)
        levels = _levels(alphas)
        self.network, self.sigma = network, number("sigma", sigma, least=0, above=True)
        wanted = (2 * self.sigma) ** 2
        at = int(((1 - levels) / levels - wanted).abs().argmin())
        self.time, self.alpha = at, float(levels[at])
        most = float(((1 - levels) / levels).max())
        if wanted > most:
            reject("sigma", f"at most {most**0.5 / 2:.3g}, the most noise that the model was trained on", sigma)

    def forward(self, x: Images) -> Images:
        """The expected image, in [0, 1]."""
        moved = self.alpha**0.5 * (2 * x - 1)
        noise = self.network(moved, torch.full((len(x),), self.time, dtype=torch.int64, device=x.device))
        channels = x.shape[1]
        if noise.shape[1] not in (channels, 2 * channels):
            expected = f"{channels} channels of noise (and as many of its variance)"
            reject("network", expected, described(f"{noise.shape[1]}"))
        noise = noise[:, :channels]
        clean = (moved - (1 - self.alpha) ** 0.5 * noise) / self.alpha**0.5
        image: Images = ((clean + 1) / 2).clamp(0, 1)
        return image


def _levels(alphas: Sequence[float] | Tensor) -> Tensor:
    """The numbers ᾱ_t in float64, ``(t,)``, checked."""
    expected = "falling numbers between 0 and 1, one a time step"
    try:
        levels = torch.as_tensor(alphas, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return reject("alphas", expected, type(alphas), error=TypeError)
    if levels.ndim != 1 or not len(levels):
        reject("alphas", expected, described(f"shape {tuple(levels.shape)}"))
    if not bool(((levels > 0) & (levels < 1)).all()):
        wrong = levels[~((levels > 0) & (levels < 1))]
        reject("alphas", expected, described(f"{float(wrong[0]):g} among them"))
    if bool((levels.diff() >= 0).any()):
        reject("alphas", expected, described("numbers that do not fall"))
    return levels
