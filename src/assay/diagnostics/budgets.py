"""How much perturbation does it take?

Tong et al., 2020, figure 4; the accuracy–budget curves of every robustness study.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torch import nn

from assay.core.call_context import with_images_on_the_cpu
from assay.core.combinators import AnyAttack
from assay.core.types import Images, Labels
from assay.diagnostics.plots import canvas, lines
from assay.diagnostics.trail import run_attack_to_end, same_length
from assay.util.progress import WorkCallback, no_progress
from assay.util.validate import radius, reject

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Budgets:
    """Accuracy over budgets.

    Attributes:
        eps: budgets, ascending; 0 is clean.
        accuracy: by model, one a budget.
        attack: in words, without its budget.
        count: images.
    """

    eps: tuple[float, ...]
    accuracy: Mapping[str, tuple[float, ...]]
    attack: str
    count: int

    @property
    def half(self) -> dict[str, float]:
        """By model, the budget at which accuracy has fallen to half of the clean one, between points along a line."""
        return {name: _crossing(self.eps, accuracies, accuracies[0] / 2) for name, accuracies in self.accuracy.items()}

    def frame(self) -> list[dict[str, Any]]:
        """One record for each model and budget."""
        return [
            {"model": name, "eps": e, "accuracy": value, "n": self.count}
            for name, accuracies in self.accuracy.items()
            for e, value in zip(self.eps, accuracies, strict=True)
        ]

    def figure(self) -> "Figure":
        """One line a model."""
        figure, (axes,) = canvas()
        lines(axes, self.eps, self.accuracy, label=f"budget ({self.attack})", percent=True)
        return figure

    def verdict(self) -> str:
        """The budgets that halve accuracy."""
        texts = [
            f"{name} {'beyond ' + format(self.eps[-1], '.3g') if half != half else format(half, '.3g')}"
            for name, half in self.half.items()
        ]
        return "Accuracy is half of what it is on clean images at a budget of: " + ", ".join(texts) + "."


def _crossing(eps: Sequence[float], accuracy: Sequence[float], level: float) -> float:
    for (a, b), (high, low) in zip(pairwise(eps), pairwise(accuracy), strict=True):
        if high > level >= low:
            return a + (b - a) * (high - level) / (high - low)
    return float("nan")


@with_images_on_the_cpu
def budgets(
    models: Mapping[str, nn.Module],
    x: Images,
    y: Labels,
    attack: Callable[[float], AnyAttack],
    eps: Sequence[float],
    *,
    seed: int = 0,
    progress: WorkCallback = no_progress,
) -> Budgets:
    """Attack with one budget after another; what a smaller one broke, a larger one breaks as well.

    Args:
        models: by name.
        x: images.
        y: labels.
        attack: makes the attack of a budget.
        eps: budgets above 0.
        seed: of the attacks.
        progress: progress.

    Returns:
        Accuracies at 0 and at each budget, ascending.

    Raises:
        ValueError: no budget, or one that is not above 0.
    """
    same_length(x, y)
    if not eps:
        reject("eps", "at least one budget", eps)
    ordered = sorted(radius("eps", e, above=True) for e in eps)
    results = {}
    for i, (name, model) in enumerate(models.items()):
        values, robust = [], None
        for j, e in enumerate(ordered):
            progress(f"{name}, budget {e:.3g}", i * len(ordered) + j, len(models) * len(ordered))
            outcome = run_attack_to_end(model, x, y, attack(e), seed=seed)
            if robust is None:
                values.append(outcome.clean_accuracy)
            robust = outcome.robust if robust is None else robust & outcome.robust
            values.append(float(robust.float().mean()))
        results[name] = tuple(values)
    progress("budgets", len(models) * len(ordered), len(models) * len(ordered))
    return Budgets(
        (0.0, *ordered), MappingProxyType(results), attack(ordered[-1]).describe().rpartition(" ")[0], len(x)
    )
