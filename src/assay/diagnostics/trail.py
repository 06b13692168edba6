"""Training trails (weights after several epochs), and shared helpers of the diagnostics."""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.call_context import with_images_on_the_cpu
from assay.core.combinators import AnyAttack
from assay.core.model_calls import classify, gradients
from assay.core.model_state import model_device, preserve_state
from assay.core.outcome import Outcome
from assay.core.types import Images, Labels, Mask
from assay.engine.api import INTERRUPTED, perturb
from assay.engine.api import attack as run_attack
from assay.models.load import load as load_model
from assay.util.validate import described, reject


@dataclass(frozen=True)
class Trail:
    """Networks by epoch, loaded when they are asked for.

    Attributes:
        source: by epoch, a weights file or a network.
    """

    source: Mapping[int, Path | nn.Module]

    def __post_init__(self) -> None:
        if not self.source:
            reject("source", "at least one epoch", self.source)

    @property
    def epochs(self) -> tuple[int, ...]:
        """The epochs, ascending."""
        return tuple(sorted(self.source))

    def model(self, epoch: int) -> nn.Module:
        """The network after an epoch, in evaluation mode, its weights fixed; a copy of one that was given."""
        if epoch not in self.source:
            reject("epoch", f"one of {', '.join(map(str, self.epochs))}", epoch)
        source = self.source[epoch]
        model = load_model(str(source)) if isinstance(source, Path) else copy.deepcopy(source)
        return model.eval().requires_grad_(False)

    def __iter__(self) -> Iterator[tuple[int, nn.Module]]:
        """Epochs and networks, in order."""
        return ((epoch, self.model(epoch)) for epoch in self.epochs)

    def only(self, epochs: Sequence[int]) -> "Trail":
        """These epochs.

        Raises:
            ValueError: one is not there.
        """
        missing = [epoch for epoch in epochs if epoch not in self.source]
        if missing:
            reject("epochs", f"some of {', '.join(map(str, self.epochs))}", ", ".join(map(str, missing)))
        return Trail({epoch: self.source[epoch] for epoch in epochs})

    def thinned(self, most: int) -> "Trail":
        """At most so many epochs: the first, the last and others evenly between."""
        places = torch.linspace(0, len(self.epochs) - 1, min(most, len(self.epochs))).round().long().unique()
        return Trail({self.epochs[i]: self.source[self.epochs[i]] for i in places.tolist()})


def load_trail(folder: str | Path) -> Trail:
    """The trail that ``assay train --trail`` left in a run's folder.

    Args:
        folder: the run's folder, or its ``trail``.

    Raises:
        FileNotFoundError: there is none.
    """
    folder = Path(folder)
    inner = folder / "trail" if (folder / "trail").is_dir() else folder
    files = {
        int(match[1]): path
        for path in sorted(inner.glob("epoch-*.safetensors"))
        if (match := re.fullmatch(r"epoch-(\d+)\.safetensors", path.name))
    }
    if not files:
        raise FileNotFoundError(
            f"trail: expected epoch-0000.safetensors and others (assay train --trail all), but "
            f"there are none in {folder}"
        )
    return Trail(files)


@with_images_on_the_cpu
def logits_of(model: nn.Module, x: Images, batch: int = 256) -> Tensor:
    """Logits of all images, on the CPU."""
    device = next((p.device for p in model.parameters()), x.device)
    with preserve_state(model), torch.no_grad():
        parts = [classify(model, part.to(device)).cpu() for part in x.split(batch)]
    return torch.cat(parts) if parts else torch.zeros(0, 1)


@with_images_on_the_cpu
def losses_of(model: nn.Module, x: Images, y: Labels, batch: int = 256) -> Tensor:
    """Cross-entropy of each image."""
    return F.cross_entropy(logits_of(model, x, batch), y, reduction="none")


@with_images_on_the_cpu
def loss_gradient(model: nn.Module, x: Images, y: Labels, batch: int = 128) -> Tensor:
    """The gradient of each image's cross-entropy with respect to the image, ``(n, c, h, w)``, on the CPU."""
    device, parts = model_device(model, x.device), []
    with preserve_state(model):
        for part, labels in zip(x.split(batch), y.to(device).split(batch), strict=True):
            parts.append(_loss_gradient(model, part.to(device), labels).cpu())
    return torch.cat(parts) if parts else torch.zeros_like(x)


def _loss_gradient(model: nn.Module, x: Images, y: Labels) -> Images:
    def loss(leaf: Images) -> tuple[list[Tensor], None]:
        return [F.cross_entropy(classify(model, leaf), y, reduction="sum")], None

    return gradients(loss, x)[0][0]


@with_images_on_the_cpu
def right_of(model: nn.Module, x: Images, y: Labels, batch: int = 256) -> Tensor:
    """Whether each image is classified as labelled."""
    return logits_of(model, x, batch).argmax(1) == y


@with_images_on_the_cpu
def perturb_images(
    model: nn.Module,
    x: Images,
    y: Labels,
    attack: AnyAttack,
    *,
    mask: Mask | None = None,
    seed: int = 0,
    batch: int = 256,
) -> Images:
    """Adversarial images, every step of the attack, the last iterate: the perturbation as a training step meets it."""
    device = next((p.device for p in model.parameters()), x.device)
    parts = [
        perturb(
            model,
            x[at].to(device),
            y[at].to(device),
            attack,
            mask=None if mask is None else mask[at].to(device),
            seed=seed,
            ids=at,
        ).cpu()
        for at in torch.arange(len(x)).split(batch)
    ]
    return torch.cat(parts) if parts else x


def run_attack_to_end(model: nn.Module, x: Images, y: Labels, attack: AnyAttack, **more: Any) -> Outcome:
    """Run an attack; re-raise an interrupt, because a partial outcome is not usable.

    Args:
        model: the network.
        x: images.
        y: labels.
        attack: the attack.
        more: of `assay.attack`.
    """
    outcome = run_attack(model, x, y, attack, preflight=False, **more)
    if INTERRUPTED in outcome.events:
        raise KeyboardInterrupt
    return outcome


def same_length(x: Images, y: Labels) -> None:
    """Refuse images and labels that do not belong together."""
    if len(x) != len(y) or not len(x):
        reject("y", f"a label for each of the {len(x)} images, at least one", described(f"{len(y)} labels"))
