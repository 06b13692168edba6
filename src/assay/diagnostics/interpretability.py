"""Do perturbations fall where the classifier is sensitive, and where it looks?

Xu et al., 2019, section 6, figure 3, appendix E.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.attacks.structured.strattack import GroupSearch
from assay.core.call_context import with_images_on_the_cpu
from assay.core.combinators import AnyAttack, unfold
from assay.core.outcome import Status
from assay.core.types import Images, Labels
from assay.diagnostics.plots import canvas, lines, overlay, pictures
from assay.diagnostics.saliency import (
    activation_map,
    adversarial_saliency,
    boolean_map,
    interpretability_score,
)
from assay.diagnostics.trail import run_attack_to_end, same_length
from assay.parts.groups import Groups
from assay.util.progress import WorkCallback, no_progress
from assay.util.validate import described, reject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PERCENTILES = (30, 40, 50, 60, 70, 80, 90)
SHOWN = 3
"""Images of the pictures."""


@dataclass(frozen=True)
class Interpretability:
    """Interpretability scores of attacks' perturbations, on images that all of them turned into the same target.

    Attributes:
        percentiles: ν.
        score: by map (``"full"`` and ``"dual"``, equations 60 and 61, ``"promotion"``, ``"suppression"``, and the
            activation map by its name) and attack, mean score at each ν.
        each: by map and attack, ``(images, ν)``.
        size: by attack, mean share of pixels that are changed, and mean l2 distance.
        count: images.
        missing: why there is no activation map; empty where there is one.
        shown: pictures and their titles.
        columns: pictures a row.
    """

    percentiles: tuple[int, ...]
    score: Mapping[str, Mapping[str, tuple[float, ...]]]
    each: Mapping[str, Mapping[str, Tensor]]
    size: Mapping[str, tuple[float, float]]
    count: int
    missing: str
    shown: tuple[tuple[str, Tensor], ...]
    columns: int

    def frame(self) -> list[dict[str, Any]]:
        """One record for each map, attack and percentile."""
        return [
            {
                "map": name,
                "attack": attack,
                "percentile": v,
                "score": value,
                "pixels": self.size[attack][0],
                "l2": self.size[attack][1],
                "n": self.count,
            }
            for name, scores in self.score.items()
            for attack, values in scores.items()
            for v, value in zip(self.percentiles, values, strict=True)
        ]

    def figure(self) -> "Figure":
        """Score against percentile, one panel a map."""
        figure, axes = canvas(3.0 * len(self.score), 3.2, columns=len(self.score))
        for axis, (name, result) in zip(axes, self.score.items(), strict=True):
            lines(axis, self.percentiles, result, label="percentile ν")
            axis.set_title(name, fontsize=10)
            axis.set_ylim(0, 1)
        return figure

    def pictures(self) -> "Figure":
        """Image, saliency, activation; for each attack its perturbation, what lies on the map, and its group norms."""
        return pictures(
            [image.numpy() for _, image in self.shown], [title for title, _ in self.shown], columns=self.columns
        )

    def verdict(self) -> str:
        """The attacks in order, over the middle of the percentiles."""
        texts = []
        for name, scores in self.score.items():
            order = sorted(scores, key=lambda attack: -sum(scores[attack]))
            texts.append(f"{name} " + ", ".join(f"{a} {sum(scores[a]) / len(scores[a]):.2f}" for a in order))
        return (
            f"Share of a perturbation on the pixels that explain it, mean over ν of {self.count} images: "
            + "; ".join(texts)
            + "."
            + (f" No activation map: {self.missing}." if self.missing else "")
        )


@with_images_on_the_cpu
def interpretability(
    model: nn.Module,
    x: Images,
    y: Labels,
    target: Labels,
    attacks: Mapping[str, AnyAttack],
    *,
    percentiles: tuple[int, ...] = PERCENTILES,
    seed: int = 0,
    progress: WorkCallback = no_progress,
) -> Interpretability:
    """Attack towards targets, and compare the perturbations with what the classifier is sensitive to.

    Args:
        model: the classifier.
        x: images.
        y: true labels t0.
        target: a target label each.
        attacks: by name.
        percentiles: ν.
        seed: of the attacks.
        progress: progress.

    Raises:
        ValueError: no image that all attacks turn into its target.

    Source: Xu et al., 2019, equation 23 with the maps of appendix E; the activation map is that of the true label.
    """
    same_length(x, y)
    reached, perturbations = torch.ones(len(x), dtype=torch.bool), {}
    for done, (name, attack) in enumerate(attacks.items()):
        progress(f"{name}", done, len(attacks))
        outcome = run_attack_to_end(model, x, y, attack, target=target, seed=seed)
        reached &= outcome.status == int(Status.BROKEN)
        perturbations[name] = outcome.images - x
    progress("attacks", len(attacks), len(attacks))
    if not bool(reached.any()):
        reject("attacks", "at least one image that all of them turn into its target", described(f"none of {len(x)}"))
    x, y, target = x[reached], y[reached], target[reached]
    deltas = {name: delta[reached] for name, delta in perturbations.items()}
    saliency = adversarial_saliency(model, x, y, target)
    maps = {
        "full": saliency.full,
        "dual": saliency.dual,
        "promotion": saliency.promotion,
        "suppression": saliency.suppression,
    }
    missing = ""
    try:
        activation, kind = activation_map(model, x, y)
        maps[kind] = activation
    except (ImportError, ValueError) as error:  # no captum, or no convolution: the other maps are answer enough
        activation, kind, missing = saliency.suppression, "suppression", str(error)
    each = {
        name: {
            attack: torch.stack([interpretability_score(delta, boolean_map(scores, v)) for v in percentiles], 1)
            for attack, delta in deltas.items()
        }
        for name, scores in maps.items()
    }
    mean = {
        name: MappingProxyType({attack: tuple(values.mean(0).tolist()) for attack, values in by.items()})
        for name, by in each.items()
    }
    size = {
        name: (float((delta != 0).any(1).float().mean()), float(delta.flatten(1).norm(dim=1).mean()))
        for name, delta in deltas.items()
    }
    side = _group_side(attacks)
    shown = [
        picture
        for i in range(min(SHOWN, len(x)))
        for picture in _row(
            x[i], saliency.full[i], activation[i], kind, {name: delta[i] for name, delta in deltas.items()}, side
        )
    ]
    return Interpretability(
        percentiles,
        MappingProxyType(mean),
        MappingProxyType(each),
        MappingProxyType(size),
        len(x),
        missing,
        tuple(shown),
        3 + 3 * len(deltas),
    )


def _row(
    x: Tensor, saliency: Tensor, activation: Tensor, kind: str, deltas: Mapping[str, Tensor], side: int
) -> list[tuple[str, Tensor]]:
    chosen = boolean_map(saliency[None], 90)[0]
    tiles = [("image", x), ("saliency", overlay(x, saliency)), (kind, overlay(x, activation))]
    for name, delta in deltas.items():
        tiles += [
            (name, overlay(x, delta)),
            (f"{name}, on the map", overlay(x, delta * chosen)),
            (f"{name}, {side}×{side} groups", overlay(x, _by_group(delta, side))),
        ]
    return tiles


def _group_side(attacks: Mapping[str, AnyAttack]) -> int:
    """The side of the groups of the first attack that has groups; two pixels where none has."""
    searches = (stage.attack for attack in attacks.values() for stage in unfold(attack))
    return next((search.group for search in searches if isinstance(search, GroupSearch)), 2)


def _by_group(delta: Tensor, side: int) -> Tensor:
    """The l2 norm of each group of pixels, at every pixel of the group."""
    norms = Groups(side, side).norms(delta[None])[None]
    return functional.interpolate(norms, delta.shape[1:], mode="nearest")[0]
