"""The modules and random generators that a classifier holds, wherever it keeps them."""

import functools
import random
import sys
import types
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from assay.core.code_objects import code_names

_DEPTH = 8
_MOST = 1000
"""Elements of a container that are looked at; a longer one holds data, not networks."""
_LIBRARIES = ("torch", "numpy", "builtins", "assay")
REGISTERED = frozenset(
    {
        "_parameters",
        "_buffers",
        "_modules",
        "_backward_hooks",
        "_backward_pre_hooks",
        "_forward_hooks",
        "_forward_pre_hooks",
        "_state_dict_hooks",
        "_load_state_dict_pre_hooks",
        "_load_state_dict_post_hooks",
        "_state_dict_pre_hooks",
        "_forward_hooks_with_kwargs",
        "_forward_hooks_always_called",
        "_is_full_backward_hook",
        "_forward_pre_hooks_with_kwargs",
        "_non_persistent_buffers_set",
        "training",
    }
)
"""Attributes of a module that hold none but the modules that it is made of."""
Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random


def modules_in(model: Any) -> tuple[nn.Module, ...]:
    """The modules that a classifier is or holds.

    Looked at are the arguments of a ``functools.partial``, the object of a bound method, the closure, the defaults and
    the globals that a function's code reads, the attributes of an object (also of a module, where a network may lie in
    a list), and containers, a few levels deep.

    Args:
        model: a module or any callable.

    Returns:
        Modules without those that are part of another one of them, in a fixed order; a module comes first itself.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2))
        >>> modules_in(functools.partial(torch.softmax, net)) == modules_in([net, net[0]]) == (net,)
        True
    """
    return held_in(model).modules


class Held(NamedTuple):
    """What a classifier holds."""

    modules: tuple[nn.Module, ...]
    generators: tuple[Generator, ...]


def held_in(model: Any) -> Held:
    """The modules as `modules_in` gives them, and the random generators of PyTorch, NumPy and Python, in one walk."""
    results: dict[int, Any] = {}
    _walk(model, _DEPTH, set(), results)
    modules = [value for value in results.values() if isinstance(value, nn.Module)]
    inner = {id(part) for module in modules for part in list(module.modules())[1:]}
    return Held(
        tuple(module for module in modules if id(module) not in inner),
        tuple(value for value in results.values() if isinstance(value, Generator)),
    )


def _walk(value: Any, depth: int, seen: set[int], results: dict[int, Any]) -> None:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, nn.Module | Generator):
        results.setdefault(id(value), value)
    if isinstance(value, nn.Module):
        for part in value.modules() if not isinstance(value, torch.jit.ScriptModule) else ():
            seen.add(id(part))
            for held in _held_by_module(part):
                _walk(held, depth - 1, seen, results)
    elif depth > 0:
        for held in _held(value):
            _walk(held, depth - 1, seen, results)


def _held_by_module(part: nn.Module) -> Iterator[Any]:
    """What a module keeps beside its registered parts, and what the code of its class reads."""
    for name, value in vars(part).items():
        if name not in REGISTERED:
            yield value
    if type(part).__module__.partition(".")[0] not in _LIBRARIES:
        forward = getattr(type(part), "forward", None)
        yield from (forward,) if isinstance(forward, types.FunctionType) else ()


def _held(value: Any) -> Iterator[Any]:
    """What an object refers to and may call."""
    if isinstance(value, types.ModuleType | Tensor | str | bytes | int | float | complex | None):
        return
    if isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, types.MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, types.FunctionType):
        yield from _held_by_function(value)
    elif isinstance(value, weakref.ref):
        yield value()
    elif isinstance(value, Mapping | list | tuple | set | frozenset | deque):
        elements = value.values() if isinstance(value, Mapping) else value
        yield from list(elements) if len(value) <= _MOST else ()
    elif isinstance(value, type):
        if value.__module__.partition(".")[0] not in _LIBRARIES:
            yield from vars(value).values()
    elif not isinstance(value, Generator):
        yield from _held_by_object(value)


def _held_by_object(value: Any) -> Iterator[Any]:
    yield from (held for _, held in attributes_of(value))
    call = getattr(type(value), "__call__", None)  # noqa: B004
    yield from (call,) if isinstance(call, types.FunctionType) else ()


def _held_by_function(function: types.FunctionType) -> Iterator[Any]:
    yield getattr(function, "__wrapped__", None)  # functools.wraps
    yield from closure_of(function)
    yield from vars(function).values()
    if str(function.__globals__.get("__name__", "")).partition(".")[0] in _LIBRARIES:
        return  # a decorator of a library holds the caller's function, and nothing else that is the caller's
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    names = list(code_names(function.__code__))
    for name in names:
        value = function.__globals__.get(name, sys.modules.get(name))
        if isinstance(value, types.ModuleType) and value.__name__.partition(".")[0] not in _LIBRARIES:
            yield from (vars(value)[inner] for inner in names if isinstance(vars(value).get(inner), nn.Module))
        elif value is not None:
            yield value


def attributes_of(value: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of an object with their names, those in slots, too."""
    yield from list(getattr(value, "__dict__", {}).items())
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def closure_of(function: types.FunctionType) -> Iterator[Any]:
    """What a function has from where it was made."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a name that is not bound yet
            continue
