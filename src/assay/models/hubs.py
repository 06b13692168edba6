"""Pretrained classifiers from timm, torchvision and Hugging Face, with their preprocessing in front.

Each library is imported by the function that needs it: a broken installation must not keep assay from running.
"""

from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from assay.core.model_calls import select_output
from assay.models.preprocessing import Preprocessing, preprocessing_of
from assay.util.validate import described, reject

_TOLERANCE = 1e-3
"""Share of the range of the preprocessed values by which a layer may differ from the processor that it stands for."""


def from_timm(name: str) -> nn.Module:
    """A pretrained timm model behind the mean, standard deviation and input size of its own configuration.

    Raises:
        ImportError: timm is missing or does not import (it needs a torchvision that fits torch).
        ValueError: timm has no such model, or cannot load it.
    """
    try:
        import timm
    except Exception as error:
        _unavailable("timm", "vision", error)
    model = _load(f"timm:{name}", lambda: timm.create_model(name, pretrained=True))
    return nn.Sequential(_preprocessing_of_config(model.pretrained_cfg), model)


def from_torchvision(name: str) -> nn.Module:
    """A torchvision model with its default weights, behind what the transforms of these weights do to pixels.

    Raises:
        ImportError: torchvision is missing or does not import beside this torch.
        ValueError: torchvision has no such model, or cannot load it.
    """
    try:
        from torchvision.models import get_model, get_model_weights
    except Exception as error:
        _unavailable("torchvision", "vision", error)
    weights = _load(f"torchvision:{name}", lambda: get_model_weights(name).DEFAULT)
    transform: Any = weights.transforms()
    mean, std = ([float(v) for v in values] for values in (transform.mean, transform.std))
    crop, resize = getattr(transform, "crop_size", None), getattr(transform, "resize_size", None)
    settings = {
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
        "do_center_crop": crop is not None,
        "crop_size": _pair(crop),
        "do_resize": resize is not None,
        "size": {"shortest_edge": (_pair(resize) or (0,))[0]},
    }
    model = _load(f"torchvision:{name}", lambda: get_model(name, weights=weights))
    return nn.Sequential(preprocessing_of(settings), model)


def from_hf(name: str) -> nn.Module:
    """An image classifier of the Hugging Face hub, behind what its image processor does to pixels.

    The layer in front is made from the processor's settings and compared with the processor on plain colours. Images
    must have the size that the processor makes of them already.

    Args:
        name: ``ORG/NAME`` or ``ORG/NAME@REVISION`` (a commit, for results that can be repeated), or a local folder.

    Raises:
        ImportError: transformers is missing or does not import.
        ValueError: nothing to load there, or a processor that does what assay cannot do differentiably.
    """
    try:
        from transformers import AutoImageProcessor, AutoModelForImageClassification
    except Exception as error:
        _unavailable("transformers", "hf", error)
    repository, _, revision = name.partition("@")
    known = {"revision": revision or "main"}
    model = _load(f"hf:{name}", lambda: AutoModelForImageClassification.from_pretrained(repository, **known))
    processor = _load(f"hf:{name}", lambda: AutoImageProcessor.from_pretrained(repository, **known))
    commit = str(getattr(model.config, "_commit_hash", None) or revision or "unknown")
    return nn.Sequential(
        match_processor(processor, int(getattr(model.config, "num_channels", 3))), _LogitsOf(model, commit)
    )


def match_processor(processor: Any, channels: int = 3) -> Preprocessing:
    """The layer that stands for an image processor, compared with it on plain colours.

    A plain colour stays the same when it is resized or cropped, so this holds whatever the processor does to sizes.

    Args:
        processor: maps a list of 8-bit images ``(h, w, c)`` to ``pixel_values``.
        channels: of the images, 1 or 3.

    Returns:
        The layer; it asks for the size that the processor made of its input.

    Raises:
        ValueError: the processor changes pixels in a way that its settings do not tell.
    """
    settings = dict(processor.to_dict())
    config = settings.get("data_config")
    layer = _preprocessing_of_config(config) if isinstance(config, dict) else preprocessing_of(settings)
    height, width = layer.size or (32, 32)
    colours = np.random.default_rng(0).integers(0, 256, (6, channels), dtype=np.uint8)
    colours[0], colours[1] = 0, 255
    images = [np.ascontiguousarray(np.broadcast_to(c, (height, width, channels))) for c in colours]
    try:
        expected = torch.as_tensor(np.asarray(processor(images, return_tensors="pt")["pixel_values"])).float()
    except Exception as error:
        reason = f"{type(error).__name__}: {_shorten(error)}"
        reject(
            "processor",
            f"one that takes a list of 8-bit images ({height}, {width}, {channels})",
            described(f"{type(processor).__name__} ({reason})"),
        )
    if expected.dim() != 4 or expected.shape[:2] != (len(images), channels):
        reject("processor", f"one that makes images (b, {channels}, h, w)", described(f"shape {tuple(expected.shape)}"))
    if layer.size is not None:
        layer.size = (expected.shape[2], expected.shape[3])
    x = (torch.from_numpy(colours).float() / 255)[:, :, None, None].expand_as(expected)
    difference, span = float((layer(x) - expected).abs().max()), float(expected.max() - expected.min())
    if not difference <= _TOLERANCE * max(span, 1e-6):
        reject(
            "processor",
            "one whose settings say all that it does to pixels; put your own preprocessing before the "
            "network and load it as package.module:factory",
            described(f"{type(processor).__name__}, whose values differ by up to {difference:.3g}"),
        )
    return layer


class _LogitsOf(nn.Module):
    def __init__(self, model: nn.Module, commit: str) -> None:
        super().__init__()
        self.model, self.commit = model, commit

    def extra_repr(self) -> str:
        """The commit, so that it is part of what is recorded."""
        return f"commit={self.commit}"

    def forward(self, x: Tensor) -> Tensor:
        return select_output(self.model(pixel_values=x))[0]


def _preprocessing_of_config(config: Any) -> Preprocessing:
    """The layer for a timm configuration: images in [0, 1], normalised, of the size ``input_size``."""
    size = tuple(int(side) for side in config.get("input_size") or ())[1:]
    share = float(config.get("crop_pct") or 1.0)
    settings: dict[str, Any] = {
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": config["mean"],
        "image_std": config["std"],
        "do_resize": len(size) == 2,
        "size": {"shortest_edge": int(min(size, default=0) / share)},
        "do_center_crop": len(size) == 2,
        "crop_size": size,
    }
    return preprocessing_of(settings)


def _pair(size: Any) -> tuple[int, int] | None:
    """A size as torchvision's transforms keep it, ``[224]`` or ``[224, 256]``, as height and width."""
    if size is None:
        return None
    sides = [int(side) for side in (size if isinstance(size, list | tuple) else [size])]
    return sides[0], sides[-1]


def _load(spec: str, make: Any) -> Any:
    """What a library loads, or one sentence about why it does not."""
    try:
        return make()
    except Exception as error:
        reason = _shorten(error)
        if isinstance(error, ImportError):
            words = " ".join(str(error).split())
            raise ImportError(f"model: {spec} needs a library that is missing or does not import: {words}") from error
        reject(
            "model",
            f"a pretrained classifier that {spec.partition(':')[0]} can load, by its name (for example "
            "timm:resnet18, torchvision:resnet18, hf:microsoft/resnet-18)",
            described(f"{spec} ({type(error).__name__}: {reason})"),
        )


def _shorten(error: Exception) -> str:
    """The beginning of an error's text, cut between words."""
    reason = " ".join(str(error).split())
    return reason if len(reason) <= 120 else reason[:120].rpartition(" ")[0] + " …"


def _unavailable(library: str, extra: str, error: Exception) -> NoReturn:
    cause = (
        "is not installed" if isinstance(error, ModuleNotFoundError) and error.name == library else "does not import"
    )
    hint = f'pip install "assay[{extra}]"'
    if cause == "does not import":
        hint += "; torchvision must be built for exactly this torch"
    raise ImportError(f"{library} {cause} ({type(error).__name__}: {error}). Try: {hint}") from error
