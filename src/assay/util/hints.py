"""Other libraries' words, answered with assay's."""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from assay.util.spec import ALIASES
from assay.util.validate import nearest

_MORE: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("lr", "learning_rate"), "rate"),
        **dict.fromkeys(("c", "initial_const", "initial_c"), "constant"),
        "kappa": "confidence",
        **dict.fromkeys(("binary_search_steps", "search_steps", "nb_search_steps"), "rounds"),
        **dict.fromkeys(("momentum", "mu"), "decay"),
        **dict.fromkeys(("resize_rate",), "smallest"),
        **dict.fromkeys(("diversity_prob", "prob"), "p"),
        **dict.fromkeys(("len_kernel", "kernel_size"), "kernel"),
        **dict.fromkeys(("n", "num_neighbor", "m"), "samples"),
    }
)
"""Other libraries' words for arguments of single attacks."""

T = TypeVar("T", bound=Callable[..., Any])


def with_hints(make: T) -> T:
    """A function or class that answers an unknown argument with the name that it has here.

    Args:
        make: makes an attack.

    Returns:
        A function with the same name and signature; a class is changed and returned.

    Example:
        >>> @with_hints
        ... def attack(eps, step_size=None): ...
        >>> attack(0.1, alpha=0.01)
        Traceback (most recent call last):
        TypeError: attack: expected arguments among eps, step_size, got alpha (did you mean 'step_size'?)
    """
    known = [name for name in inspect.signature(make).parameters if name != "self"]
    if isinstance(make, type):
        make.__init__ = _checked(make.__init__, make.__name__, known)  # type: ignore[misc]
        return make
    return _checked(make, make.__name__, known)  # type: ignore[return-value]


def _checked(call: Callable[..., Any], name: str, known: list[str]) -> Callable[..., Any]:
    @functools.wraps(call)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for word in kwargs:
            if word not in known:
                raise TypeError(f"{name}: expected arguments among {', '.join(known)}, got {word}{_hint(word, known)}")
        return call(*args, **kwargs)

    return checked


def _hint(word: str, known: list[str]) -> str:
    for words in (ALIASES, _MORE):
        alias = words.get(word.lower())
        if alias in known:
            return f" (did you mean {alias!r}?)"
    return nearest(word, known)
