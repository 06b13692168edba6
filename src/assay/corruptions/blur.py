"""Blur: a lens out of focus, glass, motion, zoom."""

import numpy as np
from scipy import ndimage

from assay.corruptions.filters import Draws, Image, convolved, smooth, zoomed
from assay.corruptions.filters import motion as along


def gaussian(x: Image, draws: Draws, sigma: float) -> Image:
    """A Gaussian filter."""
    return smooth(x, sigma)


def defocus(x: Image, draws: Draws, radius: float, alias: float) -> Image:
    """A disk, its border softened."""
    reach = 8 if radius <= 8 else int(radius)
    place = np.arange(-reach, reach + 1)
    disk = (place[:, None] ** 2 + place[None] ** 2 <= radius**2).astype(np.float64)
    side = 1 if radius <= 8 else 2
    bell = np.exp(-0.5 * (np.arange(-side, side + 1) / alias) ** 2)
    bell /= bell.sum()
    soft = ndimage.correlate1d(ndimage.correlate1d(disk / disk.sum(), bell, 0, mode="mirror"), bell, 1, mode="mirror")
    return convolved(x, soft)


def glass(x: Image, draws: Draws, sigma: float, reach: int, rounds: int) -> Image:
    """Pixels replaced by neighbours at random, one after the other, between two Gaussian filters.

    The paper speaks of exchanging pixels; the published images are made by code that copies one over the other.
    """
    new = np.floor(np.clip(smooth(x, sigma), 0, 1) * 255) / 255
    height, width = x.shape[:2]
    rows, columns = np.arange(height - reach, reach, -1), np.arange(width - reach, reach, -1)
    for _ in range(rounds):
        shifts = draws.integers(-reach, reach, (len(rows), len(columns), 2)).tolist()
        for i, row in enumerate(rows.tolist()):
            for j, column in enumerate(columns.tolist()):
                dx, dy = shifts[i][j]
                new[row, column] = new[row + dy, column + dx]
    return smooth(new, sigma)


def motion(x: Image, draws: Draws, radius: int, sigma: float) -> Image:
    """A line at a random angle within 45 degrees of the horizontal."""
    return along(x, radius, sigma, draws.uniform(-45, 45))


def zoom(x: Image, draws: Draws, largest: float, step: float) -> Image:
    """The mean of the image and its enlargements."""
    factors = np.arange(1, largest, step)
    new = x + sum(zoomed(x, float(factor)) for factor in factors)
    return np.asarray(new / (len(factors) + 1))
