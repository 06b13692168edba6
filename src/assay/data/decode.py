"""Decode image files with Pillow."""

import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from assay.data.arrays import binary
from assay.data.capacity import check_memory
from assay.util.validate import described, reject

Encoded = bytes | Path
Size = tuple[int, int]

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MODES = ("auto", "rgb", "l")
_GREY = ("1", "L")
_COLOUR = ("RGB", "P", "CMYK", "YCbCr", "RGBX")
_CLEAR = ("RGBA", "LA", "PA")


def decode_images(
    items: Iterable[tuple[str, Encoded | Image.Image]],
    count: int,
    *,
    mode: str = "auto",
    size: Size | None = None,
    limit: float,
) -> Tensor:
    """Decode images into one tensor.

    Args:
        items: a name for messages and the file (a path, its bytes, or an open image), for each image.
        count: how many there are.
        mode: ``"rgb"`` or ``"l"`` (grey) for all; ``"auto"``: grey if all are grey, else RGB.
        size: height and width to resize to, bilinear with Pillow's antialiasing, the aspect not kept;
            None where all have one size.
        limit: the most bytes that the result may take.

    Returns:
        Uint8 ``(count, c, h, w)``.

    Raises:
        ValueError: an image that cannot be read, is partly transparent, or differs in size; or too many of them.
    """
    images: list[NDArray[np.uint8]] = []
    if size is not None:  # before anything is resized to it
        _check_pixels(count, size[0] * size[1] * (3 if mode == "rgb" else 1), limit)
    for name, data in items:
        image = decode_image(data, name, mode=mode, size=size)
        if not images:
            _check_pixels(count, image.size, limit)
        if images and image.shape[:2] != images[0].shape[:2]:
            first, here = (f"{a.shape[0]}×{a.shape[1]}" for a in (images[0], image))
            reject(f"image {name}", f"one size for all, {first} as the first (or ?size= to resize)", described(here))
        images.append(image)
    if not images:
        reject("images", "at least one image", described("none"))
    channels = 3 if any(image.ndim == 3 for image in images) else 1
    out = np.empty((len(images), channels, *images[0].shape[:2]), np.uint8)
    for row, image in zip(out, images, strict=True):
        row[:] = image if image.ndim == 2 else image.transpose(2, 0, 1)  # a grey image fills every channel
    return torch.from_numpy(out)


def _check_pixels(count: int, each: int, limit: float) -> None:
    """Refuse too many pixels; while they are decoded they are in memory twice."""
    if each * count > limit:
        expected = f"at most {limit / 2**30:g} GiB of pixels (option max_gib)"
        reject("images", expected, described(f"{count} of {each / 2**20:.1f} MiB"))
    check_memory("images", count, 2 * each)


def decode_image(
    data: Encoded | Image.Image, name: str, *, mode: str = "auto", size: Size | None = None
) -> NDArray[Any]:
    """Decode one image.

    Args:
        data: the file's path or bytes, or an image that is open already. EXIF orientation is not applied.
        name: what the message calls it.
        mode: ``"rgb"``, ``"l"`` or ``"auto"`` (as it is).
        size: height and width to resize to (bilinear), or None.

    Returns:
        Uint8 ``(h, w)`` or ``(h, w, 3)``.

    Raises:
        ValueError: it cannot be read, is partly transparent, or has more than 8 bits a channel.
    """
    image = data if isinstance(data, Image.Image) else open_image(data, name)
    if image.mode in _CLEAR or "transparency" in image.info:
        image = _opaque(image, name)
    if image.mode not in _GREY + _COLOUR:
        reject(f"image {name}", "8 bits a channel, grey or colour", described(f"Pillow mode {image.mode!r}"))
    grey = image.mode in _GREY if mode == "auto" else mode == "l"
    image = image.convert("L" if grey else "RGB")
    if size is not None and image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(image)


def decode_mask(data: Encoded, name: str, *, size: Size | None = None) -> NDArray[np.bool_]:
    """Decode one foreground mask.

    Args:
        data: the file's path or bytes: grey or bilevel, only 0 and 1, or only 0 and 255.
        name: what the message calls it.
        size: height and width to resize to (bilinear coverage of at least one half), or None.

    Returns:
        Bool ``(h, w)``, True on the foreground.

    Raises:
        ValueError: it cannot be read, or is not a mask of two values.
    """
    image = open_image(data, name)
    if image.mode not in _GREY:
        reject(f"mask {name}", "a grey or bilevel image", described(f"Pillow mode {image.mode!r}"))
    mask = binary(np.asarray(image), f"mask {name}")
    if size is None or mask.shape == size:
        return mask
    cover = Image.fromarray(mask.astype(np.uint8) * 255).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    resized: NDArray[np.bool_] = np.asarray(cover) >= 128
    return resized


def open_image(data: Encoded, name: str) -> Image.Image:
    """Verify and load one image file, which must be one of the `FORMATS` and hold one picture.

    Args:
        data: the file's path or bytes.
        name: what the message calls it.

    Returns:
        The image, loaded, its file closed.

    Raises:
        ValueError: it is not such a file, is damaged, or is above Pillow's decompression limit.
    """
    expected = f"a sound image file ({', '.join(FORMATS)})"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(_handle(data), formats=FORMATS) as checked:
                frames = 1 if checked.format == "MPO" else getattr(checked, "n_frames", 1)
                checked.verify()
            with Image.open(_handle(data), formats=FORMATS) as image:  # verify() leaves an image unusable
                image.load()
    except Exception as error:
        reject(f"image {name}", expected, described(f"{type(error).__name__}: {error}"))
    if frames != 1:
        reject(f"image {name}", "one picture a file", described(f"{frames} frames"))
    return image


def _handle(data: Encoded) -> Any:
    return io.BytesIO(data) if isinstance(data, bytes) else data


def _opaque(image: Image.Image, name: str) -> Image.Image:
    """Drop an alpha channel that hides nothing; refuse one that does, as its background would be a guess."""
    with_alpha = image.convert("RGBA")
    if with_alpha.getchannel("A").getextrema() != (255, 255):
        reject(f"image {name}", "an opaque image", described("one with transparent pixels"))
    return with_alpha.convert("L" if image.mode in ("LA", *_GREY) else "RGB")
