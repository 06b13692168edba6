"""Tensors in a file that cannot execute code, with what belongs to them as JSON."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.util.files import atomic_write
from assay.util.validate import described, reject

_DIGEST = "sha256"
"""The entry that is over all else in the file. It is part of the JSON: the order of metadata is not always the same."""


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], key: str, about: Mapping[str, Any]) -> Path:
    """Write a ``.safetensors`` file with a digest of its content; whole or not at all.

    Args:
        path: the file.
        tensors: by name; copied to the CPU.
        key: of the metadata, which says what kind of file it is.
        about: what JSON can hold, under the key.

    Returns:
        The path.
    """
    from safetensors.torch import save

    stored = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    plain = json.loads(json.dumps(dict(about)))  # as it will be read
    lines = {**plain, _DIGEST: content_digest([plain, stored])}
    return atomic_write(Path(path), save(stored, metadata={key: json.dumps(lines, sort_keys=True)}))


def read_tensors(path: Path, key: str, argument: str) -> tuple[Any, dict[str, Tensor]]:
    """Read what `write_tensors` wrote.

    Args:
        path: a file that is there.
        key: of the metadata.
        argument: whose value the path is, for the message.

    Returns:
        What was written under the key, None where there is nothing, and the tensors by name.

    Raises:
        ValueError: not a safetensors file, one whose metadata are no JSON, or one that is damaged: its content is not
            what its digest says.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(key, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, RuntimeError) as error:
        return reject(argument, f"a safetensors file at {path.name}", described(" ".join(str(error).split())[:160]))
    digest = about.pop(_DIGEST, None) if isinstance(about, dict) else None
    if digest is not None and digest != content_digest([about, tensors]):
        reject(
            argument,
            f"{path.name} as it was written (restore it from a copy)",
            described("a damaged file: its content does not match its digest"),
        )
    return about, tensors


def content_digest(value: Any) -> str:
    """SHA-256 over plain values, and tensors with their types and shapes, nested in mappings and sequences.

    Args:
        value: what JSON can hold, and tensors.

    Example:
        >>> content_digest({"a": torch.zeros(2), "b": 1}) == content_digest({"b": 1, "a": torch.zeros(2)})
        True
        >>> content_digest([torch.zeros(2)]) == content_digest([torch.zeros(1, 2)])
        False
    """
    hasher = hashlib.sha256()
    _feed(hasher, value)
    return hasher.hexdigest()


def _feed(hasher: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        hasher.update(f"tensor {value.dtype} {tuple(value.shape)}:".encode())
        hasher.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping):
        hasher.update(f"mapping {len(value)}:".encode())
        for name in sorted(value, key=repr):
            hasher.update(f"{name!r}:".encode())
            _feed(hasher, value[name])
    elif isinstance(value, list | tuple):
        hasher.update(f"sequence {len(value)}:".encode())
        for item in value:
            _feed(hasher, item)
    else:
        hasher.update(f"{value!r};".encode())
