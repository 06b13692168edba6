"""Networks that clean images: MagNet's autoencoder, APE-GAN's generator, Defense-GAN's, PixelDefend's density."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.types import Images
from assay.util.validate import number, whole


class Autoencoder(nn.Module):
    """A small convolutional autoencoder with a bottleneck of half the side.

    Args:
        channels: of the images.
        width: channels inside.

    Source: Meng & Chen, "MagNet: a two-pronged defense against adversarial examples", CCS 2017, table 3, wider.
    """

    def __init__(self, channels: int, width: int = 16) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
        )
        self.up = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.out = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x: Images) -> Images:
        """Reconstruct."""
        inner = F.interpolate(self.down(x), size=x.shape[2:], mode="nearest")
        reconstruction: Images = self.out(self.up(inner)).sigmoid()
        return reconstruction


class Cleaner(nn.Module):
    """APE-GAN's generator: an encoder and a decoder with a way past them.

    Args:
        channels: of the images.
        width: channels of the first layer.

    Source: Shen, Jin, Gao & Zhang, "APE-GAN: adversarial perturbation elimination with GAN", 2017, section 3.3.
    Deviation: it adds to the image, so that an untrained one changes little.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def forward(self, x: Images) -> Images:
        """Clean; the side must be even."""
        cleaned: Images = (x + self.body(x)).clamp(0, 1)
        return cleaned


class Generator(nn.Module):
    """A small generator of images from a normal vector.

    Args:
        channels: of the images.
        size: their side, a multiple of 4.
        latent: numbers of the vector.
        width: channels of the last hidden layer.
    """

    def __init__(self, channels: int, size: int, latent: int = 64, width: int = 32) -> None:
        super().__init__()
        self.latent, self.side, self.width = latent, size // 4, width
        self.into = nn.Linear(latent, 2 * width * self.side**2)
        self.body = nn.Sequential(
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor) -> Images:
        """Images of vectors ``(b, latent)``."""
        new: Images = self.body(self.into(z).view(len(z), 2 * self.width, self.side, self.side))
        return new


class PixelDensity(nn.Module):
    """A masked convolutional network: the distribution of each value given those above and to the left of it.

    Channels are independent given the pixels before. Values come in ``levels`` steps.

    Args:
        channels: of the images.
        levels: values that a channel can have.
        width: channels inside.
        depth: hidden layers.

    Source: van den Oord, Kalchbrenner & Kavukcuoglu, "Pixel recurrent neural networks", ICML 2016, section 3.3
    (PixelCNN), smaller; PixelDefend uses PixelCNN++.
    """

    def __init__(self, channels: int, levels: int = 16, width: int = 32, depth: int = 4) -> None:
        super().__init__()
        self.channels, self.levels = channels, whole("levels", levels, least=2)
        self.reach = 3 + depth  # pixels that an output sees to each side
        layers: list[nn.Module] = [Masked(channels, width, 7, first=True), nn.ReLU()]
        for _ in range(depth):
            layers += [Masked(width, width, 3, first=False), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, channels * levels, 1))

    def forward(self, x: Images) -> Tensor:
        """Log-probabilities, ``(b, c, levels, h, w)``."""
        log_probabilities: Tensor = self.body(2 * x - 1).unflatten(1, (self.channels, self.levels)).log_softmax(2)
        return log_probabilities

    def quantised(self, x: Images) -> Tensor:
        """The level of each value."""
        levels: Tensor = (x * (self.levels - 1)).round().long().clamp(0, self.levels - 1)
        return levels


class Masked(nn.Conv2d):
    """A convolution that sees only pixels before the centre, and the centre itself but in the first layer."""

    def __init__(self, before: int, after: int, size: int, *, first: bool) -> None:
        super().__init__(before, after, size, padding=size // 2)
        mask = torch.ones(size, size)
        mask[size // 2, size // 2 + (not first) :] = 0
        mask[size // 2 + 1 :] = 0
        self.mask: Tensor
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class PixelDefend(nn.Module):
    """Each pixel in turn set to its most likely value within ``eps`` of what it was.

    Args:
        density: trained on clean images.
        eps: the most a value may move (the paper: the attack's budget or a little more).

    Source: Song, Kim, Nowozin, Ermon & Kushman, "PixelDefend: leveraging generative models to understand and defend
    against adversarial examples", ICLR 2018, algorithm 1.
    """

    def __init__(self, density: PixelDensity, eps: float = 0.1) -> None:
        super().__init__()
        self.density, self.eps = density, number("eps", eps, least=0)

    def extra_repr(self) -> str:
        """The reach."""
        return f"eps={self.eps:g}"

    @torch.no_grad()
    def forward(self, x: Images) -> Images:
        """Purify, pixel by pixel from the top left; one pass of the density a pixel."""
        purified = x.clone()
        levels = torch.arange(self.density.levels, device=x.device).to(x) / (self.density.levels - 1)
        within = (levels.view(1, 1, -1, 1, 1) - x[:, :, None]).abs() <= self.eps + 1e-6
        reach = self.density.reach
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                left, right = max(j - reach, 0), min(j + reach + 1, x.shape[3])
                seen = purified[:, :, max(i - reach, 0) : i + 1, left:right]
                likely = self.density(seen)[..., -1, j - left]
                best = torch.where(within[..., i, j], likely, -torch.inf).argmax(2)
                some = within[..., i, j].any(2)
                purified[:, :, i, j] = torch.where(some, levels[best], x[:, :, i, j])
        return purified
