"""The code of functions: whether it belongs to a library, what it does, which globals it reads."""

import dis
import hashlib
import importlib.machinery
import site
import sys
import sysconfig
import types
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

_FOLLOWED = "assay"


def is_library(module: str | None) -> bool:
    """Whether a module belongs to assay, to Python or to an installed package, whose code its version tells.

    Args:
        module: its dotted name. ``__main__``, and what has no file, belong to no library.
    """
    if module is None or module.partition(".")[0] in ("assay", "torch", "builtins"):
        return True
    if module in ("__main__", "__mp_main__"):
        return False
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None)
    if file is None:
        return module.partition(".")[0] in sys.stdlib_module_names
    return _is_installed(file)


@lru_cache(maxsize=4096)
def _is_installed(file: str) -> bool:
    path = Path(file).resolve()
    if path.name.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
        return True
    return any(place in path.parents for place in _places())


@lru_cache(maxsize=1)
def _places() -> tuple[Path, ...]:
    """The folders of Python's own modules and of installed packages."""
    names = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return tuple(Path(name).resolve() for name in (*names, *site.getsitepackages(), site.getusersitepackages()) if name)


def code_text(code: types.CodeType) -> str:
    """A digest of what a code object does: instructions, constants, names; not where it stands."""
    hasher = hashlib.sha256(code.co_code)
    hasher.update(repr((code.co_names, code.co_varnames, code.co_freevars, code.co_argcount)).encode())
    for constant in code.co_consts:
        hasher.update(_constant(constant).encode() + b"\0")
    return hasher.hexdigest()[:24]


def _constant(value: Any) -> str:
    if isinstance(value, types.CodeType):
        return code_text(value)
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def code_names(code: types.CodeType) -> Iterator[str]:
    """Names that a code object and those inside it read."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from code_names(constant)


def global_names(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """The global values that a function reads, and what it reads of modules outside the libraries, and of assay.

    A name that the function itself assigns is a state, such as a counter, and is left out.

    Yields:
        Names and values, in a fixed order.
    """
    assigned = set(_assigned(function.__code__, "STORE_GLOBAL"))
    names = list(dict.fromkeys(code_names(function.__code__)))
    for name in names:
        value = function.__globals__.get(name, sys.modules.get(name))
        if name in assigned or value is None:
            continue
        if not isinstance(value, types.ModuleType):
            yield name, value
        elif value.__name__.partition(".")[0] == _FOLLOWED or not is_library(value.__name__):
            yield from _of_module(value, names)


def _of_module(module: types.ModuleType, names: list[str]) -> Iterator[tuple[str, Any]]:
    for name in names:
        value = vars(module).get(name)
        if isinstance(value, types.ModuleType):
            if value is not module and value.__name__.startswith(f"{module.__name__}."):
                yield from _of_module(value, names)
        elif value is not None:
            yield f"{module.__name__}.{name}", value


def assigned_attributes(function: Any) -> frozenset[str]:
    """Names of attributes, of any object, that a function assigns; none for what is no function in Python."""
    if not isinstance(function, types.FunctionType) or is_library(function.__module__):
        return frozenset()
    return frozenset(_assigned(function.__code__, "STORE_ATTR"))


def _assigned(code: types.CodeType, operation: str) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname == operation:
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _assigned(constant, operation)
