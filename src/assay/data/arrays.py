"""Convert NumPy arrays to the tensors of a `Dataset`."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.util.validate import described, reject

LAYOUTS = ("auto", "nchw", "nhwc", "nhw")
ROUNDING = 1e-5
"""How far outside [0, 1] a pixel may be by rounding; such pixels are clipped."""

_CHANNELS = (1, 3)


def pixels(array: NDArray[Any], name: str, layout: str = "auto") -> Tensor:
    """Images as ``(n, c, h, w)``.

    Args:
        array: ``(n, h, w)``, ``(n, h, w, c)`` or ``(n, c, h, w)``; uint8, or float in [0, 1].
        name: what the message calls it.
        layout: the order of the axes; ``"auto"`` finds the axis of 1 or 3 channels, and refuses to guess.

    Returns:
        Uint8 or float32, contiguous.

    Raises:
        ValueError: another dtype, another number of axes, or an order that cannot be told.

    Example:
        >>> pixels(np.zeros((5, 32, 24, 3), np.uint8), "x").shape
        torch.Size([5, 3, 32, 24])
    """
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        reject(name, "pixels as uint8 or as float in [0, 1]", described(f"dtype {array.dtype}"))
    axes = _layout(array, name) if layout == "auto" else layout
    if array.ndim != len(axes):
        reject(name, f"{len(axes)} axes for the layout {axes!r}", described(f"shape {array.shape}"))
    if axes == "nhw":
        array = array[:, None]
    elif axes == "nhwc":
        array = array.transpose(0, 3, 1, 2)
    dtype = np.uint8 if array.dtype == np.uint8 else np.float32
    return torch.from_numpy(_contiguous(array, dtype))


def check_range(x: Tensor, name: str) -> None:
    """Refuse float pixels that are not in [0, 1] within rounding.

    Args:
        x: float images, at least one value.
        name: what the message calls them.

    Raises:
        ValueError: values that are not finite, or outside by more than `ROUNDING`; the message gives both ends and how
            many there are.
    """
    if not x.numel():
        return
    low, high = (float(v) for v in torch.aminmax(x))
    if low >= -ROUNDING and high <= 1 + ROUNDING:  # NaN, which aminmax passes on, fails
        return
    broken = int((~x.isfinite()).sum())
    if broken:
        reject(name, "finite float pixels in [0, 1]", described(f"{broken} of {x.numel()} NaN or infinite"))
    outside = int(((x < 0) | (x > 1)).sum())
    hint = ""
    if low >= 0 and 1.5 < high <= 255:
        hint = "; pixels of 0 to 255 have to be uint8, or divided by 255"
    elif low >= -1.01 and high <= 1.01 and low < -0.5:
        hint = "; pixels of -1 to 1 have to become (x + 1) / 2"
    reject(
        name,
        "finite float pixels in [0, 1]",
        described(f"pixels from {low:.8g} to {high:.8g}, {outside} of {x.numel()} outside{hint}"),
    )


def labels(array: NDArray[Any], name: str) -> Tensor:
    """Labels as int64 ``(n,)``.

    Args:
        array: whole numbers, ``(n,)`` or ``(n, 1)``.
        name: what the message calls it.

    Returns:
        The labels.

    Raises:
        ValueError: not whole numbers, or another shape.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind not in "iu" or array.ndim != 1:
        hint = " (one-hot rows: y.argmax(1))" if array.ndim == 2 else ""
        hint = " (whole numbers: y.astype(int))" if array.dtype.kind == "f" and array.ndim == 1 else hint
        hint = " (names: their positions in ?classes=a,b,c)" if array.dtype.kind in "USO" else hint
        reject(name, f"labels as integers of shape (n,){hint}", described(f"{array.dtype} of shape {array.shape}"))
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        reject(name, "labels that fit into 64 bits with a sign", described(f"{array.max()}"))
    return torch.from_numpy(_contiguous(array, np.int64))


def foreground(array: NDArray[Any], name: str) -> Tensor:
    """Masks as bool ``(n, 1, h, w)``.

    Args:
        array: ``(n, h, w)``, ``(n, 1, h, w)`` or ``(n, h, w, 1)``; bool, or only 0 and 1, or only 0 and 255.
        name: what the message calls it.

    Returns:
        True on the foreground.

    Raises:
        ValueError: another shape, or values that are not those of a mask.

    Example:
        >>> foreground(np.array([[[0, 255], [255, 0]]]), "mask").shape
        torch.Size([1, 1, 2, 2])
    """
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    elif array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3 or array.dtype.kind not in "biuf":
        expected = "masks of shape (n, h, w), (n, 1, h, w) or (n, h, w, 1)"
        reject(name, expected, described(f"{array.dtype} of shape {array.shape}"))
    return torch.from_numpy(_contiguous(binary(array, name)[:, None], np.bool_))


def binary(array: NDArray[Any], name: str) -> NDArray[np.bool_]:
    """An array of two values, as booleans.

    Args:
        array: bool, or only 0 and 1, or only 0 and 255.
        name: what the message calls it.

    Returns:
        True where it is not 0.

    Raises:
        ValueError: other values; a threshold would be a guess.
    """
    if array.dtype == np.bool_:
        return array.astype(np.bool_, copy=False)
    on: NDArray[np.bool_] = array != 0
    top = array[on]
    if top.size and not ((top == 1).all() or (top == 255).all()):
        others = np.unique(top[:100_000])[:5].tolist()
        reject(name, "a mask of only 0 and 1, or only 0 and 255", described(f"values such as {others}"))
    return on


def class_names(names: tuple[str, ...] | None, *labels: Tensor) -> tuple[str, ...]:
    """Class names: those given, or the numbers from 0 to the largest label.

    Args:
        names: names from an option or a file.
        labels: the labels of every split, so that the splits agree.

    Returns:
        One name a class.
    """
    if names is not None:
        return names
    top = max((int(y.max()) for y in labels if len(y)), default=0)
    if top >= 100_000:
        reject("labels", "fewer than 100,000 classes, or their names", described(f"a label of {top}"))
    return tuple(str(k) for k in range(top + 1))


def _layout(array: NDArray[Any], name: str) -> str:
    shape = array.shape
    ask = f"axes whose order can be told; say ?layout= ({', '.join(LAYOUTS[1:])})"
    if array.ndim == 3:
        if shape[2] <= 4:  # (n, h, 3) is more likely one image than a set
            reject(name, ask, described(f"shape {shape}"))
        return "nhw"
    if array.ndim != 4:
        reject(name, "images of shape (n, h, w), (n, h, w, c) or (n, c, h, w)", described(f"shape {shape}"))
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first == last:
        reject(name, ask, described(f"shape {shape}"))
    return "nchw" if first else "nhwc"


def _contiguous(array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Contiguous, writable, native byte order."""
    result = np.ascontiguousarray(array, dtype=np.dtype(dtype))
    return result if result.flags.writeable else result.copy()
