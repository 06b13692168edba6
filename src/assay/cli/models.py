"""Models on the command line."""

from pathlib import Path

from torch import nn

from assay.models.load import digest, is_factory
from assay.models.weights import SUFFIXES, is_weights_file
from assay.store.model_source import ModelSource
from assay.util.validate import described, reject


def parse_model(spec: str) -> tuple[str, str]:
    """Name and spec of ``NAME=SPEC`` or ``SPEC``.

    Raises:
        ValueError: nothing before the ``=``.
    """
    name, equals, path = spec.partition("=")
    if equals and not name.strip():
        reject("model", "a name before the =, as NAME=SPEC", spec)
    if equals and path and "/" not in name and ":" not in name:
        return name, path
    if not is_weights_file(spec):
        return spec, spec
    file = Path(spec).name
    ending = next(ending for ending in sorted(SUFFIXES, key=len, reverse=True) if file.lower().endswith(ending))
    return file[: -len(ending)] or file, spec


def require_deterministic(source: ModelSource, model: nn.Module) -> None:
    """Reject factories that build different weights each time: such runs could not be resumed or verified.

    Raises:
        ValueError: it gives other weights when it is called again.
    """
    spec = source.spec
    if not is_weights_file(spec) and is_factory(spec) and digest(source.load()) != digest(model):
        advice = f"(load trained ones in it, or give --model weights.pt --arch {spec})"
        reject(
            "model",
            f"a factory that gives the same weights each time {advice}",
            described(f"{spec}, which gave others when called again"),
        )
