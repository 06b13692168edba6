"""Outcomes on disk: each one whole or not there, under a name that says what made it."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.files import atomic_write
from assay.core.outcome import Outcome
from assay.core.types import Images

FORMAT = 1


def cell_key(**parts: Any) -> str:
    """A name for what these parts decide: the first 24 digits of the SHA-256 of their canonical JSON.

    Args:
        parts: strings, numbers, or things with an unambiguous ``repr``.

    Example:
        >>> cell_key(model="a", eps=0.1) == cell_key(eps=0.1, model="a") != cell_key(model="a", eps=0.2)
        True
    """
    text = json.dumps({"format": FORMAT, **parts}, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def modules_in(part: Any) -> list[nn.Module]:
    """The networks that a frozen record holds, such as the saliency model of an objective."""
    if isinstance(part, nn.Module):
        return [part]
    if isinstance(part, tuple):
        return [module for item in part for module in modules_in(item)]
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        return [module for f in dataclasses.fields(part) for module in modules_in(getattr(part, f.name))]
    return []


def save_outcome(outcome: Outcome, path: Path) -> None:
    """Write an outcome without its clean images (they are the data's)."""
    from safetensors.torch import save

    tensors, plain = {}, {}
    for field in dataclasses.fields(outcome):
        value = getattr(outcome, field.name)
        if field.name == "clean":
            continue
        if isinstance(value, Tensor):
            tensors[field.name] = value.contiguous()
        else:
            plain[field.name] = value
    atomic_write(path, save(tensors, metadata={"outcome": json.dumps(plain, sort_keys=True)}))


def load_outcome(path: Path, clean: Images) -> Outcome | None:
    """Read an outcome; None if there is none or if it does not fit (it is then made again).

    Args:
        path: as written by `save_outcome`.
        clean: the clean images, ``(n, c, h, w)``.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            plain = json.loads((file.metadata() or {})["outcome"])
    except (SafetensorError, KeyError, ValueError, OSError):
        return None
    if tensors.get("images", torch.empty(0)).shape != clean.shape:
        return None
    plain["errors"] = {int(i): text for i, text in plain["errors"].items()}
    for name in ("stages", "events"):
        plain[name] = tuple(plain[name])
    try:
        return Outcome(clean=clean, **tensors, **plain)
    except TypeError:
        return None
