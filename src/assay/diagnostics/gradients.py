"""Which pixels does a classifier look at?

Tong et al., 2020, section 5.5, figure 6; appendix K.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from assay.core.call_context import with_images_on_the_cpu
from assay.core.types import Images, Labels, Mask
from assay.diagnostics.plots import pictures
from assay.diagnostics.trail import loss_gradient, same_length
from assay.util.progress import WorkCallback, no_progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Gradients:
    """Gradients of the loss with respect to the image.

    Attributes:
        images: ``(n, c, h, w)``.
        gradient: by model, ``(n, c, h, w)``.
        inside: by model, per image the share of the gradient's l1 norm that lies on the foreground; None without masks.
        foreground: mean share of pixels that are foreground; NaN without masks.
    """

    images: Images
    gradient: Mapping[str, Tensor]
    inside: Mapping[str, Tensor] | None
    foreground: float

    def frame(self) -> list[dict[str, Any]]:
        """One record for each model and image."""
        rows = []
        for name, gradient in self.gradient.items():
            sizes = gradient.flatten(1).abs().sum(1).tolist()
            inside = [None] * len(sizes) if self.inside is None else self.inside[name].tolist()
            rows += [
                {"model": name, "sample": i, "l1 norm": size, "on the foreground": share}
                for i, (size, share) in enumerate(zip(sizes, inside, strict=True))
            ]
        return rows

    def figure(self) -> "Figure":
        """Images, and each model's gradients: grey is 0, clipped at three deviations of each."""
        shown = min(len(self.images), 6)
        rows, titles = [*self.images[:shown]], ["image"] * shown
        for name, result in self.gradient.items():
            part = result[:shown]
            scale = 3 * part.flatten(1).std(1).clamp_min(1e-30).view(-1, 1, 1, 1)
            rows += [*(0.5 + 0.5 * (part / scale).clamp(-1, 1))]
            titles += [name] * shown
        return pictures([row.numpy() for row in rows], titles, columns=shown)

    def verdict(self) -> str:
        """How much of the gradient lies on the foreground."""
        if self.inside is None:
            return "Without masks, only the pictures tell which pixels the loss depends on."
        text = ", ".join(f"{name} {100 * result.mean():.0f} %" for name, result in self.inside.items())
        return (
            f"Of the gradient, this much lies on the foreground, which is {100 * self.foreground:.0f} % of the "
            f"pixels: {text}."
        )


@with_images_on_the_cpu
def gradients(
    models: Mapping[str, nn.Module],
    x: Images,
    y: Labels,
    *,
    masks: Mask | None = None,
    progress: WorkCallback = no_progress,
) -> Gradients:
    """The gradient of the cross-entropy with respect to each image.

    Args:
        models: networks by name.
        x: images.
        y: labels.
        masks: foreground, ``(n, 1, h, w)``.
        progress: progress.
    """
    same_length(x, y)
    by_model = {}
    for done, (name, model) in enumerate(models.items()):
        by_model[name] = loss_gradient(model, x, y)
        progress("gradients", done + 1, len(models))
    inside, share = None, float("nan")
    if masks is not None:
        mask = (masks > 0.5).to(x)
        share = float(mask.mean())
        inside = MappingProxyType(
            {
                name: (g.abs() * mask).flatten(1).sum(1) / g.abs().flatten(1).sum(1).clamp_min(1e-30)
                for name, g in by_model.items()
            }
        )
    return Gradients(x, MappingProxyType(by_model), inside, share)
