"""Noise on each value."""

import numpy as np

from assay.corruptions.filters import Draws, Image


def gaussian(x: Image, draws: Draws, sigma: float) -> Image:
    """Normal noise."""
    return x + draws.normal(0, sigma, x.shape)


def shot(x: Image, draws: Draws, photons: float) -> Image:
    """Poisson counts of ``photons`` at white."""
    return np.asarray(draws.poisson(x * photons) / photons)


def impulse(x: Image, draws: Draws, share: float) -> Image:
    """A share of the values set to black or white."""
    hit = draws.random(x.shape) < share
    return np.where(hit, (draws.random(x.shape) < 0.5).astype(x.dtype), x)


def speckle(x: Image, draws: Draws, sigma: float) -> Image:
    """Normal noise in proportion to the value."""
    return x + x * draws.normal(0, sigma, x.shape)
