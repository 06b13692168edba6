"""Per-filter gradient saliency, and the pixels that cause it.

Souri et al., 2021, section 5.1, equation 6.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from assay.core.call_context import with_images_on_the_cpu
from assay.core.model_calls import as_logits, classify, select_output
from assay.core.model_state import model_device, preserve_state
from assay.core.types import Images, Labels
from assay.diagnostics.trail import same_length
from assay.util.validate import described, reject, whole

KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
CHUNK = 32
"""Images whose gradients are held at once: memory is that many times the weights."""


def filters_of(model: nn.Module) -> dict[str, int]:
    """The weights whose rows are filters (of convolutions and linear layers), in order, and how many rows each has.

    Raises:
        ValueError: there is none.
    """
    filters = {
        f"{name}.weight" if name else "weight": len(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, KINDS)
    }
    there = {name for name, _ in model.named_parameters()}  # not what is tied to another, or made of others
    filters = {name: count for name, count in filters.items() if name in there}
    return filters or reject("model", "at least one convolution or linear layer", type(model))


@with_images_on_the_cpu
def filter_gradients(model: nn.Module, x: Images, y: Labels, *, chunk: int = CHUNK) -> Tensor:
    """Per image and filter, the mean absolute gradient of the cross-entropy with respect to the filter's weights.

    Args:
        model: in evaluation mode it is; ``k`` filters, see `filters_of`.
        x: images.
        y: labels.
        chunk: images whose gradients are held at once.

    Returns:
        ``(n, k)``.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
        >>> _ = nn.init.zeros_(model[1].weight)  # probabilities of a half: gradients of half the image
        >>> filter_gradients(model, torch.tensor([[[[2.0, 0.0]]]]), torch.tensor([0])).tolist()
        [[0.5, 0.5]]

    Source: equation 6 before it is standardised; per-sample gradients by ``torch.func``, on a CPU from what goes into a
    layer and what comes back, where that is possible.
    """
    same_length(x, y)
    whole("chunk", chunk, least=1)
    names, device = filters_of(model), model_device(model, x.device)
    check_gradients(model, x)
    layers = [model.get_submodule(name.rpartition(".")[0]) for name in names]
    plain = device.type == "cpu" and all(map(_plain, layers)) and not _tied(model, layers)
    each = _by_layer if plain else _by_transform
    with preserve_state(model):
        parts = [
            each(model, names, images.to(device), labels.to(device)).cpu()
            for images, labels in zip(x.split(chunk), y.split(chunk), strict=True)
        ]
    return torch.cat(parts)


def check_gradients(model: nn.Module, x: Images) -> None:
    """Refuse a network whose logits have no gradient; one image is asked about."""
    with preserve_state(model), torch.enable_grad():
        leaf = x[:1].detach().to(model_device(model, x.device), copy=True).requires_grad_()
        if len(leaf) and not classify(model, leaf).requires_grad:
            got = described("one whose logits have none (torch.no_grad() or detach() in its forward)")
            reject("model", "a network with gradients", got)


def _by_transform(model: nn.Module, names: Mapping[str, int], x: Images, y: Labels) -> Tensor:
    """For any network: the gradient of one image, mapped over all."""
    weights = {name: p.detach() for name, p in model.named_parameters()}
    moving = {name: weights.pop(name) for name in names}
    others = {**weights, **dict(model.named_buffers())}

    def loss(own: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = as_logits(select_output(functional_call(model, {**others, **own}, (image[None].clone(),)))[0], 1)
        return F.cross_entropy(logits, label[None])

    result = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")(moving, x, y)
    return torch.cat([result[name].abs().flatten(2).mean(2) for name in names], 1)


def _plain(layer: nn.Module) -> bool:
    """Whether a layer's own gradients can be had from what goes in and what comes back."""
    if isinstance(layer, nn.Linear):
        return True
    return (
        isinstance(layer, nn.Conv2d)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def _by_layer(model: nn.Module, names: Mapping[str, int], x: Images, y: Labels) -> Tensor:
    """One pass for all images, then each image's gradients layer by layer; on a CPU up to three times as fast."""
    layers = [model.get_submodule(name.rpartition(".")[0]) for name in names]
    calls: list[tuple[nn.Module, Tensor, int, Tensor]] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        calls.append((layer, inputs[0].detach(), inputs[0]._version, out))
        return out.clone()  # which a layer that works in place may then change

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        with torch.enable_grad():
            loss = F.cross_entropy(classify(model, x.detach().clone().requires_grad_()), y, reduction="sum")
    finally:
        for handle in handles:
            handle.remove()
    once = sorted(id(layer) for layer, *_ in calls) == sorted(map(id, layers))
    slopes = torch.autograd.grad(loss, [out for *_, out in calls], allow_unused=True) if once else ()
    if not once or None in slopes or any(layer_input._version != version for _, layer_input, version, _ in calls):
        return _by_transform(model, names, x, y)  # used twice, or not at all, or its input has been changed since
    gradients = {
        id(own): _of_layer(own, layer_input, slope) for (own, layer_input, *_), slope in zip(calls, slopes, strict=True)
    }
    return torch.cat([gradients[id(layer)] for layer in layers], 1)


def _tied(model: nn.Module, layers: list[nn.Module]) -> bool:
    """Whether a layer's weights are another's as well."""
    weights = {id(layer.weight) for layer in layers}
    return sum(id(p) in weights for module in model.modules() for p in module._parameters.values()) > len(layers)


def _of_layer(layer: nn.Module, inputs: Tensor, slope: Tensor) -> Tensor:
    if isinstance(layer, nn.Conv2d) and not isinstance(layer.padding, str):
        rows = []
        for one, back in zip(inputs, slope.flatten(2), strict=True):  # one by one they stay in the processor's cache
            parts = F.unfold(one[None], layer.kernel_size, layer.dilation, layer.padding, layer.stride)[0]
            weights = back @ parts.T
            rows.append(torch.linalg.vector_norm(weights, 1, dim=1) / weights.shape[1])
        return torch.stack(rows)
    if inputs.ndim == 2:  # the gradient is a product of the two
        return slope.abs() * inputs.abs().mean(1, keepdim=True)
    weights = torch.einsum("n...o,n...i->noi", slope, inputs)
    return weights.abs().mean(2)


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


def sorted_profile(saliency: Tensor, layers: Mapping[str, int]) -> Tensor:
    """Per layer from most to least salient, then the mean over images: ``(n, k)`` to ``(k,)``."""
    parts = [part.sort(dim=1, descending=True).values for part in saliency.split(list(layers.values()), dim=1)]
    return torch.cat(parts, 1).mean(0)


@with_images_on_the_cpu
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

    Source: Souri et al., 2021, section 5.1 (M_F); top 10 and the factor 100 after Levin et al., section 3.3, and its
    code.
    """
    same_length(x, y)
    check_gradients(model, x)
    names, maps, device = filters_of(model), [], model_device(model, x.device)
    weights = dict(model.named_parameters())
    with preserve_state(model), torch.enable_grad():
        for image, label in zip(x, y, strict=True):
            leaf = image[None].detach().to(device, copy=True).requires_grad_()
            own = {name: p.detach().requires_grad_(name in names) for name, p in weights.items()}
            logits = as_logits(select_output(functional_call(model, own, (leaf.clone(),)))[0], 1)
            slopes = torch.autograd.grad(
                F.cross_entropy(logits, label[None].to(device)), [own[name] for name in names], create_graph=True
            )
            means = torch.cat([slope.abs().flatten(1).mean(1) for slope in slopes])
            saliency = Standard(standard.mean.to(device), standard.deviation.to(device)).saliency(means[None])[0]
            boosted = saliency.detach().clone()
            boosted[saliency.topk(min(top, len(saliency))).indices] *= boost
            distance = 1 - F.cosine_similarity(saliency, boosted, dim=0)
            maps.append(torch.autograd.grad(distance, leaf)[0].abs().cpu())
    return torch.cat(maps)
