"""Work out, results in: what an executor has room for, and what lost its worker once more."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from assay.runs.executors import Executor, Found
from assay.runs.interrupts import StopRequest
from assay.runs.tasks import Task
from assay.util.progress import Progress

ATTEMPTS = 3
"""How often work is tried whose worker is lost."""
_NOTHING = Progress("", 0, 1, 0, 0)

J = TypeVar("J")
W = TypeVar("W", bound=Task)


@dataclass(eq=False)
class QueuedTask(Generic[J, W]):
    """Some work, and how often its worker was lost.

    Attributes:
        job: what it belongs to.
        work: what is carried out.
        lost: how often.
    """

    job: J
    work: W
    lost: int = 0

    @property
    def given_up(self) -> bool:
        """Whether it was tried often enough."""
        return self.lost >= ATTEMPTS


def run_queue(
    todo: deque[QueuedTask[J, W]],
    executor: Executor,
    stop: StopRequest,
    so_far: Callable[[QueuedTask[J, W]], Progress] = lambda _: _NOTHING,
) -> Iterator[tuple[QueuedTask[J, W], Found]]:
    """Have work carried out, and tell what becomes of each piece as it comes.

    Args:
        todo: the work, in order; what is taken from it meanwhile is not begun.
        executor: who carries it out.
        stop: whether an end was asked for: then what is under way is finished, and nothing new begun.
        so_far: what is there of the whole that some work is part of.

    Yields:
        The ticket, and what was found: None where its worker was lost, after which it is tried again unless it
        is `QueuedTask.given_up`.
    """
    under_way: dict[int, QueuedTask[J, W]] = {}
    number = 0
    while under_way or (todo and not stop.signal):
        while todo and not stop.signal and _takes(executor, todo[0], under_way):
            ticket = todo.popleft()
            under_way[number] = ticket
            executor.submit(number, ticket.work, so_far(ticket))
            number += 1
        at, result = executor.next()
        ticket = under_way.pop(at)
        if result is None:
            ticket.lost += 1
            if not ticket.given_up:
                todo.appendleft(ticket)
        yield ticket, result


def _takes(executor: Executor, ticket: QueuedTask[J, W], under_way: dict[int, QueuedTask[J, W]]) -> bool:
    """Whether there is room. What lost a worker before is tried alone: nothing else goes with it."""
    if any(other.lost for other in under_way.values()) or (ticket.lost and under_way):
        return False
    return len(under_way) < executor.room
