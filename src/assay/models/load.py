"""A model from a spec: a weights file, a function of a module, or a hub."""

import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.fingerprint import fingerprint
from assay.core.model_state import lock_model
from assay.models.factories import from_factory
from assay.models.fitting import align_names, check_kinds, fill_weights
from assay.models.normalize import STATISTICS, Normalize
from assay.models.registry import ARCHITECTURES, build
from assay.models.weights import is_weights_file, read_weights
from assay.util.tensors import write_tensors
from assay.util.validate import described, one_of, reject

Recipe = Mapping[str, Any]
"""What `build` needs: arch, channels, classes, size, normalize."""

_LAYER = ("0.mean", "0.std")
_HUBS = ("timm", "torchvision", "hf")


def load(spec: str, *, recipe: Recipe | None = None) -> nn.Module:
    """Load a classifier, in evaluation mode, that maps images in [0, 1] to logits.

    Args:
        spec: one of

            - a file of weights (``.safetensors``, ``.pt``, ``.pth``, ``.pth.tar``, ``.ckpt``, ``.bin``), of which
              nothing but tensors is ever read; the architecture comes from the file's metadata (files written by
              assay) or from ``recipe``. Checkpoints with more in them, and names with prefixes such as ``module.``, are
              understood (`assay.models.weights.read_weights`);
            - ``package.module:factory``, a function without arguments that returns a module (runs that code; modules of
              the current folder are found);
            - ``timm:NAME``, ``torchvision:NAME``, ``hf:ORG/NAME[@REVISION]``, pretrained, with the preprocessing that
              they publish put in front; they ask for images of the size that it makes.
        recipe: for a weights file: the arguments of `build`; its entries win over the file's metadata. ``arch`` may be
            followed by ``:normalize=NAME``, and may be ``package.module:Class``, a network of one's own, which is
            called with those of channels, classes and size that it takes by name (runs that code). Weights of other
            programs that bring no normalisation need one of their own to be named (``resnet18:normalize=imagenet``,
            or ``normalize=none``).

    Returns:
        The model.

    Raises:
        ValueError: an unknown spec, a file that does not fit, a factory that returns something else.
        FileNotFoundError: no such file.
        ImportError: the library of a hub is missing.

    Warns:
        UserWarning: a checkpoint holds several sets of weights; says which is taken.
    """
    prefix, _, rest = spec.partition(":")
    if is_weights_file(spec):
        return _from_file(Path(spec), recipe or {})
    if prefix in _HUBS and rest:
        from assay.models.hubs import from_hf, from_timm, from_torchvision

        return {"timm": from_timm, "torchvision": from_torchvision, "hf": from_hf}[prefix](rest).eval()
    if is_factory(spec):
        return from_factory(spec).eval()
    return reject(
        "model",
        "a .safetensors or .pt file, package.module:factory, timm:NAME, torchvision:NAME or hf:ORG/NAME",
        described(repr(spec) + _advice(spec)),
    )


def _advice(spec: str) -> str:
    """What a spec that names no model was likely meant to be."""
    if spec in ARCHITECTURES:
        return " (to train one of that architecture: assay train)"
    return ", where there is no file or folder" if "/" in spec and not Path(spec).exists() else ""


def start_weights(spec: str, model: nn.Module) -> dict[str, Tensor]:
    """Weights to begin a training with, under the names of the network that is to be trained.

    Args:
        spec: as for `load`. A file of weights needs no architecture here: prefixes of names are taken off, so that
            those of torchvision and of other training programs fit. Weights of another shape (a last layer for other
            classes) are among them.
        model: a network of `build`; not changed.

    Returns:
        Tensors by the names of ``model.state_dict()``, and by their own where that has no such name.

    Raises:
        ValueError, FileNotFoundError, ImportError: as for `load`.

    Warns:
        UserWarning: as for `load`.
    """
    weights = read_weights(Path(spec))[0] if is_weights_file(spec) else load(spec).state_dict()
    return align_names(weights, model.state_dict())


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names, types, shapes and bytes of tensors.

    Example:
        >>> len(weights_digest({"weight": torch.ones(2)}))
        64
    """
    hasher = hashlib.sha256()
    _hash_tensors(hasher, weights)
    return hasher.hexdigest()


def is_spec(text: str) -> bool:
    """Whether a text is a spec as `load` takes it, and no plain name.

    Example:
        >>> is_spec("torchvision:resnet34"), is_spec("runs/a/model.safetensors"), is_spec("clean")
        (True, True, False)
    """
    prefix, _, rest = text.partition(":")
    return is_weights_file(text) or (prefix in _HUBS and bool(rest)) or is_factory(text)


def is_factory(spec: str, recipe: Recipe | None = None) -> bool:
    """Whether loading a spec runs code that it, or the architecture of its recipe, names.

    Args:
        spec: as `load` takes it.
        recipe: likewise.

    Example:
        >>> is_factory("package.module:build"), is_factory("net.safetensors"), is_factory("timm:resnet18")
        (True, False, False)
        >>> is_factory("net.pt", {"arch": "package.module:Net"})
        True
    """
    if is_weights_file(spec):
        return ":" in _architecture(str((recipe or {}).get("arch") or ""))[0]
    if spec.partition(":")[0] in _HUBS:
        return False
    return re.fullmatch(r"[\w.]+:[\w.]+", spec) is not None


def save(model: nn.Module, path: str | Path, recipe: Recipe) -> None:
    """Write the weights of a model made by `build`, with its recipe as metadata; atomic.

    Args:
        model: what `build` returned, trained.
        path: a ``.safetensors`` file.
        recipe: the arguments of `build`.
    """
    write_tensors(path, model.state_dict(), "assay", dict(recipe))


def digest(model: nn.Module) -> str:
    """SHA-256 over all that decides a model's answers, as far as this process holds it.

    That are the structure (as ``repr`` shows it), names, types, shapes and bytes of all weights, attributes and hooks
    beside them, networks held elsewhere than in submodules, and the code of classes and functions that are neither
    PyTorch's nor assay's: a changed ``forward``, and a changed value that it reads, is another model.
    """
    with lock_model(model):
        description = fingerprint(model)
        hasher = hashlib.sha256(repr(model).encode())
        for line in (
            *_files_of(description.modules),
            description.code,
            description.text.removeprefix(type(model).__qualname__),
        ):
            hasher.update(line.encode())
        parts = {id(part) for part in model.modules()}
        for network in (model, *(other for other in description.networks if id(other) not in parts)):
            _hash_tensors(hasher, network.state_dict())
    return hasher.hexdigest()


def _hash_tensors(hasher: Any, weights: Mapping[str, Tensor]) -> None:
    """Hash tensors, in the order of their names."""
    for name, tensor in sorted(weights.items()):
        hasher.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        hasher.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def _files_of(modules: Sequence[str]) -> list[str]:
    """The sources of installed modules that define a model; PyTorch and assay are identified by their versions."""
    names = [name for name in modules if name.partition(".")[0] not in ("torch", "assay", *sys.stdlib_module_names)]
    files = [getattr(sys.modules.get(name), "__file__", None) or "" for name in names]
    return [Path(file).read_text(encoding="utf-8") for file in files if file.endswith(".py") and Path(file).is_file()]


def _from_file(path: Path, recipe: Recipe) -> nn.Module:
    weights, known = read_weights(path)
    settings = {**known, **{key: value for key, value in recipe.items() if value is not None}}
    own, normalize = _architecture(str(recipe.get("arch") or ""))
    if normalize is not None:
        settings["normalize"] = normalize
    if settings.get("normalize") is not None:
        one_of("normalize", settings["normalize"], STATISTICS)
    if ":" in own:  # by the caller's own word only: metadata of a file never name code to be run
        return _own_network(own, path, weights, settings)
    if own:
        settings["arch"] = own
    if normalize is not None or recipe.get("normalize") is not None:  # the caller's word is above the file's
        weights = {name: tensor for name, tensor in weights.items() if name not in _LAYER}
    missing = [key for key in ("arch", "channels", "classes", "size") if key not in settings]
    if missing:
        reject(
            "arch",
            f"{', '.join(missing)} to build the network that {path.name} belongs to (--arch, one of "
            f"{', '.join(ARCHITECTURES)}, or module:Class; the rest comes from the data)",
            None,
        )
    unknown = [key for key in settings if key not in ("arch", "channels", "classes", "size", "normalize")]
    if unknown:
        reject(
            "model",
            f"a recipe of arch, channels, classes, size and normalize in {path.name}",
            described(", ".join(map(str, unknown[:5]))),
        )
    model = build(**settings)
    aligned = align_names(weights, model.state_dict())
    check_kinds(aligned, model.state_dict(), path.name)
    stored = [aligned[name] for name in _LAYER if name in aligned]
    if len(stored) == 2 and "normalize" not in settings:
        model = nn.Sequential(Normalize(*(tensor.flatten().tolist() for tensor in stored)), model.get_submodule("1"))
    elif not stored and "normalize" not in settings:
        reject(
            "arch",
            f"{settings['arch']}:normalize=NAME with one of {', '.join(STATISTICS)}, because {path.name} does not say "
            "how its network normalises images (none: it takes them in [0, 1])",
            described(repr(settings["arch"])),
        )
    fill_weights(model, weights, path.name, _describe(settings), _LAYER)
    return model.eval()


def _own_network(arch: str, path: Path, weights: Mapping[str, Any], settings: Recipe) -> nn.Module:
    """A network of the caller's own with weights from a file, behind a normalisation if one is named."""
    sizes = {key: int(settings[key]) for key in ("channels", "classes", "size") if key in settings}
    network = from_factory(arch, sizes, argument="arch")
    fill_weights(network, weights, path.name, arch)
    if "normalize" in settings:
        network = nn.Sequential(Normalize(*STATISTICS[settings["normalize"]]), network)
    return network.eval()


def _architecture(arch: str) -> tuple[str, str | None]:
    """An architecture and the normalisation named after it, ``NAME:normalize=HOW``."""
    name, mark, normalize = arch.rpartition(":normalize=")
    return (name, normalize) if mark else (arch, None)


def _describe(recipe: Recipe) -> str:
    return f"{recipe['arch']} for {recipe['channels']} channels, {recipe['classes']} classes"
