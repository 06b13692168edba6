"""Weather: snow, frost, fog, brightness, spatter."""

import numpy as np
from scipy import ndimage

from assay.corruptions.filters import Draws, Image, edges, equalised, grey, motion, smooth, tinted, with_hsv, zoomed
from assay.corruptions.textures import ice, plasma


def snow(
    x: Image,
    draws: Draws,
    mean: float,
    sigma: float,
    zoom: float,
    threshold: float,
    radius: int,
    blur: float,
    keep: float,
) -> Image:
    """Flakes falling at a random angle, and a whitened image."""
    flakes = zoomed(draws.normal(mean, sigma, x.shape[:2])[..., None], zoom)
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1)
    fallen = motion(flakes, radius, blur, draws.uniform(-135, -45))
    fallen = np.round(fallen * 255) / 255
    white = keep * x + (1 - keep) * np.maximum(x, grey(x) * 1.5 + 0.5)
    return np.asarray(white + fallen + np.rot90(fallen, 2))


def frost(x: Image, draws: Draws, keep: float, over: float) -> Image:
    """A texture of ice laid over the image."""
    return keep * x + over * ice(draws, x.shape[0], x.shape[1]) * tinted(x, (0.85, 0.93, 1.0))


def fog(x: Image, draws: Draws, thickness: float, decay: float) -> Image:
    """A plasma fractal, and less contrast."""
    side = 1 << max(max(x.shape[:2]) - 1, 1).bit_length()
    cloud = plasma(draws, side, decay)[: x.shape[0], : x.shape[1], None]
    top = x.max()
    return np.asarray((x + thickness * cloud) * top / (top + thickness))


def brightness(x: Image, draws: Draws, more: float) -> Image:
    """A larger value in HSV."""
    return with_hsv(x, value=more)


def spatter(
    x: Image, draws: Draws, mean: float, sigma: float, blur: float, threshold: float, strength: float, mud: int
) -> Image:
    """Drops of water or mud."""
    layer = smooth(draws.normal(mean, sigma, x.shape[:2]), blur)
    layer = np.where(layer < threshold, 0, layer)
    if mud:
        cover = smooth((layer > threshold).astype(np.float64), strength)
        cover = np.where(cover < 0.8, 0, cover)[..., None]
        return np.asarray(x * (1 - cover) + cover * tinted(x, (63 / 255, 42 / 255, 20 / 255)))
    drops = _lit(np.clip(layer * 255, 0, 255).astype(np.uint8))
    drops = drops / max(drops.max(), 1e-12) * strength
    return np.asarray(x + drops[..., None] * tinted(x, (175 / 255, 238 / 255, 238 / 255)))


def _lit(layer: np.ndarray) -> Image:
    """Drops with a light side and a dark one: an embossed map of the distance from their edges."""
    edge = edges(layer, 50, 150)
    distance = np.minimum(ndimage.distance_transform_edt(~edge), 20) if edge.any() else np.full(layer.shape, 20.0)
    box = np.ones((3, 3)) / 9
    soft = np.round(ndimage.correlate(distance, box, mode="mirror")).astype(np.uint8)
    emboss = np.array([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]])
    raised = np.clip(ndimage.correlate(equalised(soft).astype(np.float64), emboss, mode="mirror"), 0, 255)
    lit: Image = layer * np.round(ndimage.correlate(raised, box, mode="mirror"))
    return lit
