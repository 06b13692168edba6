"""Which filters of a network does an attack set off?

Paper 004, section 5, equation 6; Levin et al., "Where do models go wrong? Parameter-space saliency maps for
explainability", 2021.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from assay.core.arguments import reject, whole
from assay.core.combinators import AnyAttack
from assay.core.guard import model_device, untouched
from assay.core.outcome import Status
from assay.core.types import Images, Labels
from assay.diagnostics.plots import INK, RULE, SERIES, canvas, overlay, pictures
from assay.diagnostics.trail import Told, quiet, refereed, same_length

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
CHUNK = 32
"""Images whose gradients are held at once: memory is that many times the weights."""


def filters_of(model: nn.Module) -> dict[str, int]:
    """The weights whose rows are filters (of convolutions and linear layers), in order, and how many rows each has.

    Raises:
        ValueError: there is none.
    """
    found = {f"{name}.weight" if name else "weight": len(module.weight)
             for name, module in model.named_modules() if isinstance(module, KINDS)}  # fmt: skip
    there = {name for name, _ in model.named_parameters()}  # not what is tied to another, or made of others
    found = {name: count for name, count in found.items() if name in there}
    return found or reject("model", "at least one convolution or linear layer", type(model))


def filter_gradients(model: nn.Module, x: Images, y: Labels, *, chunk: int = CHUNK) -> Tensor:
    """Per image and filter, the mean absolute gradient of the cross-entropy with respect to the filter's weights.

    Args:
        model: in evaluation mode it is; ``k`` filters, see `filters_of`.
        x: images.
        y: labels.
        chunk: images whose gradients are held at once.

    Returns:
        ``(n, k)``.

    Source: equation 6 before it is standardised; per-sample gradients by ``torch.func``.
    """
    same_length(x, y)
    whole("chunk", chunk, least=1)
    names, device = filters_of(model), model_device(model, x.device)
    with untouched(model):
        weights = {name: p.detach() for name, p in model.named_parameters()}
        moving = {name: weights.pop(name) for name in names}
        others = {**weights, **dict(model.named_buffers())}

        def loss(own: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
            logits = functional_call(model, {**others, **own}, (image[None],))
            return F.cross_entropy(logits, label[None])

        each = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")
        parts = []
        for images, labels in zip(x.split(chunk), y.split(chunk), strict=True):
            found = each(moving, images.to(device), labels.to(device))
            parts.append(torch.cat([found[name].abs().flatten(2).mean(2) if found[name].ndim > 2 else found[name].abs()
                                    for name in names], 1).cpu())  # fmt: skip
    return torch.cat(parts)


@dataclass(frozen=True)
class Standard:
    """Mean and deviation of each filter's gradient over a validation set.

    Attributes:
        mean: ``(k,)``.
        deviation: ``(k,)``.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, gradients: Tensor) -> "Standard":
        """From `filter_gradients` of the validation set."""
        if len(gradients) < 2:
            reject("gradients", "those of at least 2 images", len(gradients))
        return cls(gradients.mean(0), gradients.std(0, correction=0))

    def saliency(self, gradients: Tensor) -> Tensor:
        """Equation 6: how many deviations from the mean, ``(n, k)``; 0 for a filter whose gradient never varies."""
        away = (gradients - self.mean).abs()
        return torch.where(self.deviation > 0, away / self.deviation.clamp_min(1e-30), torch.zeros_like(away))


@dataclass(frozen=True)
class Parameters:
    """Saliency profiles: per layer the filters from most to least salient, averaged over images.

    Attributes:
        layers: weights and their numbers of filters.
        profile: by attack (and ``"clean"``), ``(k,)``.
        counts: images that each is the mean of.
        shown: pictures and titles: an image by attack, and which of its pixels set the most salient filters off.
    """

    layers: Mapping[str, int]
    profile: Mapping[str, Tensor]
    counts: Mapping[str, int]
    shown: tuple[tuple[str, Tensor], ...] = ()

    def by_layer(self, name: str) -> dict[str, float]:
        """Mean over the filters of each layer."""
        sizes = list(self.layers.values())
        return {layer: part.mean().item() for layer, part in
                zip(self.layers, self.profile[name].split(sizes), strict=True)}  # fmt: skip

    def frame(self) -> list[dict[str, Any]]:
        """One record for each attack and layer."""
        return [{"images": name, "n": self.counts[name], "layer": layer, "saliency": value}
                for name in self.profile for layer, value in self.by_layer(name).items()]  # fmt: skip

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
        return pictures([image.numpy() for _, image in self.shown], [title for title, _ in self.shown],
                        columns=max(len(self.shown) // 2, 1))  # fmt: skip

    def verdict(self) -> str:
        """Where each attack's saliency is largest, beside clean images."""
        told = []
        for name in self.profile:
            if not self.counts[name]:
                told.append(f"{name} turns no image")
                continue
            found = self.by_layer(name)
            top = max(found, key=lambda layer: found[layer])
            place = 1 + list(found).index(top)
            told.append(f"{name} layer {place} of {len(found)} ({found[top]:.1f} deviations)")
        return "Filters most set off: " + ", ".join(told) + "."


def parameters(
    model: nn.Module,
    x: Images,
    y: Labels,
    attacks: Mapping[str, AnyAttack],
    validation: tuple[Images, Labels],
    *,
    seed: int = 0,
    chunk: int = CHUNK,
    told: Told = quiet,
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
        told: progress.

    Source: paper 004, section 5.1, figures 5 and 6, and appendix B.2 (images that were right and are turned). Rows of
    linear layers count as filters too, so that any network has some.
    """
    layers = filters_of(model)
    if not attacks:
        reject("attacks", "at least one attack", attacks)
    standard = Standard.of(filter_gradients(model, *validation, chunk=chunk))

    def profile(images: Images, labels: Labels) -> Tensor:
        if not len(images):
            return torch.full((sum(layers.values()),), torch.nan)
        return sorted_profile(standard.saliency(filter_gradients(model, images, labels, chunk=chunk)), layers)

    found, counts, made = {}, {}, {}
    turned_by_all = torch.ones(len(x), dtype=torch.bool)
    for done, (name, attack) in enumerate(attacks.items()):
        told(f"saliency of {name}", done, len(attacks))
        outcome = refereed(model, x, y, attack, seed=seed, stop="never")
        if not done:
            right = outcome.status != int(Status.MISCLASSIFIED)
            found["clean"], counts["clean"] = profile(x[right], y[right]), int(right.sum())
        turned = outcome.status == int(Status.BROKEN)
        made[name] = outcome.images
        turned_by_all &= turned | (not turned.any())
        found[name], counts[name] = profile(outcome.images[turned], y[turned]), int(turned.sum())
    told("saliency", len(attacks), len(attacks))
    shown: tuple[tuple[str, Tensor], ...] = ()
    if bool(turned_by_all.any()):
        i = int(turned_by_all.nonzero()[0])
        row = torch.stack([x[i], *(images[i].to(x) for images in made.values())])
        heat = input_saliency(model, row, y[i].repeat(len(row)), standard)
        names = ("clean", *made)
        shown = (*zip(names, row, strict=True),
                 *((f"{n}: pixels", overlay(a, h)) for n, a, h in zip(names, row, heat, strict=True)))  # fmt: skip
    return Parameters(MappingProxyType(layers), MappingProxyType(found), MappingProxyType(counts), shown)


def sorted_profile(saliency: Tensor, layers: Mapping[str, int]) -> Tensor:
    """Per layer from most to least salient, then the mean over images: ``(n, k)`` to ``(k,)``."""
    parts = [part.sort(dim=1, descending=True).values for part in saliency.split(list(layers.values()), dim=1)]
    return torch.cat(parts, 1).mean(0)


def input_saliency(
    model: nn.Module, x: Images, y: Labels, standard: Standard, *, top: int = 10, boost: float = 100.0
) -> Images:
    """Which pixels set the most salient filters off: ``|∇_x D_C(ŝ(x), ŝ′)|``, image by image.

    Args:
        model: the classifier.
        x: images, ``(n, c, h, w)``.
        y: labels.
        standard: of the validation set.
        top: how many of the most salient filters are boosted in ŝ′.
        boost: by how much they are multiplied.

    Returns:
        ``(n, c, h, w)``, not negative.

    Source: paper 004, section 5.1 (M_F); top 10 and the factor 100 after Levin et al., section 3.3, and its code.
    """
    same_length(x, y)
    names, found, device = filters_of(model), [], model_device(model, x.device)
    weights = dict(model.named_parameters())
    with untouched(model), torch.enable_grad():
        for image, label in zip(x, y, strict=True):
            leaf = image[None].detach().to(device, copy=True).requires_grad_()
            own = {name: p.detach().requires_grad_(name in names) for name, p in weights.items()}
            logits = functional_call(model, own, (leaf,))
            slopes = torch.autograd.grad(
                F.cross_entropy(logits, label[None].to(device)), [own[name] for name in names], create_graph=True
            )
            means = torch.cat([slope.abs().flatten(1).mean(1) for slope in slopes])
            saliency = Standard(standard.mean.to(device), standard.deviation.to(device)).saliency(means[None])[0]
            boosted = saliency.detach().clone()
            boosted[saliency.topk(min(top, len(saliency))).indices] *= boost
            distance = 1 - F.cosine_similarity(saliency, boosted, dim=0)
            found.append(torch.autograd.grad(distance, leaf)[0].abs().cpu())
    return torch.cat(found)
