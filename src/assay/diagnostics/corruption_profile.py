"""Which corruptions is a classifier robust to?

Hendrycks & Dietterich, ICLR 2019, for the corruptions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from assay.core.call_context import with_images_on_the_cpu
from assay.corruptions.registry import CORRUPTIONS
from assay.corruptions.score import Damage, measure
from assay.data.dataset import Dataset
from assay.diagnostics.plots import canvas, matrix
from assay.util.progress import WorkCallback, no_progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Profile:
    """Accuracy under corruptions.

    Attributes:
        damage: by model.
    """

    damage: Mapping[str, Damage]

    def frame(self) -> list[dict[str, Any]]:
        """One record for each model, corruption and severity."""
        return [
            {"model": name, "corruption": kind, "severity": i + 1, "accuracy": value, "clean": damage.clean}
            for name, damage in self.damage.items()
            for kind, values in damage.accuracy.items()
            for i, value in enumerate(values)
        ]

    def figure(self) -> "Figure":
        """Mean accuracy over the severities: a row a corruption, a column a model."""
        names = tuple(self.damage)
        kinds = tuple(next(iter(self.damage.values())).accuracy)
        table = torch.tensor([[1 - self.damage[name].errors[kind] for name in names] for kind in kinds])
        figure, (axes,) = canvas(3.2 + 0.9 * len(names), 1.2 + 0.3 * len(kinds))
        matrix(axes, table, [kind.replace("_", " ") for kind in kinds], names, ("", "accuracy, mean over severities"))
        return figure

    def verdict(self) -> str:
        """Mean accuracy, and what hurts most."""
        lines = []
        for name, damage in self.damage.items():
            worst = max(damage.errors, key=lambda kind, d=damage: d.errors[kind])  # type: ignore[misc]
            least = f"least under {worst.replace('_', ' ')}: {100 * (1 - damage.errors[worst]):.0f} %"
            lines.append(f"{name} {100 * damage.mean_accuracy:.0f} % of {100 * damage.clean:.0f} % clean ({least})")
        return f"Accuracy on corrupted images: {', '.join(lines)}."


@with_images_on_the_cpu
def profile(
    models: Mapping[str, nn.Module],
    data: Dataset,
    *,
    kinds: Sequence[str] = tuple(CORRUPTIONS),
    seed: int = 0,
    progress: WorkCallback = no_progress,
) -> Profile:
    """Accuracy under each corruption at each severity.

    Args:
        models: networks by name.
        data: images and labels.
        kinds: names of corruptions.
        seed: of their draws, the same for every network.
        progress: progress.
    """
    damage = {}
    for done, (name, model) in enumerate(models.items()):
        damage[name] = measure(model, data, names=kinds, seed=seed)
        progress("corruptions", done + 1, len(models))
    return Profile(MappingProxyType(damage))
