"""Names of version 0.1 that have another name now."""

from collections.abc import Collection, Mapping
from types import MappingProxyType

RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "budget": "max_forwards",
        "checked": "check_samples",
        "passes": "max_forwards",
        "unadapted": "no_adaptive",
    }
)
"""New names of options and of fields of a study's ``run``, by the old ones."""


def renamed(name: str, known: Collection[str] | None = None) -> str:
    """The end of a message about a name that is not known: what it is called now; empty if it was none.

    Args:
        name: the old name.
        known: names that there are; by default all.

    Example:
        >>> renamed("passes"), renamed("stpes")
        (" (it is called 'max_forwards' now)", '')
    """
    new = RENAMED.get(name)
    return "" if new is None or (known is not None and new not in known) else f" (it is called {new!r} now)"
