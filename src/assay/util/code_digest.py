"""The code that a result depends on: the modules that compute it, found by their imports."""

import ast
import hashlib
import importlib.util
import warnings
from functools import lru_cache
from pathlib import Path

from assay.util.validate import outside

SOURCE = Path(__file__).resolve().parent.parent
"""Assay's own folder."""
_SKIPPED = "assay.util"
"""Helpers that compute no result: arguments, files, text, progress."""


@lru_cache(maxsize=256)
def code_digest(*roots: str, alone: tuple[str, ...] = (), source: Path = SOURCE) -> str:
    """SHA-256 over some modules and all modules of assay that they import, ``assay.util`` aside.

    So a changed attack makes its own results stale, and a changed progress bar makes none stale.

    Args:
        roots: dotted names; of modules outside assay only the file itself is read. A name that ends in ``.*`` stands
            for all modules of a folder, here and in ``alone``.
        alone: names of modules whose imports do not count.
        source: the folder of assay.
    """
    hasher = hashlib.sha256()
    for name, path in sorted(code_files(*roots, alone=alone, source=source).items()):
        hasher.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return hasher.hexdigest()


def warn_of_other_code(then: str, now: str, place: Path) -> None:
    """Say that something was trained by other code than this, and is kept.

    Args:
        then: digest of the code that began it; empty where nobody noted it.
        now: digest of this code.
        place: the folder that it is in.

    Warns:
        UserWarning: the digests differ.
    """
    if then != now:
        text = f"{place} was trained by another version of assay's code, and is kept; delete it to train again"
        warnings.warn(text, stacklevel=outside())


def code_files(*roots: str, alone: tuple[str, ...] = (), source: Path = SOURCE) -> dict[str, Path]:
    """The files that `code_digest` reads, by the names of their modules."""
    single = [name for root in alone for name in _modules(root, source)]
    results = {name: path for name in single if (path := _file(name, source)) is not None}
    left = [name for root in dict.fromkeys(roots) for name in _modules(root, source)]
    reached = set()
    while left:
        name = left.pop()
        path = None if name in reached or name.startswith(_SKIPPED) else _file(name, source)
        if path is None:
            continue
        reached.add(name)
        results[name] = path
        if name.partition(".")[0] == "assay":
            left += _imports(path, source)
    return results


def _modules(root: str, source: Path) -> list[str]:
    """A name itself, or the modules of the folder that it stands for."""
    if not root.endswith(".*"):
        return [root]
    package = root.removesuffix(".*")
    return [f"{package}.{path.stem}" for path in sorted(source.joinpath(*package.split(".")[1:]).glob("*.py"))]


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
