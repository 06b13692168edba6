"""What other packages register under an entry point group."""

import warnings
from collections.abc import Callable, Collection
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from assay.util.validate import outside

T = TypeVar("T")

GROUPS = ("attacks", "models", "data", "defences", "diagnostics", "checks")
"""What packages may add: entry points of the group ``assay.attacks``, and so on."""


class PluginWarning(UserWarning):
    """An entry of another package that cannot be used."""


@cache
def installed(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group, in the order of their names; nothing is imported."""
    return tuple(sorted(entry_points(group=group), key=lambda point: point.name))


def load_plugins(group: str, taken: Collection[str], adapt: Callable[[Any], T]) -> dict[str, T]:
    """Import what packages register; what fails is left out, with a warning.

    Args:
        group: of entry points, such as ``"assay.attacks"``.
        taken: names that there are already.
        adapt: makes an entry of what was imported; raises where it is of another kind.

    Returns:
        Entries by name.
    """
    entries: dict[str, T] = {}
    for point in installed(group):
        if point.name in taken or point.name in entries:
            _warn(point, "the name is taken")
            continue
        try:
            entries[point.name] = adapt(point.load())
        except Exception as error:  # whatever another package does when it is imported
            _warn(point, f"{type(error).__name__}: {error}")
    return entries


def origin(group: str, name: str) -> str:
    """The package that registers a name, ``"package 1.2"``; empty for none."""
    for point in installed(group):
        if point.name == name and point.dist is not None:
            return f"{point.dist.name} {point.dist.version}"
    return ""


def _warn(point: EntryPoint, reason: str) -> None:
    package = point.dist.name if point.dist is not None else "a package"
    message = f"{point.group}: {point.name!r} of {package} ({point.value}) is left out: {reason}"
    warnings.warn(message, PluginWarning, stacklevel=outside())
