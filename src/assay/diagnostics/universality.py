"""Does training remove universal perturbations?

Metzen, 2018, section 3.2, figures 3, 4, 12 and 13.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from assay.attacks.universal_perturbations.perturbation import UniversalAttack, universal
from assay.core.call_context import with_images_on_the_cpu
from assay.data.dataset import Dataset
from assay.diagnostics.plots import canvas, lines, pictures
from assay.diagnostics.trail import Trail, right_of
from assay.util.progress import WorkCallback, no_progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Universality:
    """Accuracy under universal perturbations.

    Attributes:
        epochs: the epochs.
        clean: accuracy without, by epoch.
        accuracy: by the data that perturbations are made on (``"train"``, ``"test"``), ``(T, T)``: made for the network
            of the first epoch, tried on that of the second; on test images.
        deltas: by the same, the perturbations, ``(T, c, h, w)``.
        attack: what made them.
        n: images that they are tried on.
    """

    epochs: tuple[int, ...]
    clean: tuple[float, ...]
    accuracy: Mapping[str, Tensor]
    deltas: Mapping[str, Tensor]
    attack: str
    n: int = 0

    def frame(self) -> list[dict[str, Any]]:
        """One record for each data, epoch of making and epoch of trying."""
        return [
            {"made on": part, "made at": a, "tried at": b, "accuracy": float(table[i, j]), "n": self.n}
            for part, table in self.accuracy.items()
            for i, a in enumerate(self.epochs)
            for j, b in enumerate(self.epochs)
        ]

    def figure(self) -> "Figure":
        """Accuracy by epoch: each epoch's own perturbation, and those of a few fixed epochs."""
        figure, (axes,) = canvas()
        curves: dict[str, Any] = {"clean": self.clean}
        for part, table in self.accuracy.items():
            curves[f"its own, made on {part}"] = table.diagonal().numpy()
        part, table = next(iter(self.accuracy.items()))
        for i in sorted({0, len(self.epochs) // 2, len(self.epochs) - 1}):
            curves[f"of epoch {self.epochs[i]}"] = table[i].numpy()
        lines(axes, self.epochs, curves, label="epoch", percent=True)
        return figure

    def pictures(self, factor: float = 10.0, most: int = 6) -> "Figure":
        """The perturbations of the first data, amplified, around grey."""
        deltas = next(iter(self.deltas.values()))
        chosen = np.linspace(0, len(self.epochs) - 1, min(most, len(self.epochs))).round().astype(int)
        return pictures(
            [(0.5 + factor * deltas[i]).numpy() for i in chosen], [f"epoch {self.epochs[i]}" for i in chosen]
        )

    def verdict(self) -> str:
        """Own-epoch accuracy at both ends."""
        texts = [
            f"{100 * result[0, 0]:.0f} → {100 * result[-1, -1]:.0f} % (made on {part} images)"
            for part, result in self.accuracy.items()
        ]
        return (
            f"Accuracy under a universal perturbation of the network's own, epoch {self.epochs[0]} to "
            f"{self.epochs[-1]}: {', '.join(texts)}; clean {100 * self.clean[0]:.0f} → "
            f"{100 * self.clean[-1]:.0f} %."
        )


@with_images_on_the_cpu
def universality(
    trail: Trail,
    parts: Mapping[str, Dataset],
    test: Dataset,
    attack: UniversalAttack,
    *,
    seed: int = 0,
    progress: WorkCallback = no_progress,
) -> Universality:
    """A universal perturbation for each epoch's network, tried on every epoch's.

    Args:
        trail: the networks.
        parts: data that perturbations are made on, by name: ``"train"``, ``"test"``.
        test: images that they are tried on.
        attack: such as ``UniversalSign(10/255)``, the paper's.
        seed: of the batches.
        progress: progress.
    """
    x, y = test.images(), test.y
    count = len(trail.epochs)
    clean = tuple(right_of(model, x, y).double().mean().item() for _, model in trail)
    deltas: dict[str, Tensor] = {}
    accuracy: dict[str, Tensor] = {}
    for part_index, (part, data) in enumerate(parts.items()):
        perturbations = []
        for done, (_, model) in enumerate(trail):
            perturbations.append(universal(model, data.batches(seed=seed), attack, seed=seed).delta)
            progress("universal perturbations", part_index * count + done + 1, len(parts) * count)
        deltas[part] = torch.cat(perturbations)
        table = torch.zeros(count, count)
        for j, (_, model) in enumerate(trail):
            for i in range(count):
                table[i, j] = right_of(model, (x + perturbations[i]).clamp(0, 1), y).double().mean()
        accuracy[part] = table
    return Universality(
        trail.epochs, clean, MappingProxyType(accuracy), MappingProxyType(deltas), attack.describe(), len(x)
    )
