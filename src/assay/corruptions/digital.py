"""Digital damage: contrast, elastic deformation, pixelation, JPEG, saturation."""

import io

import numpy as np
from PIL import Image as Pillow
from scipy import ndimage

from assay.corruptions.filters import Draws, Image, smooth, with_hsv


def contrast(x: Image, draws: Draws, share: float) -> Image:
    """Closer to each channel's mean."""
    mean = x.mean((0, 1), keepdims=True)
    return np.asarray((x - mean) * share + mean)


def saturate(x: Image, draws: Draws, factor: float, more: float) -> Image:
    """Another saturation in HSV."""
    return with_hsv(x, saturation=(factor, more))


def jpeg(x: Image, draws: Draws, quality: int) -> Image:
    """JPEG by Pillow; grey for each channel where there are neither one nor three."""

    def coded(part: Image) -> Image:
        stream = io.BytesIO()
        Pillow.fromarray(_eight(part)).save(stream, "JPEG", quality=quality)
        return np.asarray(Pillow.open(stream), dtype=np.float64) / 255

    return coded(x) if x.shape[2] == 3 else np.stack([coded(x[..., c]) for c in range(x.shape[2])], axis=2)


def pixelate(x: Image, draws: Draws, share: float, box: int) -> Image:
    """Fewer pixels: the mean of each, then back to the old size (``box``: by means again, else the nearest)."""
    height, width = x.shape[:2]
    small = (max(int(width * share), 1), max(int(height * share), 1))
    back = Pillow.Resampling.BOX if box else Pillow.Resampling.NEAREST
    parts = [
        Pillow.fromarray(_eight(x[..., c])).resize(small, Pillow.Resampling.BOX).resize((width, height), back)
        for c in range(x.shape[2])
    ]
    return np.stack([np.asarray(part, dtype=np.float64) / 255 for part in parts], axis=2)


def elastic(x: Image, draws: Draws, strength: float, sigma: float, reach: float, shear: float) -> Image:
    """A random affine map (``shear``), then each pixel moved by a smooth random field.

    Args:
        x: the image.
        draws: random numbers.
        strength: factor of the field; of sizes relative to the image, as are the others.
        sigma: of the filter that makes it smooth.
        reach: of the uniform noise that it is made of.
        shear: most that the three points of the affine map move.
    """
    height, width = x.shape[:2]
    warped = x
    if shear:
        centre, arm = np.array([height, width]) // 2, min(height, width) // 3
        before = np.array([centre + arm, [centre[0] + arm, centre[1] - arm], centre - arm], dtype=np.float64)
        after = before + draws.uniform(-shear * height, shear * height, before.shape)
        # points are (x, y); output pixels are looked up in the input through the inverse map
        matrix = np.linalg.solve(np.c_[after, np.ones(3)], before).T
        columns, rows = np.meshgrid(np.arange(width), np.arange(height))
        source = matrix @ np.stack([columns.ravel(), rows.ravel(), np.ones(rows.size)])
        warped = _sampled(warped, source[1].reshape(height, width), source[0].reshape(height, width), "mirror")
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    fields = [
        smooth(
            draws.uniform(-reach * height, reach * height, (height, width)), sigma * height, mode="reflect", truncate=3
        )
        * strength
        for _ in range(2)
    ]
    return _sampled(warped, rows + fields[1], columns + fields[0], "reflect")


def _sampled(x: Image, rows: np.ndarray, columns: np.ndarray, mode: str) -> Image:
    parts = [ndimage.map_coordinates(x[..., c], [rows, columns], order=1, mode=mode) for c in range(x.shape[2])]
    return np.stack(parts, axis=2)


def _eight(x: Image) -> np.ndarray:
    result: np.ndarray = np.round(np.clip(x, 0, 1) * 255).astype(np.uint8)
    return result
