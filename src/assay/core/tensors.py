"""Tensors in a file that cannot execute code, with what belongs to them as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from assay.core.arguments import described, reject
from assay.core.files import atomic_write


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], key: str, about: Any) -> Path:
    """Write a ``.safetensors`` file; whole or not at all.

    Args:
        path: the file.
        tensors: by name; copied to the CPU.
        key: of the metadata, which says what kind of file it is.
        about: JSON, under the key.

    Returns:
        The path.
    """
    from safetensors.torch import save

    stored = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    return atomic_write(Path(path), save(stored, metadata={key: json.dumps(about, sort_keys=True)}))


def read_tensors(path: Path, key: str, argument: str) -> tuple[Any, dict[str, Tensor]]:
    """Read what `write_tensors` wrote.

    Args:
        path: a file that is there.
        key: of the metadata.
        argument: whose value the path is, for the message.

    Returns:
        What was written under the key, None where there is nothing, and the tensors by name.

    Raises:
        ValueError: not a safetensors file, or one whose metadata are no JSON.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(key, "null"))
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        return reject(argument, f"a safetensors file at {path.name}", described(str(error)))
