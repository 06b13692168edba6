"""Is the loss around an image a slope or a cliff?

The loss over the plane of the gradient's sign and a random sign, as in "Ensemble adversarial training" (Tramèr et al.,
ICLR 2018, figure 2).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from assay.core.call_context import with_images_on_the_cpu
from assay.core.rng import Rng
from assay.core.types import Images, Labels
from assay.diagnostics.plots import INK, canvas
from assay.diagnostics.trail import loss_gradient, losses_of, same_length
from assay.util.progress import WorkCallback, no_progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Surface:
    """Mean loss over two directions.

    Attributes:
        steps: places along each direction, in input units, ascending around 0.
        loss: by model, ``(s, s)``: along the gradient's sign, along the random sign.
        bend: by model, how far the loss along the gradient is from its tangent at the far end, as a share of the
            tangent's rise: 0 for a slope, above for a curve.
    """

    steps: tuple[float, ...]
    loss: Mapping[str, Tensor]
    bend: Mapping[str, float]

    def frame(self) -> list[dict[str, Any]]:
        """One record a place."""
        return [
            {"model": name, "along gradient": a, "along noise": b, "loss": float(table[i, j])}
            for name, table in self.loss.items()
            for i, a in enumerate(self.steps)
            for j, b in enumerate(self.steps)
        ]

    def figure(self) -> "Figure":
        """Contours, one picture a model."""
        figure, axes = canvas(4.0 * len(self.loss), 3.6, columns=len(self.loss))
        for place, (name, result) in zip(axes, self.loss.items(), strict=True):
            drawn = place.contourf(self.steps, self.steps, result.numpy().T, levels=20, cmap="Greys")
            figure.colorbar(drawn, ax=place).outline.set_visible(False)
            place.set_title(name, fontsize=10, color=INK)
            place.set_xlabel("along the gradient's sign", color=INK)
            place.set_ylabel("along a random sign", color=INK)
        return figure

    def verdict(self) -> str:
        """The rise along the gradient and along noise, and the bend."""
        lines = []
        middle = len(self.steps) // 2
        for name, result in self.loss.items():
            rise, noise = result[-1, middle] - result[middle, middle], result[middle, -1] - result[middle, middle]
            lines.append(f"{name} {rise:.2f} (noise {noise:.2f}, bend {100 * self.bend[name]:.0f} %)")
        return f"A step of {self.steps[-1]:.3g} along the gradient's sign raises the mean loss by: {', '.join(lines)}."


@with_images_on_the_cpu
def surface(
    models: Mapping[str, nn.Module],
    x: Images,
    y: Labels,
    *,
    eps: float,
    places: int = 11,
    seed: int = 0,
    progress: WorkCallback = no_progress,
) -> Surface:
    """The mean loss over a plane through each image.

    Args:
        models: networks by name.
        x: images; sums are clipped to [0, 1].
        y: labels.
        eps: reach along each direction.
        places: along each direction, odd.
        seed: of the random signs.
        progress: progress.
    """
    same_length(x, y)
    places += 1 - places % 2
    steps = torch.linspace(-eps, eps, places)
    noise = Rng(seed).normal(torch.arange(len(x)), tuple(x.shape[1:]), "surface").sign().to(x)
    loss, bends = {}, {}
    for done, (name, model) in enumerate(models.items()):
        slope = loss_gradient(model, x, y)
        way = slope.sign()
        table = torch.zeros(places, places)
        for i, a in enumerate(steps.tolist()):
            for j, b in enumerate(steps.tolist()):
                table[i, j] = losses_of(model, (x + a * way + b * noise).clamp(0, 1), y).mean()
        middle = places // 2
        moved = (x + eps * way).clamp(0, 1) - x  # what the box leaves of the step
        tangent = float((slope * moved).flatten(1).sum(1).mean())
        away = abs(float(table[-1, middle] - table[middle, middle]) - tangent)
        loss[name], bends[name] = table, away / tangent if tangent > 0 else 0.0
        progress("surface", done + 1, len(models))
    return Surface(tuple(steps.tolist()), MappingProxyType(loss), MappingProxyType(bends))
