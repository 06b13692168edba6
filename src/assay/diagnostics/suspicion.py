"""Can a dual perturbation be kept unsuspicious, and what does that cost the attacker?

Tong et al., 2020, section 5.2, figures 3, 8 and 15.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from assay.attacks.dual import DualPerturbation
from assay.core.call_context import with_images_on_the_cpu
from assay.core.types import Images, Labels, Mask
from assay.diagnostics.plots import canvas, lines
from assay.diagnostics.trail import right_of, same_length
from assay.engine.api import perturb
from assay.masks.saliency import SpectralResidual
from assay.masks.score import foreground_score
from assay.util.progress import WorkCallback, no_progress
from assay.util.validate import number, reject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAMBDAS = (0.0, 0.1, 1.0, 10.0, 100.0)


@dataclass(frozen=True)
class Suspicion:
    """Foreground score and accuracy against λ.

    Attributes:
        lambdas: weights of the score.
        score: by model, the mean foreground score of its adversarial images.
        accuracy: by model, on the same images.
        clean: the foreground score of clean images.
        count: images.
    """

    lambdas: tuple[float, ...]
    score: Mapping[str, tuple[float, ...]]
    accuracy: Mapping[str, tuple[float, ...]]
    clean: float
    count: int

    def frame(self) -> list[dict[str, Any]]:
        """One record for each model and λ."""
        return [
            {"model": name, "lambda": lam, "foreground score": s, "accuracy": a, "n": self.count}
            for name in self.score
            for lam, s, a in zip(self.lambdas, self.score[name], self.accuracy[name], strict=True)
        ]

    def figure(self) -> "Figure":
        """The paper's two panels; λ in even steps."""
        figure, (left, right) = canvas(10.0, 3.6, columns=2)
        places = range(len(self.lambdas))
        lines(left, places, {**self.score, "clean images": [self.clean] * len(self.lambdas)}, label="λ")
        lines(right, places, self.accuracy, label="λ", percent=True)
        left.set_ylim(0, 1)
        left.set_ylabel("foreground score")
        for axis in (left, right):
            axis.set_xticks(places, [f"{lam:g}" for lam in self.lambdas])
        return figure

    def verdict(self) -> str:
        """Ends of both curves."""
        texts = []
        for name, s in self.score.items():
            a = self.accuracy[name]
            texts.append(f"{name} score {s[0]:.2f} → {s[-1]:.2f}, accuracy {100 * a[0]:.0f} → {100 * a[-1]:.0f} %")
        return (
            f"From λ = {self.lambdas[0]:g} to {self.lambdas[-1]:g}: "
            + "; ".join(texts)
            + f" (score of clean images {self.clean:.2f})."
        )


@with_images_on_the_cpu
def suspicion(
    models: Mapping[str, nn.Module],
    x: Images,
    y: Labels,
    masks: Mask,
    *,
    eps: float,
    eps_background: float,
    norm: str = "linf",
    steps: int | None = None,
    lambdas: Sequence[float] = LAMBDAS,
    saliency: nn.Module | None = None,
    seed: int = 0,
    progress: WorkCallback = no_progress,
) -> Suspicion:
    """Dual-perturbation attacks with ever more weight on the saliency of the foreground.

    Args:
        models: by name.
        x: images.
        y: labels.
        masks: foreground, ``(n, 1, h, w)``.
        eps: budget of the foreground.
        eps_background: of the background.
        norm: of both, ``"linf"`` or ``"l2"``.
        steps: of the attack; by default 20 for linf and 100 for l2, as the paper evaluates.
        lambdas: weights of the foreground score.
        saliency: the model of saliency; by default `assay.masks.SpectralResidual`.
        seed: of the attacks.
        progress: progress.

    Raises:
        ValueError: no λ.

    Source: Tong et al., 2020, section 5.2. Deviation: spectral residual saliency (Hou & Zhang, CVPR 2007) stands for
    DeepGaze II, whose weights are not free to pass on; any differentiable model of saliency can be given.
    """
    same_length(x, y)
    if not lambdas:
        reject("lambdas", "at least one weight", lambdas)
    for lam in lambdas:
        number("lambdas", lam, least=0)
    model_of_saliency = saliency or SpectralResidual()
    mask = (masks > 0.5).float()
    score: dict[str, list[float]] = {name: [] for name in models}
    accuracy: dict[str, list[float]] = {name: [] for name in models}
    for i, (name, model) in enumerate(models.items()):
        for j, lam in enumerate(lambdas):
            progress(f"{name}, λ = {lam:g}", i * len(lambdas) + j, len(models) * len(lambdas))
            attack = DualPerturbation(
                eps,
                eps_background,
                norm=norm,
                steps=steps or (20 if norm == "linf" else 100),
                saliency=model_of_saliency,
                lam=lam,
            )
            adversarial = torch.cat(
                [
                    perturb(model, x[at], y[at], attack, mask=mask[at], seed=seed, ids=at)
                    for at in torch.arange(len(x)).split(256)
                ]
            )
            score[name].append(_scored(model_of_saliency, adversarial, mask))
            accuracy[name].append(float(right_of(model, adversarial, y).float().mean()))
    progress("suspicion", len(models) * len(lambdas), len(models) * len(lambdas))
    return Suspicion(
        tuple(lambdas),
        MappingProxyType({k: tuple(v) for k, v in score.items()}),
        MappingProxyType({k: tuple(v) for k, v in accuracy.items()}),
        _scored(model_of_saliency, x, mask),
        len(x),
    )


def _scored(saliency: nn.Module, x: Images, mask: Mask) -> float:
    with torch.no_grad():
        parts = [foreground_score(saliency, part, own) for part, own in zip(x.split(256), mask.split(256), strict=True)]
    return float(torch.cat(parts).mean())
