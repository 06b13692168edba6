"""Random textures: clouds and ice."""

import numpy as np
from scipy import ndimage

from assay.corruptions.filters import Draws, Image


def plasma(draws: Draws, side: int, decay: float) -> Image:
    """A cloud in [0, 1] by the diamond-square method, periodic.

    Args:
        draws: random numbers.
        side: in pixels, a power of two.
        decay: by how much a displacement shrinks when the grid is halved.

    Source: Fournier, Fussell & Carpenter, "Computer rendering of stochastic models", CACM 1982. Displacements are
    uniform with a spread that shrinks with its square, as in the published corruption.
    """
    field = np.zeros((side, side))
    step, spread = side, 100.0
    while step >= 2:
        half = step // 2
        corners = field[::step, ::step]
        centres = corners + np.roll(corners, -1, 0)
        centres = centres + np.roll(centres, -1, 1)
        field[half::step, half::step] = centres / 4 + spread * draws.uniform(-spread, spread, centres.shape)
        middle = field[half::step, half::step]
        above = middle + np.roll(middle, 1, 0)
        beside = corners + np.roll(corners, -1, 1)
        field[::step, half::step] = (above + beside) / 4 + spread * draws.uniform(-spread, spread, above.shape)
        left = middle + np.roll(middle, 1, 1)
        along = corners + np.roll(corners, -1, 0)
        field[half::step, ::step] = (left + along) / 4 + spread * draws.uniform(-spread, spread, left.shape)
        step, spread = half, spread / decay
    field -= field.min()
    return np.asarray(field / max(field.max(), 1e-12))


def ice(draws: Draws, height: int, width: int) -> Image:
    """Needles of ice, ``(h, w, 1)`` in [0, 1]: noise drawn out along two directions, denser towards the border."""
    needles = np.zeros((height, width))
    for _ in range(3):
        long, turn = max(height, width) / 6, draws.uniform(0, 180)
        noise = draws.normal(0, 1, (2 * height, 2 * width))
        drawn = ndimage.gaussian_filter(noise, (long, 0.8), mode="wrap")
        turned = ndimage.rotate(drawn, turn, reshape=False, mode="wrap", order=1)
        part = turned[height // 2 : height // 2 + height, width // 2 : width // 2 + width]
        needles = np.maximum(needles, part / max(part.std(), 1e-12))
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    border = np.clip(np.maximum(np.abs(rows), np.abs(columns)), 0, 1) ** 2
    cloud = ndimage.gaussian_filter(draws.normal(0, 1, (height, width)), max(height, width) / 12, mode="wrap")
    cloud = cloud / max(cloud.std(), 1e-12)
    new: Image = np.clip(0.14 * needles + 0.15 * cloud + 0.3 * border + 0.36, 0, 1)[..., None]
    return new
