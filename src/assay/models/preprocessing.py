"""Image processors as differentiable layers for images in [0, 1]."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from assay.util.validate import described, number, reject

_PIXEL_SETTINGS = (
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
    "do_flip_channel_order",
    "rescale_offset",
    "include_top",
)
_SIZE_SETTINGS = (
    "do_resize",
    "size",
    "resample",
    "interpolation",
    "default_to_square",
    "do_center_crop",
    "crop_size",
    "crop_pct",
    "size_divisor",
)
_OTHER_SETTINGS = (
    "do_convert_rgb",
    "do_reduce_labels",
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "data_format",
    "input_data_format",
    "return_tensors",
    "device",
    "disable_grouping",
    "model_input_names",
    "valid_processor_keys",
    "pad_size",
    "auto_map",
)


class Preprocessing(nn.Module):
    """``x[:, order] · scale + shift``, channel by channel, for images of one size.

    Args:
        scale: one number, or one a channel; multiplies pixels in [0, 1].
        shift: likewise, added afterwards.
        order: input channel of each output channel; None keeps the channels as they are.
        size: height and width that images must have; None accepts any size.
        resizing: what the model's own preprocessing does to images of another size, for the message.

    Example:
        >>> Preprocessing(2.0, -1.0, order=(1, 0))(torch.tensor([[[[0.0]], [[1.0]]]])).flatten().tolist()
        [1.0, -1.0]
    """

    scale: Tensor
    shift: Tensor
    order: Tensor | None

    def __init__(
        self,
        scale: float | Sequence[float] = 1.0,
        shift: float | Sequence[float] = 0.0,
        *,
        order: Sequence[int] | None = None,
        size: tuple[int, int] | None = None,
        resizing: str = "",
    ) -> None:
        super().__init__()
        for name, value in (("scale", scale), ("shift", shift)):
            values = torch.as_tensor(value, dtype=torch.float64).reshape(1, -1, 1, 1)
            if not bool(values.isfinite().all()):
                reject(name, "finite numbers", value)
            self.register_buffer(name, values.float())
        self.register_buffer("order", None if order is None else torch.tensor(order))
        self.size, self.resizing = size, resizing

    def extra_repr(self) -> str:
        """The settings, so that two different models never look the same in a record."""
        order = None if self.order is None else self.order.tolist()
        return f"scale={_short(self.scale)}, shift={_short(self.shift)}, order={order}, size={self.size}"

    def forward(self, x: Tensor) -> Tensor:
        """The images as the network takes them.

        Raises:
            ValueError: images of another number of channels, or of another size.
        """
        _check_input(
            x,
            max(self.scale.shape[1], self.shift.shape[1], 0 if self.order is None else len(self.order)),
            self.size,
            self.resizing,
        )
        return (x if self.order is None else x[:, self.order]) * self.scale + self.shift


def preprocessing_of(settings: Mapping[str, Any], size: tuple[int, int] | None = None) -> Preprocessing:
    """The layer that does to images in [0, 1] what a Hugging Face image processor does to their 8-bit form.

    ``255 x`` is multiplied by ``rescale_factor`` (``do_rescale``), reduced by 1 (``rescale_offset``), brought into the
    order blue, green, red (``do_flip_channel_order``), normalised (``do_normalize``) and, for ``include_top``, divided
    by the standard deviation once more. Images are never resized or cropped here: a perturbation has to be measured in
    the pixels that the network sees.

    Args:
        settings: of the processor, as its ``to_dict()`` returns them.
        size: height and width that the processor makes of images; by default what ``size`` and ``crop_size`` say.

    Returns:
        The layer.

    Raises:
        ValueError: a setting that is not known and not switched off, or one whose value makes no sense.

    Example:
        >>> half = preprocessing_of({"do_rescale": True, "rescale_factor": 1 / 127.5, "rescale_offset": True})
        >>> half(torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3)).flatten().tolist()
        [-1.0, 0.0, 1.0]

    Source: ``transformers.image_processing_backends`` and the processors of EfficientNet and MobileViT.
    """
    _check_settings(settings)
    scale, shift = torch.ones(1, dtype=torch.float64) * 255, torch.zeros(1, dtype=torch.float64)
    if settings.get("do_rescale"):
        factor = settings.get("rescale_factor")
        scale = scale * number("rescale_factor", 1 / 255 if factor is None else factor, least=0, above=True)
        shift = shift - (1.0 if settings.get("rescale_offset") else 0.0)
    flips = bool(settings.get("do_flip_channel_order"))
    order = (2, 1, 0) if flips else None
    if settings.get("do_normalize") and not _is_mobilevit(settings):  # MobileViT's processor never normalises
        if flips:
            reject(
                "processor",
                "do_flip_channel_order or do_normalize, not both (which comes first is not known)",
                _kind(settings),
            )
        mean, std = _numbers(settings, "image_mean"), _numbers(settings, "image_std")
        scale, shift = scale / std, (shift - mean) / std
    if settings.get("include_top"):
        std = _numbers(settings, "image_std")
        scale, shift = scale / std, shift / std
    return Preprocessing(
        scale.tolist(), shift.tolist(), order=order, size=size or target_size(settings), resizing=resizing_of(settings)
    )


def target_size(settings: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width that a processor makes of a square image; None where it leaves the size as it is.

    Example:
        >>> target_size({"do_resize": True, "size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224})
        (224, 224)
    """
    for switch, name in (("do_center_crop", "crop_size"), ("do_resize", "size")):
        if settings.get(switch):
            extent = _extent(settings.get(name))
            if extent is not None:
                return extent
    return None


def resizing_of(settings: Mapping[str, Any]) -> str:
    """What a processor does to the size of images, in words.

    Example:
        >>> resizing_of({"do_resize": True, "size": {"height": 224, "width": 224}})
        'resizes to 224×224'
    """
    words = []
    if settings.get("do_resize"):
        size = settings.get("size")
        edge = size.get("shortest_edge") if isinstance(size, Mapping) else None
        words.append(f"resizes the shorter side to {edge}" if edge else f"resizes to {_sides(_extent(size))}")
    if settings.get("do_center_crop"):
        words.append(f"crops the centre to {_sides(_extent(settings.get('crop_size')))}")
    return " and ".join(words)


def _check_input(x: Tensor, channels: int, size: tuple[int, int] | None, resizing: str) -> None:
    if channels > 1 and x.shape[1] != channels:
        reject("x", f"images of {channels} channels", described(f"shape {tuple(x.shape)}"))
    if size is not None and tuple(x.shape[2:]) != tuple(size):
        own = f" (its own preprocessing {resizing})" if resizing else ""
        reject(
            "x",
            f"images of {_sides(size)} pixels, the size of the model's input{own}; load them with "
            f"?size={size[0]}x{size[1]}",
            described(f"{_sides((x.shape[2], x.shape[3]))}"),
        )


def _check_settings(settings: Mapping[str, Any]) -> None:
    known = (*_PIXEL_SETTINGS, *_SIZE_SETTINGS, *_OTHER_SETTINGS)
    unknown = [
        key
        for key, value in settings.items()
        if key not in known and not key.startswith("_") and value is not None and value is not False
    ]
    if unknown:
        reject(
            "processor",
            "settings that assay can apply to images in [0, 1] (" + ", ".join(_PIXEL_SETTINGS) + "); put your own "
            "preprocessing before the network and load it as package.module:factory",
            described(f"{_kind(settings)} with {', '.join(unknown[:5])}"),
        )


def _numbers(settings: Mapping[str, Any], name: str) -> Tensor:
    value = settings.get(name)
    try:
        values = torch.as_tensor(value, dtype=torch.float64).reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        values = torch.empty(0, dtype=torch.float64)
    if not len(values) or not bool(values.isfinite().all()) or (name == "image_std" and bool((values <= 0).any())):
        expected = "numbers above 0, one a channel" if name == "image_std" else "finite numbers, one a channel"
        reject(f"processor's {name}", expected, value)
    return values


def _extent(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    if isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2:
        return int(size[0]), int(size[1])
    if not isinstance(size, Mapping):
        return None
    if size.get("height") and size.get("width"):
        return int(size["height"]), int(size["width"])
    edge = size.get("shortest_edge")
    return (int(edge), int(edge)) if edge else None


def _is_mobilevit(settings: Mapping[str, Any]) -> bool:
    return _kind(settings).startswith("MobileViT")


def _kind(settings: Mapping[str, Any]) -> str:
    return described(
        str(settings.get("image_processor_type") or settings.get("feature_extractor_type") or "a processor")
    )


def _sides(size: tuple[int, int] | None) -> str:
    return "a size of its own" if size is None else f"{size[0]}×{size[1]}"


def _short(values: Tensor) -> list[float]:
    return [round(value, 8) for value in values.flatten().tolist()]
