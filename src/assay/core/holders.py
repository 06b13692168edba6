"""The modules that a callable holds."""

import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

_DEPTH = 5
_MOST = 1000
"""Elements of a container that are looked at; a longer one holds data, not networks."""
_LIBRARIES = ("torch", "numpy", "builtins")


def modules_in(model: Any) -> tuple[nn.Module, ...]:
    """The modules that a classifier is, or that it holds where it is some other callable.

    Looked at are the arguments of a ``functools.partial``, the object of a bound method, the closure, the defaults and
    the globals that a function's code reads, and the attributes of an object, a few levels deep.

    Args:
        model: a module or any callable.

    Returns:
        Modules without those that are part of another one of them, in a fixed order.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> modules_in(lambda x: net(x).softmax(1)) == (net,)
        True
    """
    if isinstance(model, nn.Module):
        return (model,)
    modules = list(dict.fromkeys(_walk(model, _DEPTH, set())))
    inner = {id(part) for module in modules for part in list(module.modules())[1:]}
    return tuple(module for module in modules if id(module) not in inner)


def _walk(value: Any, depth: int, seen: set[int]) -> Iterator[nn.Module]:
    if isinstance(value, nn.Module):
        yield value
    elif depth and id(value) not in seen:
        seen.add(id(value))
        for held in _held(value):
            yield from _walk(held, depth - 1, seen)


def _held(value: Any) -> Iterator[Any]:
    """What an object refers to and may call."""
    if isinstance(value, type | types.ModuleType | Tensor | str | bytes | int | float | complex | None):
        return
    if isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, types.MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, types.FunctionType):
        yield from _held_by_function(value)
    elif isinstance(value, Mapping):
        yield from list(value.values())[:_MOST] if len(value) <= _MOST else ()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value if len(value) <= _MOST else ()
    else:
        wrapped = getattr(value, "__wrapped__", None)  # functools.wraps
        yield from (wrapped,) if callable(wrapped) else ()
        yield from vars(value).values() if hasattr(value, "__dict__") else ()
        call = getattr(type(value), "__call__", None)  # noqa: B004
        yield from (call,) if isinstance(call, types.FunctionType) else ()


def _held_by_function(function: types.FunctionType) -> Iterator[Any]:
    if (function.__module__ or "").partition(".")[0] in _LIBRARIES:
        return
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a name that is not bound yet
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield function.__globals__[name]


def _names(code: types.CodeType) -> Iterator[str]:
    """Names that a code object and those inside it read."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
