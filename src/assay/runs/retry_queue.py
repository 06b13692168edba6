"""Work out, results in: what an executor has room for, and what lost its worker once more."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from assay.runs.executors import Executor, TaskOutcome
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
        owner: what it belongs to.
        task: what is carried out.
        losses: how often.
    """

    owner: J
    task: W
    losses: int = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether it was tried often enough."""
        return self.losses >= ATTEMPTS


def run_queue(
    todo: deque[QueuedTask[J, W]],
    executor: Executor,
    stop: StopRequest,
    progress_of: Callable[[QueuedTask[J, W]], Progress] = lambda _: _NOTHING,
) -> Iterator[tuple[QueuedTask[J, W], TaskOutcome]]:
    """Have work carried out, and tell what becomes of each piece as it comes.

    Args:
        todo: the work, in order; what is taken from it meanwhile is not begun.
        executor: who carries it out.
        stop: whether an end was asked for: then what is under way is finished, and nothing new begun.
        progress_of: what is there of the whole that some work is part of.

    Yields:
        The ticket, and what was found: None where its worker was lost, after which it is tried again unless it
        is `QueuedTask.given_up`.
    """
    running: dict[int, QueuedTask[J, W]] = {}
    next_id = 0
    while running or (todo and not stop.signal):
        while todo and not stop.signal and _has_room_for(executor, todo[0], running):
            queued = todo.popleft()
            running[next_id] = queued
            executor.submit(next_id, queued.task, progress_of(queued))
            next_id += 1
        task_id, result = executor.next()
        queued = running.pop(task_id)
        if result is None:
            queued.losses += 1
            if not queued.is_exhausted:
                todo.appendleft(queued)
        yield queued, result


def _has_room_for(executor: Executor, queued: QueuedTask[J, W], under_way: dict[int, QueuedTask[J, W]]) -> bool:
    """Whether there is room. What lost a worker before is tried alone: nothing else goes with it."""
    if any(other.losses for other in under_way.values()) or (queued.losses and under_way):
        return False
    return len(under_way) < executor.capacity
