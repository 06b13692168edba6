"""How a classifier does on corrupted images: accuracy by corruption and severity, and the mean corruption error."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from assay.core.call_context import in_neutral_context
from assay.core.model_calls import classify
from assay.core.model_state import preserve_state
from assay.corruptions.registry import CORRUPTIONS, SEVERITIES, corrupt
from assay.data.dataset import Dataset
from assay.models.load import digest
from assay.util.files import atomic_write
from assay.util.validate import one_of, reject

ALEXNET: Mapping[str, float] = MappingProxyType(
    {
        "gaussian_noise": 0.886,
        "shot_noise": 0.894,
        "impulse_noise": 0.923,
        "defocus_blur": 0.820,
        "glass_blur": 0.826,
        "motion_blur": 0.786,
        "zoom_blur": 0.798,
        "snow": 0.867,
        "frost": 0.827,
        "fog": 0.819,
        "brightness": 0.565,
        "contrast": 0.853,
        "elastic_transform": 0.646,
        "pixelate": 0.718,
        "jpeg_compression": 0.607,
    }
)
"""AlexNet's mean error over the severities of ImageNet-C (Hendrycks & Dietterich, 2019, table 1): the baseline."""


@dataclass(frozen=True)
class Damage:
    """What corruptions do to one classifier.

    Attributes:
        clean: accuracy on the images as they are.
        accuracy: by corruption, at severities 1 to 5.
        n: images.
    """

    clean: float
    accuracy: Mapping[str, tuple[float, ...]]
    n: int

    @property
    def errors(self) -> dict[str, float]:
        """By corruption, the mean error over the severities."""
        return {name: 1 - sum(accuracies) / len(accuracies) for name, accuracies in self.accuracy.items()}

    @property
    def mean_accuracy(self) -> float:
        """Over corruptions (the fifteen, where they were measured) and severities."""
        errors = _scored(self.errors)
        return 1 - sum(errors.values()) / max(len(errors), 1)


@in_neutral_context
def measure(
    model: nn.Module,
    data: Dataset,
    *,
    names: Iterable[str] | None = None,
    table: str = "auto",
    seed: int = 0,
    batch: int = 128,
    out: str | Path | None = None,
    progress: Callable[[str, int, float], None] | None = None,
) -> Damage:
    """Accuracy under each corruption at each severity.

    Args:
        model: maps images in [0, 1] to logits.
        data: images and labels.
        names: of the corruptions; by default all nineteen.
        table: see `corrupt`.
        seed: of the draws.
        batch: images a pass.
        out: a JSON file in which results are kept as they come; the same call resumes where an earlier one stopped.
        progress: called with corruption, severity and accuracy.

    Raises:
        ValueError: an unknown name, no images, or a file of another model or other data.
    """
    chosen = tuple(CORRUPTIONS if names is None else names)
    for name in chosen:
        one_of("names", name, tuple(CORRUPTIONS))
    if not len(data):
        reject("data", "at least one image", 0)
    identity = {"model": digest(model), "data": data.digest, "table": table, "seed": seed}
    known = _known(out, identity)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))

    def accuracy(name: str, severity: int) -> float:
        right = 0
        with preserve_state(model), torch.no_grad():
            for at in torch.arange(len(data)).split(batch):
                x = data.images(at)
                x = corrupt(x, name, severity, table=table, seed=seed) if severity else x
                right += int((classify(model, x.to(device)).argmax(1).cpu() == data.y[at]).sum())
        return right / len(data)

    for name, severity in (("clean", 0), *((n, s) for n in chosen for s in SEVERITIES)):
        key = f"{name}/{severity}"
        fresh = key not in known
        if fresh:
            known[key] = accuracy(name, severity)
            if out is not None:
                atomic_write(Path(out), json.dumps({"identity": identity, "accuracy": known}, indent=1))
        if progress is not None:
            progress(name, severity, known[key])
    accuracies = {name: tuple(known[f"{name}/{s}"] for s in SEVERITIES) for name in chosen}
    return Damage(known["clean/0"], MappingProxyType(accuracies), len(data))


def corruption_errors(
    damage: Damage, baseline: Mapping[str, float] = ALEXNET, *, clean: float | None = None
) -> dict[str, float]:
    """Errors relative to a baseline's: one per corruption, and ``mCE``, their mean over the fifteen.

    Args:
        damage: of the classifier.
        baseline: by corruption, the baseline's mean error (``Damage.errors`` of another classifier).
        clean: the baseline's clean error; adds ``relative mCE``: errors beyond each one's clean error.

    Example:
        >>> d = Damage(0.9, {"fog": (0.8, 0.8, 0.7, 0.7, 0.5)}, 10)
        >>> round(corruption_errors(d, {"fog": 0.6})["mCE"], 3)
        0.5

    Source: Hendrycks & Dietterich, 2019, section 4.1.
    """
    missing = [name for name in _scored(damage.errors) if name not in baseline]
    if missing:
        reject("baseline", "an error for " + ", ".join(missing), sorted(baseline))
    relative = {name: error / max(baseline[name], 1e-12) for name, error in damage.errors.items() if name in baseline}
    scored = _scored(relative)
    relative["mCE"] = sum(scored.values()) / max(len(scored), 1)
    if clean is not None:
        beyond = [(damage.errors[n] - (1 - damage.clean)) / max(baseline[n] - clean, 1e-12) for n in scored]
        relative["relative mCE"] = sum(beyond) / max(len(beyond), 1)
    return relative


def _scored(errors: Mapping[str, float]) -> dict[str, float]:
    """Those of the fifteen corruptions, or all where none of them is there."""
    fifteen = {name: value for name, value in errors.items() if not CORRUPTIONS[name].extra}
    return fifteen or dict(errors)


def _known(out: str | Path | None, identity: Mapping[str, object]) -> dict[str, float]:
    if out is None or not Path(out).is_file():
        return {}
    kept = json.loads(Path(out).read_text())
    differs = [key for key, value in identity.items() if kept.get("identity", {}).get(key) != value]
    if differs:
        reject("out", f"a new file or one of the same run (other {', '.join(differs)})", str(out))
    return dict(kept["accuracy"])
