"""A registry: entries by name, found by what people type."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

from assay.util.plugins import load_plugins
from assay.util.validate import described, nearest, reject

T = TypeVar("T")


@dataclass(frozen=True, repr=False, eq=False)
class Registry(Mapping[str, T]):
    """Entries by name, in the order in which they are listed.

    Args:
        what: what the names are of, which is also the argument that takes one: ``"attack"``.
        entries: by name.
        aliases: names by other words for them, in lower case with hyphens: messages point from one to the other.
        group: the entry points by which other packages add to it, such as ``"assay.attacks"``; empty for none.
        adapt: makes an entry of what such a package registers; raises where it is of another kind.

    Example:
        >>> suites = Registry("suite", {"standard": 1, "fast": 2}, {"autoattack": "standard"})
        >>> suites.find("fast"), list(suites)
        (2, ['standard', 'fast'])
        >>> suites.find("AutoAttack")
        Traceback (most recent call last):
        ValueError: suite: expected one of standard, fast, got 'AutoAttack' (did you mean 'standard'?)
    """

    what: str
    entries: Mapping[str, T]
    aliases: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    adapt: Callable[[Any], T] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", MappingProxyType(dict(self.entries)))
        object.__setattr__(self, "aliases", MappingProxyType(dict(self.aliases)))

    @cached_property
    def added(self) -> Mapping[str, T]:
        """The entries of other packages."""
        if not self.group or self.adapt is None:
            return MappingProxyType({})
        return MappingProxyType(load_plugins(self.group, self.entries, self.adapt))

    def __getitem__(self, name: str) -> T:
        return self.entries[name] if name in self.entries else self.added[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.entries
        yield from self.added

    def __len__(self) -> int:
        return len(self.entries) + len(self.added)

    def find(self, name: Any, *, argument: str | None = None) -> T:
        """The entry of a name.

        Args:
            name: as it was given.
            argument: what the caller calls it, if not `what`.

        Raises:
            TypeError: the name is no text.
            ValueError: there is no such entry; the message lists the names, and the nearest.
        """
        if isinstance(name, str) and name in self:
            return self[name]
        text, wrong = ", ".join(self) or "none", not isinstance(name, str)
        got = name if wrong else described(f"{name!r}{self.suggest(name)}")
        return reject(argument or self.what, f"one of {text}", got, error=TypeError if wrong else ValueError)

    def suggest(self, word: str) -> str:
        """The end of a message, ``" (did you mean 'standard'?)"``: the name that a word means, if there is one."""
        plain = re.split("[;, =]", word.strip().lower())[0]
        alias = self.aliases.get(plain) or self.aliases.get(plain.replace("_", "-"))
        return f" (did you mean {alias!r}?)" if alias else nearest(plain.replace("_", "-"), [*self])


def instance_of(kind: type[T], how: str) -> Callable[[Any], T]:
    """An ``adapt`` that takes entries of one class as they are.

    Args:
        kind: the class.
        how: where it is described, for the message.
    """

    def adapt(entry: Any) -> T:
        if not isinstance(entry, kind):
            reject(
                "entry point", f"an instance of {kind.__module__}.{kind.__qualname__} ({how})", entry, error=TypeError
            )
        return entry

    return adapt
