"""What does robustness cost in accuracy across a family of classifiers?

Tsipras et al., "Robustness may be at odds with accuracy", ICLR 2019, for the question.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from assay.core.call_context import with_images_on_the_cpu
from assay.core.combinators import AnyAttack
from assay.core.types import Images, Labels
from assay.diagnostics.plots import INK, RULE, SERIES, canvas
from assay.diagnostics.trail import Trail, run_attack_to_end, same_length
from assay.util.progress import WorkCallback, no_progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Tradeoff:
    """Clean and robust accuracy of each network.

    Attributes:
        names: of the networks.
        clean: accuracies.
        robust: accuracies under the attack.
        attack: its name.
        n: images.
    """

    names: tuple[str, ...]
    clean: tuple[float, ...]
    robust: tuple[float, ...]
    attack: str
    n: int

    @property
    def frontier(self) -> tuple[str, ...]:
        """Networks that no other beats in one accuracy without losing in the other."""
        points = list(zip(self.clean, self.robust, strict=True))
        return tuple(
            name
            for name, (c, r) in zip(self.names, points, strict=True)
            if not any(a >= c and b >= r and (a, b) != (c, r) for a, b in points)
        )

    def frame(self) -> list[dict[str, Any]]:
        """One record a network."""
        best = self.frontier
        return [
            {"model": name, "clean": c, "robust": r, "on the frontier": name in best}
            for name, c, r in zip(self.names, self.clean, self.robust, strict=True)
        ]

    def figure(self) -> "Figure":
        """Robust against clean accuracy."""
        figure, (axes,) = canvas(6.0, 4.4)
        best = self.frontier
        for i, (name, c, r) in enumerate(zip(self.names, self.clean, self.robust, strict=True)):
            axes.plot(100 * c, 100 * r, "o", color=SERIES[i % 8], fillstyle="full" if name in best else "none")
            axes.annotate(name, (100 * c, 100 * r), xytext=(6, 4), textcoords="offset points", fontsize=9, color=INK)
        axes.set_xlabel("clean accuracy, %", color=INK)
        axes.set_ylabel(f"under {self.attack}, %", color=INK)
        axes.grid(color=RULE, linewidth=0.8)
        return figure

    def verdict(self) -> str:
        """The frontier."""
        lines = [
            f"{row['model']} ({100 * row['clean']:.0f} % clean, {100 * row['robust']:.0f} % robust)"
            for row in self.frame()
            if row["on the frontier"]
        ]
        return f"Not beaten in both accuracies by another, under {self.attack}, {self.n} images: {', '.join(lines)}."


@with_images_on_the_cpu
def tradeoff(
    models: Mapping[str, nn.Module] | Trail,
    x: Images,
    y: Labels,
    attack: AnyAttack,
    *,
    seed: int = 0,
    progress: WorkCallback = no_progress,
) -> Tradeoff:
    """Clean and robust accuracy of each network.

    Args:
        models: networks by name, or a trail.
        x: images.
        y: labels.
        attack: what robustness is measured by.
        seed: of the attack.
        progress: progress.
    """
    same_length(x, y)
    networks = {f"epoch {e}": m for e, m in models} if isinstance(models, Trail) else dict(models)
    outcomes = []
    for done, model in enumerate(networks.values()):
        outcomes.append(run_attack_to_end(model, x, y, attack, seed=seed))
        progress("trade-off", done + 1, len(networks))
    return Tradeoff(
        tuple(networks),
        tuple(o.clean_accuracy for o in outcomes),
        tuple(o.robust_accuracy for o in outcomes),
        attack.describe(),
        len(x),
    )
