"""Split failing batches: halve them when memory runs out, isolate the row that raises."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from torch import Tensor

from assay.util.memory import attempt, is_out_of_memory

T = TypeVar("T")


class Splitter:
    """Runs work on batches, and on parts of them where the whole fails.

    Args:
        slots: most rows in a batch; falls for good when memory runs out.
        errors: ``"raise"`` (all but memory errors) or ``"record"``.
        events: messages about a reduction of ``slots`` are appended here.

    Attributes:
        slots: most rows in a batch, now.
    """

    def __init__(self, slots: int, errors: str, events: list[str]) -> None:
        self.slots, self.errors, self.events = slots, errors, events

    def run(
        self, index: Tensor, work: Callable[[Tensor], T], fail: Callable[[int, Exception], T | None]
    ) -> list[tuple[Tensor, T]]:
        """Do ``work`` on all of ``index``, in batches of at most ``slots``.

        Args:
            index: positions, ``(m,)``.
            work: takes some of them.
            fail: takes one position on which ``work`` failed alone, and the exception; returns a stand-in or None.

        Returns:
            The parts of ``index`` that worked (or got a stand-in) and their results, in order.
        """
        todo, done = list(index.split(self.slots)) if len(index) else [], []
        while todo:
            part = todo.pop(0)
            result, failure = attempt(partial(work, part), self._tolerable)
            if failure is None:
                done.append((part, result))
            elif len(part) == 1:
                if self.errors == "raise":
                    raise failure
                done.append((part, fail(int(part[0]), failure)))
            else:
                todo = [*self._halves(part, failure), *todo]
        return [(part, result) for part, result in done if result is not None]

    def _tolerable(self, error: Exception) -> bool:
        return is_out_of_memory(error) or self.errors == "record"

    def _halves(self, part: Tensor, failure: Exception) -> tuple[Tensor, Tensor]:
        half = (len(part) + 1) // 2
        if is_out_of_memory(failure) and self.slots > half:
            self.slots = half
            self.events.append(f"out of memory with {len(part)} rows at once; went on with {half}")
        return part[:half], part[half:]


def error_text(failure: Exception) -> str:
    """An exception as a record keeps it."""
    return f"{type(failure).__name__}: {failure}"
