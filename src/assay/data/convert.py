"""A `Dataset` of what callers have: a pair of arrays, a PyTorch data set or loader, a spec."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from assay.data.arrays import pixels
from assay.data.dataset import Dataset
from assay.data.registry import load
from assay.util.validate import described, reject

_EXPECTED = (
    "a pair (images, labels) of tensors or NumPy arrays, an assay or PyTorch data set, a DataLoader, or a spec such as "
    "'digits' or 'folder:photos'"
)


def as_dataset(data: Any, *, masks: Tensor | None = None, classes: Sequence[str] | None = None) -> Dataset:
    """Labelled images in the form that evaluations take.

    Args:
        data: a pair of images and labels; a PyTorch data set or ``DataLoader`` of such pairs; a spec, of which the test
            part is taken; or a `Dataset`, which is returned as it is. Images are tensors ``(n, c, h, w)``, or NumPy
            arrays ``(n, c, h, w)``, ``(n, h, w, c)`` or ``(n, h, w)``; uint8, or float in [0, 1].
        masks: foreground ``(n, 1, h, w)`` of 0 and 1, or None.
        classes: class names in the order of the labels; by default the data's own, or ``"0"``, ``"1"``, ….

    Returns:
        The data, on the CPU.

    Raises:
        TypeError, ValueError: something else, or images that are normalised or of an order that cannot be told.

    Example:
        >>> as_dataset((np.zeros((4, 8, 8, 3), np.uint8), [0, 1, 1, 0]))
        Dataset('data': 4 images 3×8×8 uint8, 2 classes, no masks)
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, str):
        return load(data)
    images, labels = _pair(data)
    y = torch.as_tensor(labels).detach().cpu()
    if y.is_floating_point() or y.is_complex() or y.dim() != 1:
        reject("y", "one whole number for each image, shape (n,)", described(f"{y.dtype} of shape {tuple(y.shape)}"))
    own = (
        classes or getattr(data, "classes", None) or [str(label) for label in range(int(y.max()) + 1 if len(y) else 1)]
    )
    mask = None if masks is None else torch.as_tensor(masks).cpu() > 0.5
    return Dataset(_images(images), y.long(), tuple(map(str, own)), mask, "data")


def _pair(data: Any) -> tuple[Any, Any]:
    """Images and labels, in one piece each."""
    if isinstance(data, DataLoader):
        return _joined(data)
    if isinstance(data, TorchDataset):
        return _joined(DataLoader(data, batch_size=256))
    if isinstance(data, tuple | list) and len(data) == 2:
        return data[0], data[1]
    return reject("data", _EXPECTED, described(type(data).__name__), error=TypeError)


def _joined(batches: Iterable[Any]) -> tuple[Tensor, Tensor]:
    """All batches of a loader."""
    images, labels = [], []
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            reject("data", "batches that are pairs of images and labels", described(type(batch).__name__))
        images.append(torch.as_tensor(batch[0]))
        labels.append(torch.as_tensor(batch[1]))
    if not images:
        reject("data", "at least one image", described("none"))
    return torch.cat(images), torch.cat(labels)


def _images(images: Any) -> Tensor:
    """Images as uint8 or float32, ``(n, c, h, w)``."""
    if isinstance(images, Tensor):
        own = images.detach().cpu()
        return own if own.dtype in (torch.uint8, torch.float32) or not own.is_floating_point() else own.float()
    array = np.asarray(images)
    channels_first = array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] not in (1, 3)
    return pixels(array, "x", "nchw" if channels_first else "auto")
