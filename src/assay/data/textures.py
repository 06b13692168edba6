"""Textures and colours for synthetic scenes."""

import math

import torch
from torch import Tensor


def power_law(noise: Tensor, exponent: Tensor, angle: Tensor, stretch: float = 3.0) -> Tensor:
    """Fields whose amplitude spectrum falls as a power of frequency, drawn out along one direction.

    Natural images have exponents near 1 (D. J. Field, "Relations between the statistics of natural images", 1987).

    Args:
        noise: white noise ``(b, c, s, s)``.
        exponent: the fall of the amplitude, ``(b,)``.
        angle: the direction of the streaks ``(b,)``, radians.
        stretch: how much longer than wide they are.

    Returns:
        ``(b, c, s, s)``, each field with mean 0 and variance 1; periodic at the edges.
    """
    size = noise.shape[-1]
    fy = torch.fft.fftfreq(size)[:, None]
    fx = torch.fft.rfftfreq(size)[None, :]
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    along, across = fx * cos + fy * sin, fy * cos - fx * sin
    distance = ((stretch * along) ** 2 + across**2).sqrt()
    distance[:, 0, 0] = 1.0
    amplitude = distance.pow(-exponent.view(-1, 1, 1))
    amplitude[:, 0, 0] = 0.0
    field: Tensor = torch.fft.irfft2(torch.fft.rfft2(noise) * amplitude[:, None], s=(size, size))
    return field / field.flatten(2).std(2)[..., None, None].clamp_min(1e-12)


def colour(light: Tensor, chroma: Tensor, hue: Tensor) -> Tensor:
    """Colours by lightness, chroma and hue, as seen: equal steps look equal.

    Args:
        light: lightness in [0, 1], any shape.
        chroma: 0 is grey, 0.1 muted, 0.2 vivid; the same shape.
        hue: radians; 0.5 is red, 2 green-yellow, 4.5 blue; the same shape.

    Returns:
        Oklab coordinates, stacked in a new dimension 1.

    Source:
        B. Ottosson, "A perceptual color space for image processing", 2020 (Oklab, in polar form).
    """
    return torch.stack((light, chroma * hue.cos(), chroma * hue.sin()), 1)


def to_rgb(lab: Tensor) -> Tensor:
    """From Oklab to sRGB.

    Args:
        lab: ``(b, 3, …)`` as `colour` gives.

    Returns:
        ``(b, 3, …)`` in [0, 1]; what sRGB cannot show is clipped.

    Source:
        B. Ottosson, "A perceptual color space for image processing", 2020; transfer function of IEC 61966-2-1.
    """
    light, a, b = lab.unbind(1)
    cone = torch.stack(
        (
            light + 0.3963377774 * a + 0.2158037573 * b,
            light - 0.1055613458 * a - 0.0638541728 * b,
            light - 0.0894841775 * a - 1.2914855480 * b,
        )
    )
    long, middle, short = (cone * cone * cone).unbind(0)
    linear = torch.stack(
        (
            4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
        ),
        1,
    ).clamp(0, 1)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-8).pow(1 / 2.4) - 0.055)


def turned(u: Tensor, v: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates in a frame turned by ``angle`` (radians, broadcast)."""
    cos, sin = angle.cos(), angle.sin()
    return u * cos + v * sin, v * cos - u * sin


def bar(u: Tensor, v: Tensor, half_length: Tensor, half_width: Tensor) -> Tensor:
    """Signed distance to a bar with round ends about the origin, along u; below 0 inside."""
    beyond = (u.abs() - half_length).clamp_min(0)
    return (beyond * beyond + v * v).sqrt() - half_width


def grid(size: int, factor: int = 1) -> tuple[Tensor, Tensor]:
    """Pixel centres of a square image, y upwards, in [-0.5, 0.5]; ``factor`` points a pixel and axis."""
    points = (torch.arange(size * factor, dtype=torch.float32) + 0.5) / (size * factor) - 0.5
    return points[None, :].expand(size * factor, -1), -points[:, None].expand(-1, size * factor)


TURN = 2 * math.pi
