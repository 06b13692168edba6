"""The defences by name: a new one is a file and a line here."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from assay.core.model_state import model_device
from assay.defences.checkpoint import load_part
from assay.defences.detectors import Guarded, Reconstruction, Squeezing
from assay.defences.distilled import Distilled
from assay.defences.fitted import FITTINGS, with_threshold
from assay.defences.projection import Projection
from assay.defences.purifiers import PixelDefend
from assay.defences.randomised import RandomInput, ResizePad, SelfEnsemble
from assay.defences.smoothing import Smoothed
from assay.defences.transformed import Transformed
from assay.defences.transforms import BitDepth, Blur, Jpeg, Median, TotalVariation
from assay.util.registry import Registry, instance_of
from assay.util.spec import join_spec, read_arguments, split_pairs, split_spec
from assay.util.validate import name_argument, one_of, reject


def jpeg(model: nn.Module, quality: int = 75, gradient: str = "smooth") -> Transformed:
    """JPEG compression; the adaptive attack's ``gradient`` is a differentiable coder's (smooth), or the identity's."""
    one_of("gradient", gradient, ("identity", "smooth"))
    return Transformed(model, Jpeg(quality), through=False if gradient == "identity" else None)


def bits(model: nn.Module, bits: int = 3) -> Transformed:
    """Fewer bits a value."""
    return Transformed(model, BitDepth(bits))


def blur(model: nn.Module, sigma: float = 1.0) -> Transformed:
    """Gaussian blur."""
    return Transformed(model, Blur(sigma))


def median(model: nn.Module, size: int = 2) -> Transformed:
    """Median filter."""
    return Transformed(model, Median(size))


def total_variation(model: nn.Module, weight: float = 0.1, steps: int = 50) -> Transformed:
    """Total variation denoising."""
    return Transformed(model, TotalVariation(weight, steps))


def resize_pad(model: nn.Module, least: float = 0.9, draws: int = 8, attack_draws: int = 8) -> RandomInput:
    """Random size and place."""
    return RandomInput(model, ResizePad(least), draws=draws, attack_draws=attack_draws)


def squeezing(model: nn.Module, threshold: float = 1.0, bits: int = 4, size: int = 2) -> Guarded:
    """Feature squeezing: refuse where bit depth or a median changes the prediction."""
    return Guarded(model, Squeezing(model, (BitDepth(bits), Median(size)), threshold))


def magnet(model: nn.Module, path: str) -> Guarded:
    """Reconstruct, and refuse what is not reconstructed."""
    net, facts = load_part(path, FITTINGS["magnet"].part)
    return Guarded(Transformed(model, net, through=True), Reconstruction(net, facts["threshold"]))


def ape_gan(model: nn.Module, path: str) -> Transformed:
    """A generator that takes perturbations off."""
    return Transformed(model, load_part(path, FITTINGS["ape-gan"].part)[0], through=True)


def defense_gan(model: nn.Module, path: str, steps: int = 100, restarts: int = 4, unrolled: int = 10) -> Transformed:
    """The nearest image that a generator can make."""
    net, _ = load_part(path, FITTINGS["defense-gan"].part)
    change = Projection(net, steps=steps, restarts=restarts, unrolled=unrolled)  # type: ignore[arg-type]
    return Transformed(model, change, through=unrolled > 0)


def pixel_defend(model: nn.Module, path: str, eps: float = 0.1) -> Transformed:
    """Each pixel at its most likely value nearby."""
    net, _ = load_part(path, FITTINGS["pixel-defend"].part)
    return Transformed(model, PixelDefend(net, eps))  # type: ignore[arg-type]


def detector(model: nn.Module, path: str) -> Guarded:
    """Refuse what a detector takes for adversarial."""
    return Guarded(model, with_threshold(*load_part(path, FITTINGS["detector"].part)))


@dataclass(frozen=True)
class Entry:
    """One defence.

    Attributes:
        make: from a model and arguments.
        help: a line for tables.
        work: arguments that its cost grows with.
    """

    make: Callable[..., nn.Module]
    help: str
    work: tuple[str, ...] = ()


DEFENCES: Registry[Entry] = Registry(
    "defence",
    {
        "jpeg": Entry(jpeg, "JPEG compression (BPDA)"),
        "bits": Entry(bits, "fewer bits a value (BPDA)"),
        "blur": Entry(blur, "Gaussian blur (gradients pass)"),
        "median": Entry(median, "median filter (gradients pass)"),
        "tv": Entry(total_variation, "total variation denoising (gradients pass)", ("steps",)),
        "resize-pad": Entry(resize_pad, "random size and place (EOT)", ("draws", "attack_draws")),
        "rse": Entry(SelfEnsemble, "mean of passes of a network with noise layers (EOT)", ("draws", "attack_draws")),
        "smoothing": Entry(Smoothed, "randomised smoothing (EOT); sigma is needed", ("draws", "attack_draws")),
        "squeezing": Entry(squeezing, "feature squeezing: refuses (joint attack)"),
        "distilled": Entry(Distilled, "a network trained by distillation (loss of logits divided by its temperature)"),
        "magnet": Entry(magnet, "autoencoder: reconstructs and refuses (joint attack through it); assay fit magnet"),
        "ape-gan": Entry(ape_gan, "generator that cleans (gradients pass); assay fit ape-gan"),
        "defense-gan": Entry(
            defense_gan,
            "nearest image of a generator (through the descent); assay fit defense-gan",
            ("steps", "restarts", "unrolled"),
        ),
        "pixel-defend": Entry(pixel_defend, "likeliest values nearby (BPDA); assay fit pixel-defend"),
        "detector": Entry(detector, "convolutional detector: refuses (joint attack); assay fit detector"),
    },
    group="assay.defences",
    adapt=instance_of(Entry, "docs/plugins.md"),
)


def defend(model: nn.Module, spec: str) -> nn.Module:
    """A classifier with a defence around it, from ``name`` or ``name:key=value,…``.

    Args:
        model: maps images in [0, 1] to logits.
        spec: a name of `DEFENCES` and arguments, such as ``jpeg:quality=50``.

    Raises:
        ValueError: an unknown name or argument, or one that is missing.

    Example:
        >>> defend(nn.Flatten(), "bits:bits=1").change
        BitDepth(bits=1)
    """
    name, arguments = _read(spec)
    with name_argument(f"defence {spec}"):
        defended = DEFENCES[name].make(model, **arguments)
    own = {id(part) for part in model.modules()} if isinstance(model, nn.Module) else set()
    for part in defended.modules():
        if id(part) not in own:  # the classifier stays in the mode that it has
            part.training = False
    return defended.to(model_device(model, torch.device("cpu")))


def check(spec: str) -> str:
    """The spec, if it is one; files are not looked for.

    Raises:
        ValueError: an unknown name or argument, or one that is missing.
    """
    _read(spec)
    return spec


def limit_work(spec: str, most: int) -> str:
    """A spec whose arguments that cost grows with are at most a number, for tests of a whole study.

    Args:
        spec: as of `defend`; files are not looked for.
        most: of each such argument.

    Example:
        >>> limit_work("smoothing:sigma=0.25,draws=100", 2)
        'smoothing:sigma=0.25,draws=2,attack_draws=2'
        >>> limit_work("jpeg:quality=50", 2)
        'jpeg:quality=50'
    """
    name, text = split_spec("defence", spec)
    entry = DEFENCES.find(name)
    known = inspect.signature(entry.make).parameters
    values = dict(split_pairs("defence", name, text))
    values |= {key: str(min(int(values.get(key, known[key].default)), most)) for key in entry.work}
    return join_spec(name, ",".join(f"{key}={value}" for key, value in values.items()))


def _read(spec: str) -> tuple[str, dict[str, Any]]:
    name, text = split_spec("defence", spec)
    known = {k: p for k, p in inspect.signature(DEFENCES.find(name).make).parameters.items() if k != "model"}
    arguments = read_arguments(name, text, known, what="defence")
    for key, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and key not in arguments:
            example = "runs/d/defence.safetensors" if key == "path" else "0.25"
            reject(f"{name}:{key}", f"a value, as in {name}:{key}={example}", None)
    return name, arguments
