"""Networks from functions and classes of a module that a user names."""

import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from assay.util.validate import described, nearest, reject

_SYNONYMS = {
    "channels": ("in_channels", "in_chans", "num_channels"),
    "classes": ("num_classes", "n_classes"),
    "size": ("image_size", "img_size", "input_size"),
}
"""What networks call the arguments of ours."""


def from_factory(spec: str, arguments: Mapping[str, int] | None = None, *, argument: str = "model") -> nn.Module:
    """The network that a function or class of a module makes; modules of the current folder are found, too.

    Nothing is called that cannot be such a function: what Python's standard library holds, what is built in, a class
    that is no ``torch.nn.Module``, a function that declares to return something else or needs further arguments.

    Args:
        spec: ``package.module:name``.
        arguments: channels, classes and size; those that the function takes by these names, or by usual ones such as
            ``num_classes``, are passed on.
        argument: whose value the spec is, for messages.

    Returns:
        The module, or the one that stands under the name.

    Raises:
        ValueError: nothing to import there, or something that makes no network; the message says what was tried.
        TypeError: it returned something else than a module.
    """
    module, _, name = spec.partition(":")
    if module.endswith(".py") and not module.startswith("."):
        reject(argument, f"package.module:name without .py, such as {module[:-3]}:{name}", spec)
    target = _attribute(module, name, spec, argument)
    if _is_standard(module):
        reject(argument, f"a torch.nn.Module from {spec!r}", described("what belongs to Python's standard library"))
    if isinstance(target, nn.Module):
        return target
    keywords = _keywords_for(target, spec, arguments or {}, argument)
    shown = f"{spec}({', '.join(f'{key}={value}' for key, value in keywords.items())})"
    try:
        model = target(**keywords)
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())
        reason = reason if len(reason) <= 120 else reason[:120].rpartition(" ")[0] + " …"
        raise ValueError(
            f"{argument}: expected a torch.nn.Module from {shown}, got {type(error).__name__}: {reason}"
        ) from error
    if not isinstance(model, nn.Module):
        kind = type(model)
        came = described(f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."))
        reject(argument, f"a torch.nn.Module from {shown}", came, error=TypeError)
    return model


def _attribute(module: str, name: str, spec: str, argument: str) -> Any:
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)
    expected = f"an importable function {name!r} in {module!r}"
    if _is_standard(module) and module not in sys.modules:
        reject(argument, expected, described("a module of Python's standard library"))
    try:
        value: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        reject(argument, expected, described(f"{type(error).__name__} on import: {' '.join(str(error).split())[:120]}"))
    for part in name.split("."):
        try:
            there = hasattr(value, part)
        except Exception as error:  # a module that imports what is asked for
            reason = " ".join(str(error).split())[:120]
            reject(argument, expected, described(f"{type(error).__name__} on import: {reason}"))
        if not there:
            known = [word for word in dir(value) if not word.startswith("_")]
            reject(argument, expected, described(f"{spec!r}, which is not there{nearest(part, known)}"))
        value = getattr(value, part)
    return value


def _keywords_for(target: Any, spec: str, arguments: Mapping[str, int], argument: str) -> dict[str, int]:
    """The arguments to call a function with, if it may be called."""
    expected = f"a function or class {spec!r} that makes a torch.nn.Module"
    if inspect.isclass(target) and not issubclass(target, nn.Module):
        reject(argument, expected, described(f"the class {target.__module__}.{target.__qualname__}, which is none"))
    if inspect.isbuiltin(target) or not callable(target):
        kind = "a built-in function" if inspect.isbuiltin(target) else f"a value of type {type(target).__name__}"
        reject(argument, expected, described(kind))
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        reject(argument, expected, described("one with unknown arguments"))
    back = signature.return_annotation
    declared = back if inspect.isclass(back) and back is not inspect.Signature.empty else nn.Module
    if not inspect.isclass(target) and not issubclass(declared, nn.Module):
        reject(argument, expected, described(f"a function that returns {declared.__name__}"))
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    takes = {name: p for name, p in signature.parameters.items() if p.kind in kinds}
    every = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()) and not takes
    keywords = {}
    for key, value in arguments.items():
        name_of = next((word for word in (key, *_SYNONYMS.get(key, ())) if word in takes), key if every else None)
        if name_of is not None:
            keywords[name_of] = value
    needed = [
        name
        for name, p in signature.parameters.items()
        if p.default is inspect.Parameter.empty
        and name not in keywords
        and p.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]
    if needed:
        allowed = f" but {', '.join(arguments)}" if arguments else ""
        reject(
            argument,
            f"{expected}, without arguments that have no default{allowed}",
            described(f"{spec}{signature!s:.80}, which needs {', '.join(needed)}"),
        )
    return keywords


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names
