"""A model from a spec: a weights file, a function of a module, or a hub."""

import hashlib
import importlib
import inspect
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.arguments import described, reject
from assay.core.tensors import read_tensors, write_tensors
from assay.models.registry import ARCHITECTURES, build

Recipe = Mapping[str, Any]
"""What `build` needs: arch, channels, classes, size, normalize."""


def load(spec: str, *, recipe: Recipe | None = None) -> nn.Module:
    """Load a classifier, in evaluation mode, that maps images in [0, 1] to logits.

    Args:
        spec: one of

            - ``path.safetensors``, or ``path.pt`` read as weights only; the architecture comes from the file's
              metadata (files written by assay) or from ``recipe``;
            - ``package.module:factory``, a function without arguments that returns a module (runs that code; modules of
              the current folder are found);
            - ``timm:NAME``, ``torchvision:NAME``, ``hf:ORG/NAME[@REVISION]``, pretrained, with the normalisation that
              they publish put in front.
        recipe: for a weights file: the arguments of `build`; its entries win over the file's metadata.

    Returns:
        The model.

    Raises:
        ValueError: an unknown spec, a file that does not fit, a factory that returns something else.
        FileNotFoundError: no such file.
    """
    prefix, _, rest = spec.partition(":")
    if spec.endswith((".safetensors", ".pt", ".pth")):
        return _from_file(Path(spec), recipe or {})
    if prefix in ("timm", "torchvision", "hf") and rest:
        from assay.models import hubs

        return {"timm": hubs.from_timm, "torchvision": hubs.from_torchvision, "hf": hubs.from_hf}[prefix](rest).eval()
    if is_factory(spec):
        return _from_factory(prefix, rest)
    return reject(
        "model", "a .safetensors or .pt file, package.module:factory, timm:NAME, torchvision:NAME or hf:ORG/NAME", spec
    )


def is_factory(spec: str) -> bool:
    """Whether loading a spec runs a function that it names.

    Example:
        >>> is_factory("package.module:build"), is_factory("net.safetensors"), is_factory("timm:resnet18")
        (True, False, False)
    """
    prefix, _, rest = spec.partition(":")
    if spec.endswith((".safetensors", ".pt", ".pth")) or prefix in ("timm", "torchvision", "hf"):
        return False
    return bool(rest) and prefix.replace(".", "").replace("_", "").isalnum()


def save(model: nn.Module, path: str | Path, recipe: Recipe) -> None:
    """Write the weights of a model made by `build`, with its recipe as metadata; atomic.

    Args:
        model: what `build` returned, trained.
        path: a ``.safetensors`` file.
        recipe: the arguments of `build`.
    """
    write_tensors(path, model.state_dict(), "assay", dict(recipe))


def digest(model: nn.Module) -> str:
    """SHA-256 over the structure (as ``repr`` shows it) and the names, types, shapes and bytes of all weights.

    Of classes that are neither PyTorch's nor assay's, also over the files that define them: a changed ``forward`` is
    another model. What such a file imports is not looked at.
    """
    found = hashlib.sha256(repr(model).encode())
    for file in _sources(model):
        found.update(Path(file).read_bytes())
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _sources(model: nn.Module) -> list[str]:
    """The files that define a model's own classes."""
    found = set()
    for kind in {type(part) for part in model.modules()}:
        if kind.__module__.partition(".")[0] not in ("torch", "assay"):
            with suppress(TypeError, OSError):  # made in an interactive session
                file = inspect.getsourcefile(kind)
                if file is not None and Path(file).is_file():
                    found.add(file)
    return sorted(found, key=lambda file: (Path(file).name, file))


def _from_file(path: Path, recipe: Recipe) -> nn.Module:
    if not path.is_file():
        raise FileNotFoundError(f"model: expected a weights file, but there is none at {path}")
    weights, known = _read(path)
    wanted = {**known, **{key: value for key, value in recipe.items() if value is not None}}
    missing = [key for key in ("arch", "channels", "classes", "size") if key not in wanted]
    if missing:
        reject(
            "arch",
            f"{', '.join(missing)} to build the network that {path.name} belongs to (--arch, one of "
            f"{', '.join(ARCHITECTURES)}; the rest comes from the data)",
            None,
        )
    model = build(**wanted)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        reject("model", f"weights of {wanted['arch']} in {path.name}", described(problem))
    return model.eval()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if path.suffix == ".safetensors":
        about, weights = read_tensors(path, "assay", "model")
        return weights, about or {}
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        reject("model", f"a file of plain weights at {path.name} (pickled objects are never loaded)", described(reason))
    loaded = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(loaded, dict) or not all(isinstance(t, Tensor) for t in loaded.values()):
        reject("model", f"a mapping of names to tensors in {path.name}", type(loaded))
    return loaded, {}


def _from_factory(module: str, name: str) -> nn.Module:
    """What a function of a module returns; modules of the current folder count, after those that are installed."""
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        reject("model", f"an importable function {name!r} in {module!r}", described(str(error)))
    model = factory()
    if not isinstance(model, nn.Module):
        reject("model", f"a torch.nn.Module from {module}:{name}", type(model))
    return model.eval()
