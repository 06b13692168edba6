"""What recipes write: one NumPy archive, as ``npz:`` reads it."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from assay.data.decode import decode_image, open_image
from assay.util.files import atomic_write
from assay.util.validate import described, reject

MARK = "recipe"
"""The array that says which recipe wrote an archive."""


def save_arrays(out: Path, recipe: str, arrays: Mapping[str, NDArray[Any]], classes: Sequence[str]) -> None:
    """Write ``train_x``, ``train_y``, ``test_x``, ``test_y`` … at once, so that the file is never half of itself.

    Args:
        out: the file.
        recipe: the name of what wrote it.
        arrays: images ``(n, c, h, w)`` uint8, labels ``(n,)``, masks ``(n, 1, h, w)`` bool.
        classes: their names.
    """
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **{MARK: np.array(recipe), "classes": np.array(list(classes))}, **arrays)
    atomic_write(out, stream.getvalue())


def recipe_of(path: Path) -> str:
    """The recipe that wrote an archive; empty for any other file."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return str(archive[MARK]) if MARK in archive.files else ""
    except (OSError, ValueError):
        return ""


def channels_first(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(h, w, 3)`` or ``(h, w)`` to ``(3, h, w)``."""
    colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
    return np.ascontiguousarray(colour.transpose(2, 0, 1))


def resized(data: bytes, name: str, side: int) -> NDArray[np.uint8]:
    """An image file as ``(3, side, side)``, resized without keeping its aspect."""
    return channels_first(decode_image(data, name, mode="rgb", size=(side, side)))


def centre_cropped(data: bytes, name: str, side: int) -> NDArray[np.uint8]:
    """An image file as ``(3, side, side)``: its shorter side to 8/7 of that, the middle cut out.

    Source: Krizhevsky, Sutskever & Hinton, NeurIPS 2012, section 5 (256 to 224); the usual evaluation on ImageNet.
    """
    image = open_image(data, name).convert("RGB")
    shorter = round(side * 8 / 7)
    scale = shorter / min(image.size)
    width, height = (max(round(extent * scale), shorter) for extent in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    return channels_first(np.asarray(image.crop((left, top, left + side, top + side))))


def stacked(what: str, images: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Images of one size as one array.

    Raises:
        ValueError: there are none.
    """
    if not images:
        reject(what, "images of that part in the archive", described("none"))
    return np.stack(images)
