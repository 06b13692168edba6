"""Names of version 0.1 that have another name now."""

from collections.abc import Mapping
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


def renamed(name: str) -> str:
    """The end of a message about a name that is not known: what it is called now; empty if it was none.

    Example:
        >>> renamed("passes"), renamed("stpes")
        (" (it is called 'max_forwards' now)", '')
    """
    return f" (it is called {RENAMED[name]!r} now)" if name in RENAMED else ""
