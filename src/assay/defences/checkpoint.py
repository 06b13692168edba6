"""Files of what a defence is made of: weights and how to build the network again."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from assay.defences.detectors import Detector
from assay.defences.purifiers import Autoencoder, Cleaner, Generator, PixelDensity
from assay.masks.learned_saliency import SaliencyNetwork
from assay.util.tensors import read_tensors, write_tensors
from assay.util.validate import described, reject

PARTS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        "autoencoder": Autoencoder,
        "cleaner": Cleaner,
        "generator": Generator,
        "density": PixelDensity,
        "detector": Detector,
        "saliency": SaliencyNetwork,
    }
)


def save_part(net: nn.Module, path: str | Path, part: str, arguments: Mapping[str, Any], **facts: float) -> None:
    """Write a network of a defence; atomic.

    Args:
        net: what ``PARTS[part](**arguments)`` makes, trained.
        path: a ``.safetensors`` file.
        part: a name of `PARTS`.
        arguments: of its constructor.
        facts: numbers that belong to it, such as a threshold.
    """
    about = {"part": part, "arguments": dict(arguments), "facts": facts}
    write_tensors(path, net.state_dict(), "assay-defence", about)


def load_part(path: str | Path, part: str) -> tuple[nn.Module, dict[str, float]]:
    """A network that `save_part` wrote, in evaluation mode, and the numbers that belong to it.

    Args:
        path: the file.
        part: what it has to be, a name of `PARTS`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file of something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"defence: expected the weights of its {part} (see: assay fit), but there is no {path}")
    metadata, weights = read_tensors(path, "assay-defence", "defence")
    about = metadata or {}
    if about.get("part") != part:
        reject(
            "defence",
            f"the weights of its {part}, as assay fit writes them, in {path.name}",
            described(f"those of its {about['part']}" if "part" in about else "other weights"),
        )
    net = PARTS[part](**about["arguments"])
    net.load_state_dict(weights)
    return net.eval().requires_grad_(False), dict(about["facts"])
