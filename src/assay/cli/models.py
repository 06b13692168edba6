"""Models on the command line."""

from pathlib import Path


def named(spec: str) -> tuple[str, str]:
    """Name and spec of ``NAME=SPEC`` or ``SPEC``."""
    name, equals, path = spec.partition("=")
    if equals and path and "/" not in name and ":" not in name:
        return name, path
    return (Path(spec).stem if spec.endswith((".safetensors", ".pt", ".pth")) else spec), spec
