"""Which pixels a classification rests on: adversarial saliency maps, class activation maps, interpretability scores."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.call_context import with_images_on_the_cpu
from assay.core.model_calls import call, classify, gradients
from assay.core.model_state import model_device, preserve_state
from assay.core.types import Images, Labels, PerRow
from assay.diagnostics.filters import check_gradients
from assay.util.validate import described, number, reject


class Saliency(NamedTuple):
    """Per pixel and channel, ``(n, c, h, w)`` each.

    Attributes:
        promotion: ∂Z_t, how the target's logit grows.
        suppression: −∂Z_t0, how the true label's logit falls.
        dual: equation 61: promotion times suppression where both are positive, else 0.
        full: equation 60: ∂Z_t·|Σ_{j≠t} ∂Z_j| where the first is positive and the sum negative, else 0.
    """

    promotion: Tensor
    suppression: Tensor
    dual: Tensor
    full: Tensor


@with_images_on_the_cpu
def adversarial_saliency(model: nn.Module, x: Images, y: Labels, target: Labels, *, batch: int = 64) -> Saliency:
    """The adversarial saliency map of images, for a target label each.

    The sum over all other classes costs no more than one class: it is the gradient of a sum, so that three passes
    backward give all four maps for any number of classes.

    Args:
        model: maps images to logits.
        x: images, ``(n, c, h, w)``.
        y: true labels t0.
        target: labels t, other than the true ones.
        batch: images a pass.

    Raises:
        ValueError: labels of another number, or a target that is the true label.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
        >>> _ = model[1].weight.data.copy_(torch.tensor([[-1.0, 2.0], [3.0, 4.0]]))
        >>> maps = adversarial_saliency(model, torch.zeros(1, 1, 1, 2), torch.tensor([0]), torch.tensor([1]))
        >>> maps.dual.flatten().tolist()
        [3.0, 0.0]

    Source: Xu et al., "Structured adversarial attack", ICLR 2019, appendix E, equations 60 and 61. The extraction of
    the text leaves their case out of order; it is that of Papernot et al., "The limitations of deep learning in
    adversarial settings", EuroS&P 2016, equation 8. Deviation from the text: it calls the sum over all classes
    intensive, which it is not, so both are given.
    """
    if not len(x) == len(y) == len(target):
        reject("target", f"a label for each of the {len(x)} images", described(f"{len(target)} labels"))
    if bool((y == target).any()):
        reject("target", "labels other than the true ones", int(y[y == target][0]))
    parts = [_saliency(model, *part) for part in zip(x.split(batch), y.split(batch), target.split(batch), strict=True)]
    return Saliency(*(torch.cat(maps) for maps in zip(*parts, strict=True)))


def _saliency(model: nn.Module, x: Images, y: Labels, target: Labels) -> Saliency:
    device = model_device(model, x.device)
    y, target = y.to(device), target.to(device)

    def scores(leaf: Images) -> tuple[list[Tensor], None]:
        logits = classify(model, leaf)
        return [logits.gather(1, target[:, None]).sum(), logits.gather(1, y[:, None]).sum(), logits.sum()], None

    with preserve_state(model):
        (promotion, true, total), _ = gradients(scores, x.to(device))
    others = total - promotion
    full = torch.where((promotion < 0) | (others > 0), 0.0, promotion * others.abs())
    dual = torch.where((promotion < 0) | (true > 0), 0.0, promotion * true.abs())
    return Saliency(*(part.cpu() for part in (promotion, -true, dual, full)))


def boolean_map(scores: Tensor, percentile: float) -> Tensor:
    """Where scores are above a percentile of their own image, ``B(i) = 1``.

    Args:
        scores: ``(n, …)``.
        percentile: ν, in [0, 100].

    Returns:
        Bool, of the same shape.

    Example:
        >>> boolean_map(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), 50).tolist()
        [[False, False, True, True]]

    Source: Xu et al., 2019, section 6.
    """
    number("percentile", percentile, least=0, most=100)
    if not scores.numel():
        return scores > 0
    limit = scores.flatten(1).quantile(percentile / 100, dim=1)
    return scores > limit.view(-1, *(1,) * (scores.ndim - 1))


def interpretability_score(delta: Tensor, chosen: Tensor) -> PerRow:
    """``IS(δ) = ‖B∘δ‖₂ / ‖δ‖₂``: the share of a perturbation that falls on chosen pixels.

    Args:
        delta: perturbations, ``(n, c, h, w)``.
        chosen: B, ``(n, c, h, w)`` or ``(n, 1, h, w)``.

    Returns:
        ``(n,)`` in [0, 1]; NaN for a perturbation of zero.

    Example:
        >>> delta, chosen = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[True, False]]]])
        >>> round(float(interpretability_score(delta, chosen)), 3)
        0.6

    Source: Xu et al., 2019, equation 23.
    """
    inside = (delta * chosen).flatten(1).norm(dim=1)
    whole = delta.flatten(1).norm(dim=1)
    return torch.where(whole > 0, inside / whole, torch.nan)


@with_images_on_the_cpu
def activation_map(
    model: nn.Module, x: Images, label: Labels, *, layer: nn.Module | None = None, batch: int = 32
) -> tuple[Tensor, str]:
    """Which regions speak for a class.

    Where the last linear layer sees the spatial mean of some feature maps, this is the class activation map itself:
    ``Σ_k w_k A_k``. Whether it does is found by trying. Elsewhere it is Grad-CAM, by captum.

    Args:
        model: maps images to logits.
        x: images.
        label: a class each.
        layer: for Grad-CAM; by default the last convolution.
        batch: images a pass.

    Returns:
        ``(n, 1, h, w)``, enlarged to the images' size, not negative; and ``"CAM"`` or ``"Grad-CAM"``.

    Raises:
        ValueError: a network without convolutions.

    Source: Zhou et al., "Learning deep features for discriminative localization", CVPR 2016; Selvaraju et al.,
    "Grad-CAM", ICCV 2017.
    """
    device = model_device(model, x.device)
    with preserve_state(model), torch.no_grad():
        pooled = None if layer is not None or not len(x) else _pooled(model, x[:2].to(device))
    name, parts = ("Grad-CAM" if pooled is None else "CAM"), []
    for part, own in zip(x.split(batch), label.split(batch), strict=True):
        seen, chosen = part.to(device), own.to(device)
        raw = _grad_cam(model, seen, chosen, layer) if pooled is None else _cam(model, seen, chosen, *pooled)
        parts.append(F.interpolate(raw.relu(), x.shape[-2:], mode="bilinear", align_corners=False).cpu())
    return torch.cat(parts) if parts else x[:, :1], name


def _cam(model: nn.Module, x: Images, label: Labels, module: nn.Module, head: nn.Linear) -> Tensor:
    with preserve_state(model), torch.no_grad(), record_outputs(module) as maps:
        call(model, x)
    return torch.einsum("nkhw,nk->nhw", maps[-1], head.weight.detach()[label])[:, None]


@contextmanager
def record_outputs(*modules: nn.Module) -> Iterator[list[Tensor]]:
    """The outputs of modules, in the order in which they are called, while the block lasts."""
    outputs: list[Tensor] = []
    handles = [module.register_forward_hook(lambda _, __, out: outputs.append(out)) for module in modules]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _pooled(model: nn.Module, x: Images) -> tuple[nn.Module, nn.Linear] | None:
    """The module whose output's spatial mean is what the last linear layer sees, and that layer; None without."""
    heads = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not heads:
        return None
    leaves = [module for module in model.modules() if not list(module.children())]
    head_inputs: list[Tensor] = []
    maps: list[tuple[nn.Module, Tensor]] = []
    handles = [
        module.register_forward_hook(lambda own, _, out: maps.append((own, out)) if _is_map(out) else None)
        for module in leaves
    ]
    handles.append(heads[-1].register_forward_pre_hook(lambda _, args: head_inputs.append(args[0])))
    try:
        logits = classify(model, x)
    finally:
        for handle in handles:
            handle.remove()
    if not head_inputs or not torch.equal(logits, heads[-1](head_inputs[-1])):
        return None
    pooled = head_inputs[-1].flatten(1)
    for module, out in reversed(maps):
        mean = out.mean((2, 3))
        if mean.shape == pooled.shape and torch.allclose(mean, pooled, rtol=1e-3, atol=1e-5):
            return module, heads[-1]
    return None


def _is_map(out: object) -> bool:
    return isinstance(out, Tensor) and out.ndim == 4 and out.shape[-1] * out.shape[-2] > 1


def _grad_cam(model: nn.Module, x: Images, label: Labels, layer: nn.Module | None) -> Tensor:
    try:
        from captum.attr import LayerGradCam
    except ImportError as error:
        raise ImportError("Grad-CAM needs captum: pip install 'assay[explain]'") from error
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    if layer is None and not convolutions:
        reject("model", "a network with convolutions", type(model))
    check_gradients(model, x)
    with preserve_state(model), torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        activation: Tensor = LayerGradCam(model, layer or convolutions[-1]).attribute(leaf, target=label)
    return activation.detach()
