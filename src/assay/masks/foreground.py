"""Foreground masks: from a saliency model, from a data set, from a folder of images."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from assay.core.types import Images, Mask
from assay.util.validate import described, reject, whole


def threshold_mask(density: Tensor) -> Mask:
    """Foreground where a density is above ``t = (min + max) / 2``, image by image.

    Args:
        density: ``(b, 1, h, w)``.

    Returns:
        ``(b, 1, h, w)`` of 0 and 1; all ones where the density is flat (nothing stands out, so nothing is background).

    Example:
        >>> threshold_mask(torch.tensor([[[[0.1, 0.2], [0.6, 0.1]]]])).flatten().tolist()
        [0.0, 0.0, 1.0, 0.0]

    Source: Tong et al., 2020, section 3.3.
    """
    if density.dim() != 4 or density.shape[1] != 1:
        reject("density", "a tensor of shape (b, 1, h, w)", described(f"shape {tuple(density.shape)}"))
    if not len(density):
        return density.clone()
    flat = density.flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    mask = (flat > 0.5 * (low + high)) | (high <= low)
    return mask.to(density.dtype).view_as(density)


def salient_mask(saliency: nn.Module, x: Images, *, batch: int = 256) -> Mask:
    """The foreground of images by a saliency model and `threshold_mask`.

    Args:
        saliency: maps images to a density.
        x: images, ``(n, c, h, w)`` in [0, 1].
        batch: images at a time.

    Returns:
        ``(n, 1, h, w)`` of 0 and 1.

    Example:
        >>> from assay.masks import SpectralResidual
        >>> salient_mask(SpectralResidual(), torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 1, 32, 32])
    """
    if not len(x):
        return x.new_zeros((0, 1, *x.shape[2:]))
    with torch.no_grad():
        return torch.cat([threshold_mask(saliency(part)) for part in x.split(whole("batch", batch, least=1))])


def folder_masks(folder: str | Path, names: Sequence[str], size: tuple[int, int]) -> Mask:
    """Masks from image files: foreground where a pixel is brighter than half.

    Args:
        folder: where the files are.
        names: one file stem a sample, in the order of the samples; ``.png``, ``.bmp``, ``.jpg`` or ``.gif`` is added.
        size: height and width of the samples.

    Returns:
        ``(n, 1, h, w)`` of 0 and 1.

    Raises:
        ValueError: a missing or unreadable file, or one of another size, by name.
    """
    from PIL import Image

    root = Path(folder).resolve()
    if not str(folder).strip() or not root.is_dir():
        reject("folder", "a folder of mask images", str(folder))
    masks = []
    for name in names:
        files = [p for s in (".png", ".bmp", ".jpg", ".gif") if (p := (root / f"{name}{s}").resolve()).is_file()]
        if not files or not files[0].is_relative_to(root):
            reject("folder", f"a mask image for {name!r}", described(f"none in {folder}"))
        try:
            with Image.open(files[0]) as image:
                pixels = torch.tensor(bytearray(image.convert("L").tobytes()), dtype=torch.uint8)
                shape = (image.height, image.width)
        except Exception as error:  # Pillow raises many kinds for damaged files
            reason = " ".join(str(error).split())[:120]
            reject("folder", f"a readable image for {name!r}", described(f"{type(error).__name__}: {reason}"))
        if shape != size:
            reject("folder", f"masks of {size[0]}×{size[1]} pixels", described(f"{shape[0]}×{shape[1]} for {name!r}"))
        masks.append((pixels.reshape(1, *shape) > 127).float())
    return torch.stack(masks) if masks else torch.zeros(0, 1, *size)
