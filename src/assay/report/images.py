"""Tensors as PNG data URIs, written by us: no byte of a given file reaches the page."""

import base64
from io import BytesIO

import torch
from PIL import Image
from torch import Tensor

_SIDE = 224
_ZERO, _REACH = 128, 127


def picture(x: Tensor) -> str:
    """One image as a PNG data URI.

    Args:
        x: ``(c, h, w)`` in [0, 1]; values outside are clipped, non-finite ones shown black. One channel is grey, two
            are averaged, of more than three the first three are shown. Sides over 224 pixels are reduced by area.

    Returns:
        ``data:image/png;base64,…``

    Example:
        >>> picture(torch.zeros(1, 2, 2))[:22]
        'data:image/png;base64,'
    """
    return _png((_channels(x).clamp(0, 1) * 255).round())


def difference(delta: Tensor) -> tuple[str, float]:
    """One perturbation as a PNG data URI, scaled to its own maximum.

    Args:
        delta: ``(c, h, w)``, any range; non-finite values count as 0.

    Returns:
        The URI and the maximum ``m``: a byte ``b`` of the PNG stands for ``m · (b − 128) / 127``.

    Example:
        >>> difference(torch.zeros(1, 2, 2))[1]
        0.0
    """
    shown = _channels(delta)
    most = float(shown.abs().max()) if shown.numel() else 0.0
    scaled = shown / most if most > 0 else torch.zeros_like(shown)
    return _png((scaled * _REACH).round() + _ZERO), most


def heat(saliency: Tensor) -> str:
    """One saliency map as a PNG data URI, from dark (0) to bright (its own maximum).

    Args:
        saliency: ``(1, h, w)``, non-negative; non-finite values count as 0.

    Returns:
        ``data:image/png;base64,…``
    """
    from matplotlib import colormaps  # slow to import, needed only here

    shown = _channels(saliency).clamp(min=0)
    most = float(shown.max()) if shown.numel() else 0.0
    codes = (shown / most * 255 if most > 0 else shown).round().to(torch.uint8)[0].numpy()
    image = Image.fromarray(codes)
    ramp = colormaps["magma"](range(256), bytes=True)[:, :3]
    image.putpalette(ramp.tobytes())
    return _uri(image)


def outline(mask: Tensor) -> str:
    """The edge of a mask as an SVG path, one unit a pixel.

    Args:
        mask: ``(1, h, w)``, above 0.5 is inside.

    Returns:
        Horizontal and vertical strokes between inside and outside; empty for an empty mask. The border of the image is
        not an edge.

    Example:
        >>> outline(torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]))
        'M1 0v2'
    """
    inside = mask[0].cpu() > 0.5
    across = (inside[1:] != inside[:-1]).tolist()
    along = (inside[:, 1:] != inside[:, :-1]).T.tolist()
    strokes = [f"M{start} {y + 1}h{length}" for y, line in enumerate(across) for start, length in _runs(line)]
    strokes += [f"M{x + 1} {start}v{length}" for x, line in enumerate(along) for start, length in _runs(line)]
    return "".join(strokes)


def _runs(line: list[bool]) -> list[tuple[int, int]]:
    """Start and length of each run of True."""
    runs: list[tuple[int, int]] = []
    for i, on in enumerate(line):
        if not on:
            continue
        if runs and sum(runs[-1]) == i:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((i, 1))
    return runs


def _channels(x: Tensor) -> Tensor:
    """One or three finite channels on the CPU, no side over 224 pixels."""
    x = torch.nan_to_num(x.detach().cpu().float(), nan=0.0, posinf=0.0, neginf=0.0)
    x = x.mean(0, keepdim=True) if len(x) == 2 else x[:3]
    longest = max(x.shape[1:], default=0)
    if longest <= _SIDE:
        return x
    size = [max(1, round(side * _SIDE / longest)) for side in x.shape[1:]]
    return torch.nn.functional.interpolate(x[None], size=size, mode="area")[0]


def _png(codes: Tensor) -> str:
    array = codes.to(torch.uint8).permute(1, 2, 0).numpy()
    return _uri(Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array))


def _uri(image: Image.Image) -> str:
    file = BytesIO()
    image.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
