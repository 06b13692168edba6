"""What several corruptions need: Gaussian and motion filters, zoom, HSV, edges. Images are ``(h, w, c)`` in [0, 1]."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float64]
Draws = np.random.Generator
GREY = np.array([0.299, 0.587, 0.114])
"""Weights of luma (ITU-R BT.601)."""


def smooth(x: Image, sigma: float, *, mode: str = "nearest", truncate: float = 4.0) -> Image:
    """A Gaussian filter over rows and columns."""
    wide = (sigma, sigma) + (0,) * (x.ndim - 2)
    result: Image = ndimage.gaussian_filter(x, wide, mode=mode, truncate=truncate)
    return result


def convolved(x: Image, kernel: Image) -> Image:
    """Each channel filtered, reflected at the border without repeating it."""
    return np.stack([ndimage.correlate(x[..., c], kernel, mode="mirror") for c in range(x.shape[2])], axis=2)


def motion(x: Image, radius: int, sigma: float, angle: float) -> Image:
    """Half a Gaussian along a line of ``2·radius + 1`` pixels at ``angle`` degrees; borders are repeated."""
    width = 2 * radius + 1
    weights = np.exp(-0.5 * (np.arange(width) / sigma) ** 2)
    weights /= weights.sum()
    down, right = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    height, across = x.shape[:2]
    blurred = np.zeros_like(x)
    for i in range(width):
        dy, dx = -math.ceil(i * down - 0.5), -math.ceil(i * right - 0.5)
        rows = np.clip(np.arange(height) - dy, 0, height - 1)
        columns = np.clip(np.arange(across) - dx, 0, across - 1)
        blurred += weights[i] * x[np.ix_(rows, columns)]
    return blurred


def zoomed(x: Image, factor: float) -> Image:
    """The middle, enlarged to the old size by linear interpolation."""
    height, width = x.shape[:2]
    rows, columns = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    part = x[top : top + rows, left : left + columns]
    large = ndimage.zoom(part, (factor, factor) + (1,) * (x.ndim - 2), order=1)
    top, left = max((large.shape[0] - height) // 2, 0), max((large.shape[1] - width) // 2, 0)
    cropped: Image = large[top : top + height, left : left + width]
    short = [(0, max(n - m, 0)) for n, m in zip(x.shape[:2], cropped.shape[:2], strict=True)]
    return np.pad(cropped, short + [(0, 0)] * (x.ndim - 2), mode="edge")


def grey(x: Image) -> Image:
    """One channel, ``(h, w, 1)``."""
    return np.asarray((x @ GREY)[..., None] if x.shape[2] == 3 else x.mean(2, keepdims=True))


def tinted(x: Image, colour: tuple[float, float, float]) -> Image:
    """A colour in as many channels as the image has."""
    tint = np.array(colour)
    return tint if x.shape[2] == 3 else np.array([tint @ GREY])


def with_hsv(x: Image, saturation: tuple[float, float] = (1.0, 0.0), value: float = 0.0) -> Image:
    """Saturation ``a·s + b`` and value ``v + value``, each clipped to [0, 1]; grey images have no saturation."""
    top, low = x.max(2, keepdims=True), x.min(2, keepdims=True)
    span = top - low
    bright = np.clip(top + value, 0, 1)
    if x.shape[2] != 3:
        return np.clip(x + value, 0, 1)
    old = np.divide(span, top, out=np.zeros_like(span), where=top > 0)
    new_saturation = np.clip(saturation[0] * old + saturation[1], 0, 1)
    # a colour is bright·(1 − s·u), u = (max − c)/span in [0, 1]; of a grey pixel the hue counts as red
    red = np.broadcast_to(np.array([0.0, 1.0, 1.0]), x.shape)
    away = np.divide(top - x, span, out=red.copy(), where=span > 0)
    return np.asarray(bright * (1 - new_saturation * away))


def edges(x: NDArray[np.uint8], low: float, high: float) -> NDArray[np.bool_]:
    """Canny's edges of an 8-bit image: Sobel gradients, the largest across each edge, hysteresis.

    Source: Canny, "A computational approach to edge detection", IEEE TPAMI 1986.
    """
    signed = x.astype(np.float64)
    across, down = (ndimage.sobel(signed, axis=a, mode="nearest") for a in (1, 0))
    size = np.abs(across) + np.abs(down)
    steep, flat = np.abs(down) > 2.4142 * np.abs(across), np.abs(down) < 0.4142 * np.abs(across)
    same = across * down > 0
    wide = np.pad(size, 1)
    height, width = x.shape

    def at(dy: int, dx: int) -> Image:
        return wide[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    before = np.select([flat, steep, same], [at(0, -1), at(-1, 0), at(-1, -1)], at(-1, 1))
    after = np.select([flat, steep, same], [at(0, 1), at(1, 0), at(1, 1)], at(1, -1))
    crest = (size > before) & (size >= after) & (size > low)
    labels, count = ndimage.label(crest, structure=np.ones((3, 3)))
    strong = np.zeros(count + 1, dtype=bool)
    strong[np.unique(labels[crest & (size > high)])] = True
    strong[0] = False
    is_edge: NDArray[np.bool_] = strong[labels]
    return is_edge


def equalised(x: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Histogram equalisation of an 8-bit image."""
    counts = np.bincount(x.ravel(), minlength=256).cumsum()
    first = counts[counts > 0][0]
    if first == counts[-1]:
        return x
    scale = np.round((counts - first) * 255.0 / (counts[-1] - first))
    table: NDArray[np.uint8] = np.clip(scale, 0, 255).astype(np.uint8)
    return table[x]
