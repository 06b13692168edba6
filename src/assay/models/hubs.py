"""Pretrained classifiers from timm, torchvision and Hugging Face, with their normalisation in front.

Each library is imported by the function that needs it: a broken installation must not keep assay from running.
"""

from typing import Any, NoReturn

from torch import nn

from assay.core.types import Images, Logits
from assay.models.normalize import STATISTICS, Normalize


def from_timm(name: str) -> nn.Module:
    """A pretrained timm model; mean and standard deviation from its own configuration.

    Raises:
        ImportError: timm is missing or does not import (it needs a torchvision that fits torch).
    """
    try:
        import timm
    except Exception as error:
        _unavailable("timm", "vision", error)
    model = timm.create_model(name, pretrained=True)
    config = model.pretrained_cfg
    return nn.Sequential(Normalize(config["mean"], config["std"]), model)


def from_torchvision(name: str) -> nn.Module:
    """A torchvision model with its default weights; normalisation from the weights' transforms.

    Raises:
        ImportError: torchvision is missing or does not import beside this torch.
    """
    try:
        from torchvision.models import get_model, get_model_weights
    except Exception as error:
        _unavailable("torchvision", "vision", error)
    weights = get_model_weights(name).DEFAULT
    transform: Any = weights.transforms()
    return nn.Sequential(Normalize(list(transform.mean), list(transform.std)), get_model(name, weights=weights))


def from_hf(name: str) -> nn.Module:
    """An image classifier of the Hugging Face hub; normalisation from its image processor.

    Args:
        name: ``ORG/NAME`` or ``ORG/NAME@REVISION`` (a commit, for results that can be repeated).

    Raises:
        ImportError: transformers is missing or does not import.
    """
    try:
        from transformers import AutoImageProcessor, AutoModelForImageClassification
    except Exception as error:
        _unavailable("transformers", "hf", error)
    repository, _, revision = name.partition("@")
    model = AutoModelForImageClassification.from_pretrained(repository, revision=revision or "main")
    processor = AutoImageProcessor.from_pretrained(repository, revision=revision or "main")
    mean = getattr(processor, "image_mean", None) or STATISTICS["none"][0]
    std = getattr(processor, "image_std", None) or STATISTICS["none"][1]
    commit = str(getattr(model.config, "_commit_hash", None) or revision or "unknown")
    return nn.Sequential(Normalize(mean, std), _LogitsOf(model, commit))


class _LogitsOf(nn.Module):
    def __init__(self, model: nn.Module, commit: str) -> None:
        super().__init__()
        self.model, self.commit = model, commit

    def extra_repr(self) -> str:
        """The commit, so that it is part of what is recorded."""
        return f"commit={self.commit}"

    def forward(self, x: Images) -> Logits:
        logits: Logits = self.model(pixel_values=x).logits
        return logits


def _unavailable(library: str, extra: str, error: Exception) -> NoReturn:
    cause = (
        "is not installed" if isinstance(error, ModuleNotFoundError) and error.name == library else "does not import"
    )
    hint = f'pip install "assay[{extra}]"'
    if cause == "does not import":
        hint += "; torchvision must be built for exactly this torch"
    raise ImportError(f"{library} {cause} ({type(error).__name__}: {error}). Try: {hint}") from error
