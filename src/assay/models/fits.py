"""Does a model take the images? Tried before anything is written."""

import torch
from torch import Tensor, nn

from assay.core.model_calls import classify
from assay.core.model_state import preserve_state
from assay.data.dataset import Dataset
from assay.util.memory import is_out_of_memory
from assay.util.validate import described, reject

_TRIED = 8
"""Images that a model is tried on: one that raises an error on some samples is no reason to refuse it."""


def _first_answer(model: nn.Module, x: Tensor) -> Tensor:
    """Logits of the first image on which the model raises no error; the error, if it raises one on all of them."""
    errors = []
    for image in x.split(1):
        try:
            return classify(model, image)
        except Exception as error:  # reported by the caller if no image works
            errors.append(error)
    raise errors[0]


def check_fit(name: str, model: nn.Module, data: Dataset, device: str = "cpu") -> str:
    """Try a model on a few images of a data set, before anything is written: it has to take one of them.

    Args:
        name: of the model, for the message.
        model: the classifier; left as it was found, on ``device``.
        data: images and labels.
        device: where.

    Returns:
        A sentence about what is odd, or nothing.

    Raises:
        ValueError: the model does not take images of that shape, or has fewer classes than the labels.
    """
    index = torch.linspace(0, len(data) - 1, min(_TRIED, len(data))).round().long()
    x = data.images(index).to(device)
    convolution = next((part for part in model.modules() if isinstance(part, nn.Conv2d)), None)
    channel_hint = "" if convolution is None else f", whose first convolution takes {convolution.in_channels} channels"
    images = f"images of shape {tuple(x.shape[1:])} (channels, height, width)"
    try:
        with preserve_state(model.to(device)), torch.no_grad():
            logits = _first_answer(model, x)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        odd = next((own.dtype for own in model.parameters() if own.dtype not in (x.dtype, torch.bfloat16)), None)
        if odd is not None and "dtype" in str(error):
            reject("model", f"one that takes {x.dtype} images (model.float())", described(f"{name} of {odd}"))
        reason = " ".join(str(error).split())
        reason = reason if len(reason) <= 250 else reason[:250].rpartition(" ")[0] + " …"
        raise ValueError(
            f"model: expected one that takes {images} as the data has them, got {name}{channel_hint} "
            f"({type(error).__name__}: {reason})"
        ) from error
    if int(data.y.max()) >= logits.shape[1]:
        reject(
            "model",
            f"a logit for each of the {len(data.classes)} classes of the data",
            described(f"{name} with {logits.shape[1]} logits"),
        )
    if convolution is not None and data.x.shape[1] == 1 and convolution.in_channels == 3:
        return f"{name}: takes images of 3 channels and gets {images}; the channel is repeated"
    return ""
