"""What a value is made of, in words that are the same for the same content in every process."""

import dataclasses
import enum
import functools
import hashlib
import pathlib
import random
import secrets
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.core.code_objects import assigned_attributes, code_text, global_names, is_library
from assay.core.model_parts import REGISTERED, attributes_of, closure_of

_DEPTH = 12
_PLAIN = (bool, int, float, complex, str, bytes, types.NoneType, types.EllipsisType, slice, range)
_DESCRIBED = (*_PLAIN, enum.Enum, np.generic, torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format)
_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_OF_CLASSES = frozenset(
    {
        *("__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__", "__slots__"),
        *("__dataclass_fields__", "__dataclass_params__", "__match_args__", "__abstractmethods__", "_abc_impl"),
        *("__firstlineno__", "__static_attributes__", "__parameters__", "__orig_bases__", "__annotate__"),
        *("__annotate_func__", "__annotations_cache__", "__protocol_attrs__", "_is_protocol", "_is_runtime_protocol"),
    }
)
"""Attributes of a class that are about it, and do nothing."""


@dataclass(frozen=True)
class Fingerprint:
    """What a value is made of.

    Attributes:
        text: its parts and their values, as ``repr`` would show them, without addresses. A part whose content cannot
            be told (an open file, a lock) has another text each time, so that it is never taken for the same.
        modules: names of the modules of assay and of other libraries that define its classes and functions.
        code: digest of the code of its classes and functions that belong to no library, and of the global values that
            this code reads; as they are in this process, whatever their files hold now. Empty for none.
        networks: the modules that it holds, none twice.
    """

    text: str
    modules: tuple[str, ...] = ()
    code: str = ""
    networks: tuple[nn.Module, ...] = ()


def fingerprint(value: Any) -> Fingerprint:
    """Say what a value is made of: fields, attributes, elements, closures, hooks, and the code behind them.

    What code assigns whenever it is called, such as a counter or a cache, is a state, and is left out: attributes
    assigned in ``forward`` or ``__call__``, globals assigned in the function. An object with a text ``digest`` of its
    own, such as a `Dataset`, is identified by it. The weights of networks are not looked at (`assay.models.digest`).

    Args:
        value: an attack, a model, a defence's adaptation, or a tuple of any.

    Example:
        >>> fingerprint((1, "a")).text
        "(1, 'a')"
        >>> fingerprint(torch.zeros(1)).text == fingerprint(torch.ones(1)).text
        False
    """
    walk = _Walk()
    text = walk.text(value)
    walk.look_at_code()
    code = hashlib.sha256("\n".join(walk.code).encode()).hexdigest() if walk.code else ""
    return Fingerprint(text, tuple(sorted(walk.modules)), code, tuple(walk.networks))


@dataclass(frozen=True)
class _Walk:
    """One look at a value: what was met so far."""

    modules: set[str] = field(default_factory=set)
    code: list[str] = field(default_factory=list)
    networks: list[nn.Module] = field(default_factory=list)
    coded: set[Any] = field(default_factory=set)
    waiting: list[Any] = field(default_factory=list)
    open: list[int] = field(default_factory=list)

    def text(self, value: Any, *, loose: bool = False) -> str:
        """The text of a value; where ``loose``, one whose content cannot be told is named after its class."""
        if isinstance(value, _DESCRIBED):
            return repr(value)
        if id(value) in self.open or len(self.open) >= _DEPTH:
            return f"<{type(value).__qualname__}>"
        self.open.append(id(value))
        try:
            return self._composed(value, loose)
        finally:
            self.open.pop()

    def look_at_code(self) -> None:
        """Take note of the code of every function and class that was met, and of those that it names."""
        while self.waiting:
            part = self.waiting.pop(0)
            if isinstance(part, type):
                self.code.extend(self._code_of_class(part))
            else:
                self.code.extend(self._code_of_function(part))

    def _wait(self, part: Any) -> None:
        if part not in self.coded:
            self.coded.add(part)
            self.waiting.append(part)

    def _code_of_function(self, function: types.FunctionType) -> Iterator[str]:
        defaults = (function.__defaults__, function.__kwdefaults__, vars(function))
        yield f"{function.__qualname__} {code_text(function.__code__)} {self.text(defaults, loose=True)}"
        for name, value in global_names(function):
            yield f"{function.__qualname__}: {name} = {self.text(value, loose=True)}"

    def _code_of_class(self, kind: type) -> Iterator[str]:
        yield f"class {kind.__qualname__}({', '.join(self._class(base) for base in kind.__bases__)})"
        for name, value in sorted(vars(kind).items()):
            if name not in _OF_CLASSES and not isinstance(value, types.MemberDescriptorType):
                yield f"{kind.__qualname__}.{name} = {self.text(value, loose=True)}"

    def _composed(self, value: Any, loose: bool) -> str:
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, nn.Module):
            return self._network(value, loose)
        if isinstance(value, Tensor | np.ndarray):
            return _array(value)
        if isinstance(value, pathlib.PurePath):
            return f"Path({str(value)!r})"
        if isinstance(value, Mapping):
            return self._named(value.items(), "{}", ": ", loose, of=repr)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return self._class(type(value)) + self._named(zip(value._fields, value, strict=True), "()", "=", loose)
        if isinstance(value, tuple | list):
            inner = ", ".join(self.text(item, loose=loose) for item in value)
            return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' if len(value) == 1 else ''})"
        if isinstance(value, set | frozenset):
            return "{" + ", ".join(sorted(self.text(item, loose=loose) for item in value)) + "}"
        if isinstance(value, _GENERATORS):
            return f"<{type(value).__qualname__}>"
        return self._called(value, loose) or self._object(value, loose)

    def _called(self, value: Any, loose: bool) -> str:
        """The text of a function, a method or a descriptor around one; empty for others."""
        if isinstance(value, types.FunctionType):
            return self._function(value, loose)
        if isinstance(value, functools.partial):
            parts = (value.func, value.args, value.keywords)
            return f"partial{self.text(parts, loose=loose)}"
        if isinstance(value, types.MethodType):
            return f"{self.text(value.__self__, loose=loose)}.{self.text(value.__func__, loose=loose)}"
        if isinstance(value, types.BuiltinFunctionType | types.MethodWrapperType | types.WrapperDescriptorType):
            return str(value.__qualname__)
        if isinstance(value, classmethod | staticmethod):
            return f"{type(value).__name__}({self.text(value.__func__, loose=True)})"
        if isinstance(value, property):
            return f"property{self.text((value.fget, value.fset), loose=True)}"
        if isinstance(value, functools.cached_property):
            return f"cached_property({self.text(value.func, loose=True)})"
        return ""

    def _function(self, function: types.FunctionType, loose: bool) -> str:
        held = [self.text(item, loose=loose) for item in closure_of(function)]
        name = function.__qualname__ + (f"[{', '.join(held)}]" if held else "")
        if is_library(function.__module__):
            self.modules.add(function.__module__)
            return name
        self._wait(function)
        return name

    def _class(self, kind: type) -> str:
        name = kind.__qualname__
        if is_library(kind.__module__):
            self.modules.add(kind.__module__)
        else:
            self._wait(kind)
        return name

    def _network(self, model: nn.Module, loose: bool) -> str:
        """The class of a network, and what its parts keep beside weights and parts: what ``repr`` need not show."""
        if all(model is not known for known in self.networks):
            self.networks.append(model)
        name = self._class(type(model))
        if isinstance(model, torch.jit.ScriptModule):
            return name
        results = []
        for place, part in model.named_modules():
            self._class(type(part))
            if not isinstance(part, torch.jit.ScriptModule):
                state = assigned_attributes(type(part).forward)
                kept = {key: value for key, value in _kept_by(part) if key not in state}
                results += [f"{place}.{key}={self.text(value, loose=loose)}" for key, value in sorted(kept.items())]
        return name + (f"({', '.join(results)})" if results else "")

    def _object(self, value: Any, loose: bool) -> str:
        name = self._class(type(value))
        if dataclasses.is_dataclass(value):
            own = ((each.name, getattr(value, each.name, None)) for each in dataclasses.fields(value))
            return name + self._named(own, "()", "=", loose)
        digest = getattr(value, "digest", None)
        if isinstance(digest, str):
            return f"{name}#{digest}"
        state = assigned_attributes(getattr(type(value), "__call__", None))  # noqa: B004
        attributes = {key: held for key, held in attributes_of(value) if key not in state}
        if loose and is_library(type(value).__module__):
            return f"<{name}>"
        if attributes or not is_library(type(value).__module__):
            return name + self._named(sorted(attributes.items()), "()", "=", loose)
        shown = repr(value)
        if getattr(type(value), "__repr__", None) is not object.__repr__ and " at 0x" not in shown:
            return shown
        return f"<{name} {secrets.token_hex(8)}>"

    def _named(self, items: Iterable[tuple[Any, Any]], brackets: str, between: str, loose: bool, of: Any = str) -> str:
        inner = [f"{of(name)}{between}{self.text(value, loose=loose)}" for name, value in list(items)]
        return brackets[0] + ", ".join(inner) + brackets[1]


def _kept_by(part: nn.Module) -> Iterator[tuple[str, Any]]:
    """What a module has beside its parameters, buffers and parts; of PyTorch's own, what is no plain value."""
    own = type(part).__module__.partition(".")[0] == "torch"
    digest = getattr(part, "digest", None)
    if isinstance(digest, str):
        yield "digest", digest
        return
    for name, value in list(vars(part).items()):
        if name not in REGISTERED and not (own and _is_plain(value)):
            yield name, value
    for table in ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks", "_backward_pre_hooks"):
        hooks = list(vars(part).get(table, {}).values())
        if hooks:
            yield table, hooks


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value)
    return isinstance(value, _DESCRIBED)


def _array(value: Any) -> str:
    array = value.detach().cpu() if isinstance(value, Tensor) else value
    if isinstance(array, Tensor):
        content = array.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    else:
        content = np.ascontiguousarray(array).tobytes() if array.dtype != object else repr(array.tolist()).encode()
    digest = hashlib.sha256(content).hexdigest()[:24]
    return f"{type(value).__name__}({tuple(value.shape)}, {value.dtype}, #{digest})"
