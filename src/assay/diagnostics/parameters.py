"""Which filters of a network does an attack activate?

Souri et al., 2021, section 5, equation 6; Levin et al., "Where do models go wrong? Parameter-space saliency maps for
explainability", 2021.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from assay.core.call_context import with_images_on_the_cpu
from assay.core.combinators import AnyAttack
from assay.core.outcome import Status
from assay.core.types import Images, Labels
from assay.diagnostics.filters import CHUNK, Standard, filter_gradients, filters_of, input_saliency, sorted_profile
from assay.diagnostics.plots import INK, RULE, SERIES, canvas, overlay, pictures
from assay.diagnostics.trail import run_attack_to_end
from assay.util.progress import WorkCallback, no_progress
from assay.util.statistics import mean_interval
from assay.util.validate import reject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEPTH = "last third less first third"
"""The record that tells whether an attack acts late in the network or early."""


@dataclass(frozen=True)
class Parameters:
    """Saliency profiles: per layer the filters from most to least salient, averaged over images.

    Attributes:
        layers: weights and their numbers of filters.
        profile: by attack (and ``"clean"``), ``(k,)``.
        counts: images that each is the mean of.
        levels: by attack, each image's mean over the filters of each layer, ``(n, layers)``.
        shown: pictures and titles: an image by attack, and which of its pixels set the most salient filters off.
    """

    layers: Mapping[str, int]
    profile: Mapping[str, Tensor]
    counts: Mapping[str, int]
    levels: Mapping[str, Tensor]
    shown: tuple[tuple[str, Tensor], ...] = ()

    def by_layer(self, name: str) -> dict[str, float]:
        """Mean over the filters of each layer."""
        return dict(zip(self.layers, self.levels[name].mean(0).tolist(), strict=True))

    def frame(self) -> list[dict[str, Any]]:
        """One record for each attack and layer, and for the last third of the layers less the first.

        With ``saliency from`` and ``saliency to``, the 95 % interval over images.
        """
        third = max(len(self.layers) // 3, 1)
        rows = []
        for name, levels in self.levels.items():
            late = levels[:, -third:].mean(1) - levels[:, :third].mean(1)
            for layer, values in (*zip(self.layers, levels.unbind(1), strict=True), (DEPTH, late)):
                ends = [end if math.isfinite(end) else None for end in mean_interval(values.tolist())]
                rows.append(
                    {
                        "images": name,
                        "n": self.counts[name],
                        "layer": layer,
                        "saliency": float(values.mean()),
                        "saliency from": ends[0],
                        "saliency to": ends[1],
                    }
                )
        return rows

    def figure(self) -> "Figure":
        """The profiles side by side, layers apart; each has its own scale, as they differ in magnitude."""
        columns = min(len(self.profile), 3)
        rows = -(-len(self.profile) // columns)
        figure, axes = canvas(3.4 * columns, 2.1 * rows, columns, rows)
        for axis in axes[len(self.profile) :]:
            axis.set_axis_off()
        for i, (axis, (name, profile)) in enumerate(zip(axes, self.profile.items(), strict=False)):
            start = 0
            for j, size in enumerate(self.layers.values()):
                axis.plot(range(start, start + size), profile[start : start + size], color=SERIES[j % 2], linewidth=1)
                start += size
            axis.set_title(f"{name} (n = {self.counts[name]})", fontsize=9, color=INK)
            axis.grid(axis="y", color=RULE, linewidth=0.8)
            if i >= len(self.profile) - columns:
                axis.set_xlabel("filters, layer by layer", fontsize=8)
        return figure

    def pictures(self) -> "Figure":
        """One image, clean and as each attack changes it, and its input-space saliency."""
        return pictures(
            [image.numpy() for _, image in self.shown],
            [title for title, _ in self.shown],
            columns=max(len(self.shown) // 2, 1),
        )

    def verdict(self) -> str:
        """Where each attack's saliency is largest, beside clean images."""
        lines = []
        for name in self.profile:
            if not self.counts[name]:
                lines.append("no clean image is right" if name == "clean" else f"{name} breaks no image")
                continue
            by_layer = self.by_layer(name)
            top = max(by_layer, key=lambda layer: by_layer[layer])
            place = 1 + list(by_layer).index(top)
            lines.append(f"{name} layer {place} of {len(by_layer)} ({by_layer[top]:.1f} deviations)")
        return "Most salient filters: " + ", ".join(lines) + "."


@with_images_on_the_cpu
def parameters(
    model: nn.Module,
    x: Images,
    y: Labels,
    attacks: Mapping[str, AnyAttack],
    validation: tuple[Images, Labels],
    *,
    seed: int = 0,
    chunk: int = CHUNK,
    progress: WorkCallback = no_progress,
) -> Parameters:
    """Saliency profiles of clean images, and of those that each attack turned.

    Args:
        model: the classifier.
        x: images.
        y: labels.
        attacks: by name.
        validation: images and labels over which saliency is standardised.
        seed: of the attacks.
        chunk: images whose gradients are held at once.
        progress: progress.

    Source: Souri et al., 2021, section 5.1, figures 5 and 6, and appendix B.2 (images that were right and are turned).
    Rows of linear layers count as filters too, so that any network has some.
    """
    layers = filters_of(model)
    if not attacks:
        reject("attacks", "at least one attack", attacks)
    if len(validation[0]) < 2:
        reject("validation", "at least 2 images, over which saliency is standardised", len(validation[0]))
    standard, k = Standard.of(filter_gradients(model, *validation, chunk=chunk)), sum(layers.values())

    profiles, counts, levels, adversarial = {}, {}, {}, {}

    def profile(name: str, images: Images, labels: Labels) -> None:
        slopes = filter_gradients(model, images, labels, chunk=chunk) if len(images) else torch.zeros(0, k)
        salient = standard.saliency(slopes)
        profiles[name], counts[name] = sorted_profile(salient, layers), len(images)
        levels[name] = torch.stack([part.mean(1) for part in salient.split(list(layers.values()), 1)], 1)

    turned_by_all = torch.ones(len(x), dtype=torch.bool)
    for done, (name, attack) in enumerate(attacks.items()):
        progress(f"saliency of {name}", done, len(attacks))
        outcome = run_attack_to_end(model, x, y, attack, seed=seed, stop="never")
        if not done:
            right = outcome.status != int(Status.MISCLASSIFIED)
            profile("clean", x[right], y[right])
        is_broken = outcome.status == int(Status.BROKEN)
        adversarial[name] = outcome.images
        turned_by_all &= is_broken | (not is_broken.any())
        profile(name, outcome.images[is_broken], y[is_broken])
    progress("saliency", len(attacks), len(attacks))
    shown: tuple[tuple[str, Tensor], ...] = ()
    if bool(turned_by_all.any()):
        i = int(turned_by_all.nonzero()[0])
        row = torch.stack([x[i], *(images[i].to(x) for images in adversarial.values())])
        heat = input_saliency(model, row, y[i].repeat(len(row)), standard)
        names = ("clean", *adversarial)
        shown = (
            *zip(names, row, strict=True),
            *((f"{n}: pixels", overlay(a, h)) for n, a, h in zip(names, row, heat, strict=True)),
        )
    still = MappingProxyType
    return Parameters(still(layers), still(profiles), still(counts), still(levels), shown)
