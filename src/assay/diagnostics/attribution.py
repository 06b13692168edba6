"""Can an explanation be changed while the prediction stays?

Ghorbani, Abid & Zou, "Interpretation of neural networks is fragile", AAAI 2019; Chen et al., "Robust attribution
regularization", NeurIPS 2019.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from assay.core.call_context import with_images_on_the_cpu
from assay.core.types import Images, Labels, PerRow
from assay.diagnostics.explanations import attack_saliency, saliency, shared_top, spearman
from assay.diagnostics.plots import canvas, lines, pictures
from assay.diagnostics.trail import right_of, same_length
from assay.util.progress import WorkCallback, no_progress
from assay.util.validate import described, number, reject, whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Attribution:
    """Saliency before and after an attack on it, on images that stay classified as they were.

    Attributes:
        top: by model and image, the share of the k most salient pixels that are still among them.
        rank: by model and image, Spearman's correlation of the two maps.
        noise: by model, the mean share of the k pixels that are left after random signs of the same size.
        k: how many pixels.
        eps: linf budget.
        shown: pictures and titles.
        explanation: what the maps are.
    """

    top: Mapping[str, PerRow]
    rank: Mapping[str, PerRow]
    noise: Mapping[str, float]
    k: int
    eps: float
    shown: tuple[tuple[str, Tensor], ...]
    explanation: str = "gradient"

    def frame(self) -> list[dict[str, Any]]:
        """One record a model."""
        return [
            {
                "model": name,
                "n": len(shares),
                "top-k intersection": float(shares.mean()),
                "rank correlation": float(self.rank[name].mean()),
                "top-k under noise": self.noise[name],
                "k": self.k,
                "explanation": self.explanation,
                "eps": self.eps,
            }
            for name, shares in self.top.items()
        ]

    def figure(self) -> "Figure":
        """Both measures by image, sorted."""
        figure, (left, right) = canvas(10.0, 3.4, columns=2)
        for axis, values_by_model, label in (
            (left, self.top, "top-k intersection"),
            (right, self.rank, "rank correlation"),
        ):
            places = torch.linspace(0, 1, max(len(v) for v in values_by_model.values()))
            curves = {
                name: torch.nn.functional.pad(v.sort().values, (0, len(places) - len(v)), value=torch.nan)
                for name, v in values_by_model.items()
            }
            lines(axis, places, curves, label="images, by rank")
            axis.set_ylabel(label)
        return figure

    def pictures(self) -> "Figure":
        """Images and maps, before and after."""
        return pictures([image.numpy() for _, image in self.shown], [title for title, _ in self.shown], columns=4)

    def verdict(self) -> str:
        """The means."""
        texts = [
            f"{name} {100 * result.mean():.0f} % (under noise {100 * self.noise[name]:.0f} %), rank correlation "
            f"{self.rank[name].mean():.2f}"
            for name, result in self.top.items()
        ]
        return (
            f"Of the {self.k} most salient pixels ({self.explanation.replace('-', ' ')}), an attack within "
            f"{self.eps:.3g} that keeps the prediction leaves: " + "; ".join(texts) + "."
        )


@with_images_on_the_cpu
def attribution(
    models: Mapping[str, nn.Module],
    x: Images,
    y: Labels,
    *,
    eps: float,
    steps: int = 30,
    k: int | None = None,
    explanation: str = "gradient",
    seed: int = 0,
    progress: WorkCallback = no_progress,
) -> Attribution:
    """Attack the saliency of images within a ball, the classification staying as it is.

    Saliency is the absolute gradient of the logit of the true class, or its integrated gradient, summed over channels
    and to 1 over the image; the attack takes from the k pixels that have most of it (the top-k attack). Of all iterates
    that leave the classification as it is, the one counts whose true saliency, of the network as it is, keeps the
    fewest of them.

    Args:
        models: by name.
        x: images; those that a model misclassifies, or has no gradient at, are left out for it.
        y: labels.
        eps: linf budget.
        steps: of signed gradient, of size ``eps / 10`` or what reaches the edge.
        k: pixels; by default a tenth of the image.
        explanation: ``"gradient"`` or ``"integrated-gradients"``.
        seed: of the noise for comparison.
        progress: progress.

    Raises:
        ValueError: no model, k out of range, or a model that is wrong, or has no gradient, at every image.

    Source: Ghorbani et al., algorithm 1, top-k attack, softplus for ReLU as there (`Softened`); top-k intersection and
    Spearman's rank correlation as there and in Chen et al., section 5. The noise that it is compared with counts as an
    iterate too.
    """
    same_length(x, y)
    if not models:
        reject("models", "at least one model", models)
    number("eps", eps, least=0)
    whole("steps", steps, least=1)
    area = x.shape[-1] * x.shape[-2]
    k = max(area // 10, 1) if k is None else whole("k", k, least=1)
    if k > area:
        reject("k", f"at most the {area} pixels of an image", k)
    top, rank, noise, shown = {}, {}, {}, []
    for done, (name, model) in enumerate(models.items()):
        progress(f"saliency of {name}", done, len(models))
        right = right_of(model, x, y)
        if not bool(right.any()):
            reject("models", "models that are right about an image", name)
        explain = partial(saliency, model, explanation=explanation)
        maps = explain(x[right], y[right])
        salient = maps.flatten(1).sum(1) > 0
        if not bool(salient.any()):
            reject("models", "models with a gradient at an image", described(f"{name}, whose saliency is 0 everywhere"))
        images, labels, before = x[right][salient], y[right][salient], maps[salient]
        signs = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed)).sign()
        noisy = (images + eps * signs).clamp(0, 1)
        noise[name] = float(shared_top(before, explain(noisy, labels), k).mean())
        adversarial = attack_saliency(
            model, images, labels, eps=eps, steps=steps, k=k, candidates=noisy, explanation=explanation
        )
        after = explain(adversarial, labels)
        top[name], rank[name] = shared_top(before, after, k), spearman(before, after)
        worst = int(top[name].argmin())
        first, second = (_shown(part[worst]) for part in (before, after))
        shown += [(name, images[worst]), ("saliency", first), ("after", adversarial[worst]), ("saliency", second)]
    progress("saliency", len(models), len(models))
    return Attribution(
        MappingProxyType(top), MappingProxyType(rank), MappingProxyType(noise), k, eps, tuple(shown), explanation
    )


def _shown(saliency_map: Tensor) -> Tensor:
    return (saliency_map / saliency_map.max().clamp_min(1e-30)).sqrt()[None]
