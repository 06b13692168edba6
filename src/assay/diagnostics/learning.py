"""How do accuracy and robustness grow with training?

Metzen, 2018, appendix A.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from assay.core.call_context import with_images_on_the_cpu
from assay.core.combinators import AnyAttack
from assay.core.types import Images, Labels
from assay.diagnostics.plots import canvas, lines
from assay.diagnostics.trail import Trail, perturb_images, right_of, same_length
from assay.util.progress import WorkCallback, no_progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Learning:
    """Accuracies by epoch.

    Attributes:
        epochs: the epochs.
        accuracy: by curve, such as ``"test, BIM"``, one share an epoch.
        n: images of each part.
    """

    epochs: tuple[int, ...]
    accuracy: Mapping[str, tuple[float, ...]]
    n: Mapping[str, int]

    def frame(self) -> list[dict[str, Any]]:
        """One record for each part of the data, attack and epoch."""
        return [
            {"part": part, "attack": attack, "epoch": epoch, "accuracy": value, "n": self.n[part]}
            for name, values in self.accuracy.items()
            for part, _, attack in [name.partition(", ")]
            for epoch, value in zip(self.epochs, values, strict=True)
        ]

    def figure(self) -> "Figure":
        """Accuracy against epoch."""
        figure, (axes,) = canvas()
        lines(axes, self.epochs, self.accuracy, label="epoch", percent=True)
        return figure

    def verdict(self) -> str:
        """The ends of the test curves, and the gap to training."""
        texts = [
            f"{name.partition(', ')[2]} {100 * v[0]:.0f} → {100 * v[-1]:.0f} %"
            for name, v in self.accuracy.items()
            if name.startswith("test, ")
        ]
        last = {name: values[-1] for name, values in self.accuracy.items()}
        gaps = [
            last[name.replace("test, ", "train, ")] - value
            for name, value in last.items()
            if name.startswith("test, ") and name.replace("test, ", "train, ") in last
        ]
        gap = f"; at the end training is up to {100 * max(gaps):.0f} points above test" if gaps else ""
        return f"From epoch {self.epochs[0]} to {self.epochs[-1]}, on test images: {', '.join(texts)}{gap}."


@with_images_on_the_cpu
def learning(
    trail: Trail,
    parts: Mapping[str, tuple[Images, Labels]],
    attacks: Mapping[str, AnyAttack],
    *,
    seed: int = 0,
    progress: WorkCallback = no_progress,
) -> Learning:
    """Accuracy by epoch, clean and under each attack.

    Args:
        trail: the networks.
        parts: images and labels by name, such as ``"train"`` and ``"test"``.
        attacks: by name, such as ``"FGSM"`` and ``"BIM"``; each is run again on each epoch's network.
        seed: of the attacks.
        progress: progress.
    """
    for x, y in parts.values():
        same_length(x, y)
    curves: dict[str, list[float]] = {}
    for done, (_, model) in enumerate(trail):
        for part, (x, y) in parts.items():
            for name, attack in {"clean": None, **attacks}.items():
                moved = x if attack is None else perturb_images(model, x, y, attack, seed=seed)
                share = right_of(model, moved, y).double().mean().item()
                curves.setdefault(f"{part}, {name}", []).append(share)
        progress("learning curves", done + 1, len(trail.epochs))
    return Learning(
        trail.epochs,
        MappingProxyType({name: tuple(v) for name, v in curves.items()}),
        MappingProxyType({part: len(x) for part, (x, _) in parts.items()}),
    )
