"""Imports when a name is first used, one at a time."""

import threading
from collections.abc import Callable
from typing import Any

_ONE = threading.RLock()


def one_at_a_time(load: Callable[[str], Any]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` that imports for one thread after another.

    Threads that import modules of one package at once wait for each other, and get hold of half of a module.

    Args:
        load: imports what a name stands for.
    """

    def load_alone(name: str) -> Any:
        with _ONE:
            return load(name)

    return load_alone
