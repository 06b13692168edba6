"""Do adversarial images survive changes of light, blur and noise?

Metzen, 2018, section 3.3, figures 5, 14, 15.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from assay.core.call_context import with_images_on_the_cpu
from assay.core.combinators import AnyAttack
from assay.core.rng import Rng
from assay.core.types import Flag, Images, Labels
from assay.defences.transforms import Blur
from assay.diagnostics.plots import canvas, lines
from assay.diagnostics.trail import Trail, perturb_images, right_of, same_length
from assay.util.progress import WorkCallback, no_progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def brighter(x: Images, strength: float) -> Images:
    """``x + strength``, clipped."""
    return (x + strength).clamp(0, 1)


def contrasted(x: Images, strength: float) -> Images:
    """``strength·x``, clipped (multiplicative, as in the paper)."""
    return (x * strength).clamp(0, 1)


def blurred(x: Images, strength: float) -> Images:
    """A Gaussian filter of so many pixels."""
    return Blur(strength)(x) if strength else x


def noisy(x: Images, strength: float) -> Images:
    """Gaussian noise; the draws belong to the place in the batch, so that every network meets the same."""
    noise = Rng(0).normal(torch.arange(len(x)), tuple(x.shape[1:]), "destruction")
    return (x + strength * noise.to(x)).clamp(0, 1)


TRANSFORMS: Mapping[str, tuple[Callable[[Images, float], Images], tuple[float, ...]]] = MappingProxyType(
    {
        "brightness": (brighter, (0.02, 0.05, 0.1, 0.15, 0.2)),
        "contrast": (contrasted, (0.9, 0.8, 0.7, 0.6, 0.5)),
        "blur": (blurred, (0.3, 0.5, 0.7, 1.0, 1.5)),
        "noise": (noisy, (0.01, 0.02, 0.03, 0.05, 0.08)),
    }
)
"""The transformations and their strengths, from weak to strong."""


@with_images_on_the_cpu
def destruction_rate(
    model: nn.Module, x: Images, moved: Images, y: Labels, change: Callable[[Images], Images]
) -> float:
    """The share of effective adversarial images that a transformation makes ineffective; NaN where none is effective.

    Effective: the clean image is right, the adversarial one wrong. Ineffective after the change: right again.

    Args:
        model: the network.
        x: clean images.
        moved: adversarial images.
        y: labels.
        change: the transformation.

    Source: Kurakin, Goodfellow & Bengio, "Adversarial examples in the physical world", 2017, equation 1, of which
    Metzen, 2018, section 3.3, drops the demand that the transformed clean image be right.
    """
    return _rate(model, change(moved), y, _effective(model, x, moved, y))


@dataclass(frozen=True)
class Destruction:
    """Destruction rates.

    Attributes:
        epochs: the epochs.
        strengths: by transformation.
        rate: by attack and transformation, ``(T, strengths)``; NaN where no image was fooled.
        effective: by attack, per epoch the number of effective images.
    """

    epochs: tuple[int, ...]
    strengths: Mapping[str, tuple[float, ...]]
    rate: Mapping[tuple[str, str], Tensor]
    effective: Mapping[str, tuple[int, ...]]

    def frame(self) -> list[dict[str, Any]]:
        """One record for each attack, transformation, strength and epoch; ``n`` counts effective images."""
        return [
            {
                "attack": attack,
                "transformation": kind,
                "strength": s,
                "epoch": epoch,
                "destruction rate": float(rates[i, j]),
                "n": self.effective[attack][i],
            }
            for (attack, kind), rates in self.rate.items()
            for i, epoch in enumerate(self.epochs)
            for j, s in enumerate(self.strengths[kind])
        ]

    def figure(self) -> "Figure":
        """Rate against strength: a row an attack, a column a transformation, a line an epoch."""
        attacks, kinds = tuple(self.effective), tuple(self.strengths)
        figure, axes = canvas(2.9 * len(kinds), 2.6 * len(attacks), len(kinds), len(attacks))
        chosen = sorted({0, len(self.epochs) // 2, len(self.epochs) - 1})
        for place, (attack, kind) in zip(axes, ((a, k) for a in attacks for k in kinds), strict=True):
            rates = self.rate[attack, kind]
            curves = {f"epoch {self.epochs[i]}": rates[i].numpy() for i in chosen}
            lines(place, self.strengths[kind], curves, label=kind, percent=True)
            place.set_title(attack, fontsize=10)
            place.set_ylabel("")
        return figure

    def change(self, attack: str, kind: str) -> float:
        """Mean rate over the strengths at the last epoch, less that at the first."""
        result = self.rate[attack, kind].nanmean(1)
        return float(result[-1] - result[0])

    def verdict(self) -> str:
        """Where the rate rises and where it falls, for the first attack."""
        attack = next(iter(self.effective))
        moves = {kind: 100 * self.change(attack, kind) for kind in self.strengths}
        text = ", ".join(f"{kind} {move:+.0f}" for kind, move in moves.items())
        return (
            f"From epoch {self.epochs[0]} to {self.epochs[-1]} the share of {attack} images that a transformation "
            f"makes harmless changes by (points, mean over strengths): {text}."
        )


@with_images_on_the_cpu
def destruction(
    trail: Trail,
    x: Images,
    y: Labels,
    attacks: Mapping[str, AnyAttack],
    *,
    transforms: Mapping[str, tuple[Callable[[Images, float], Images], tuple[float, ...]]] = TRANSFORMS,
    seed: int = 0,
    progress: WorkCallback = no_progress,
) -> Destruction:
    """Destruction rates by epoch.

    Args:
        trail: the networks; each is attacked again.
        x: images.
        y: labels.
        attacks: by name; the paper has BIM, FGSM and DeepFool.
        transforms: by name, a function of images and a strength, and strengths.
        seed: of the attacks.
        progress: progress.
    """
    same_length(x, y)
    rate: dict[tuple[str, str], Tensor] = {}
    effective: dict[str, list[int]] = {}
    for attack_index, (name, attack) in enumerate(attacks.items()):
        for i, (_, model) in enumerate(trail):
            adversarial = perturb_images(model, x, y, attack, seed=seed)
            effective_mask = _effective(model, x, adversarial, y)
            effective.setdefault(name, []).append(int(effective_mask.sum()))
            for kind, (change, strengths) in transforms.items():
                table = rate.setdefault((name, kind), torch.full((len(trail.epochs), len(strengths)), float("nan")))
                for j, strength in enumerate(strengths):
                    table[i, j] = _rate(model, change(adversarial, strength), y, effective_mask)
            progress("destruction", attack_index * len(trail.epochs) + i + 1, len(attacks) * len(trail.epochs))
    counts = {name: tuple(per_epoch) for name, per_epoch in effective.items()}
    strengths_of = {kind: strengths for kind, (_, strengths) in transforms.items()}
    return Destruction(trail.epochs, MappingProxyType(strengths_of), MappingProxyType(rate), MappingProxyType(counts))


def _effective(model: nn.Module, x: Images, moved: Images, y: Labels) -> Flag:
    return right_of(model, x, y) & ~right_of(model, moved, y)


def _rate(model: nn.Module, changed: Images, y: Labels, effective: Flag) -> float:
    if not bool(effective.any()):
        return float("nan")
    return right_of(model, changed[effective], y[effective]).double().mean().item()
