"""The code that a result depends on: the modules that compute it, found by their imports."""

import ast
import dataclasses
import hashlib
import importlib.util
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent.parent
"""Assay's own folder."""
_SKIPPED = "assay.util"
"""Helpers that compute no result: arguments, files, text, progress."""


@lru_cache(maxsize=256)
def code_digest(*roots: str, source: Path = SOURCE) -> str:
    """SHA-256 over some modules and all modules of assay that they import, ``assay.util`` aside.

    So a changed attack makes its own results stale, and a changed progress bar makes none stale.

    Args:
        roots: dotted names; of modules outside assay only the file itself is read.
        source: the folder of assay.
    """
    hasher = hashlib.sha256()
    for name, path in sorted(_reach(roots, source).items()):
        hasher.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return hasher.hexdigest()


def modules_of(part: Any) -> tuple[str, ...]:
    """The modules that define an attack, a network or an adaptation, and everything that they are made of.

    Args:
        part: any value; of dataclasses, tuples and networks the parts are visited, too.

    Returns:
        Dotted names, sorted; those of PyTorch and of the standard library's builtins are left out.
    """
    results = {kind.__module__ for kind in _kinds(part)}
    return tuple(sorted(name for name in results if name.partition(".")[0] not in ("torch", "builtins")))


def _kinds(part: Any) -> Iterable[Any]:
    """The classes and functions that a value is made of."""
    if isinstance(part, tuple | list | frozenset):
        for item in part:
            yield from _kinds(item)
        return
    if callable(part) and not isinstance(part, type) and hasattr(part, "__qualname__"):
        yield part  # a function
    elif hasattr(type(part), "__module__"):
        yield type(part)
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        for field in dataclasses.fields(part):
            yield from _kinds(getattr(part, field.name, None))
    elif hasattr(part, "modules") and callable(part.modules) and not isinstance(part, type):
        yield from {type(module) for module in part.modules()}


def _reach(roots: Iterable[str], source: Path) -> dict[str, Path]:
    """The files of the roots and of all that they import, by name."""
    results: dict[str, Path] = {}
    left = list(dict.fromkeys(roots))
    while left:
        name = left.pop()
        path = None if name in results or name.startswith(_SKIPPED) else _file(name, source)
        if path is None:
            continue
        results[name] = path
        if name.partition(".")[0] == "assay":
            left += _imports(path, source)
    return results


def _file(name: str, source: Path) -> Path | None:
    """The source of a module; None where there is none that can be read."""
    if name.partition(".")[0] == "assay":
        place = source.joinpath(*name.split(".")[1:])
        path = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
        return path if path.is_file() else None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # made in an interactive session
        return None
    origin = None if spec is None else spec.origin
    return Path(origin) if origin is not None and origin.endswith(".py") and Path(origin).is_file() else None


@lru_cache(maxsize=1024)
def _imports(path: Path, source: Path) -> tuple[str, ...]:
    """The modules of assay that a file imports, wherever in the file."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "assay":
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [name if _file(name, source) is not None else node.module for name in inner]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names if alias.name.partition(".")[0] == "assay"]
    return tuple(dict.fromkeys(names))
