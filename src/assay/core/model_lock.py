"""Threads that use one model take turns."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class _Turn:
    """The lock of one object, and how many threads hold it or wait for it."""

    lock: Any = field(default_factory=threading.RLock)
    users: int = 0
    depth: int = 0


class _Turns:
    """Locks by object, kept only while somebody uses them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[int, _Turn] = {}

    @contextmanager
    def held(self, key: int, *, counts: bool) -> Iterator[int]:
        """Hold the lock of one object; gives how many times this thread holds it already, of those that count."""
        with self._lock:
            turn = self._turns.setdefault(key, _Turn())
            turn.users += 1
        try:
            with turn.lock:
                turn.depth += counts
                try:
                    yield turn.depth - counts
                finally:
                    turn.depth -= counts
        finally:
            with self._lock:
                turn.users -= 1
                if not turn.users:
                    del self._turns[key]


_TURNS = _Turns()


@contextmanager
def model_lock(objects: Sequence[object], *, reads: bool = False) -> Iterator[bool]:
    """Wait until no other thread uses any of these objects, and keep them meanwhile.

    All locks are taken in one order, so that two threads with overlapping sets cannot wait for each other; two that
    hold a model each and ask for the other's further in (from a callback) can.

    Args:
        objects: models and their submodules; alive for the time of the call.
        reads: whether they are only looked at; such a turn is none for what is yielded further in.

    Yields:
        Whether this thread held none of them before.
    """
    with ExitStack() as stack:
        depths = [stack.enter_context(_TURNS.held(key, counts=not reads)) for key in sorted({id(o) for o in objects})]
        yield not any(depths)
