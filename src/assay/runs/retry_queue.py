"""Feed tasks to an executor, and retry tasks whose worker was lost."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from assay.runs.executors import Executor, TaskOutcome
from assay.runs.interrupts import StopRequest
from assay.runs.tasks import Task
from assay.util.progress import Progress

ATTEMPTS = 3
"""How often a task is tried when its worker is lost."""
_NOTHING = Progress("", 0, 1, 0, 0)

J = TypeVar("J")
W = TypeVar("W", bound=Task)


@dataclass(eq=False)
class QueuedTask(Generic[J, W]):
    """A task, its owner, and how often its worker was lost.

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
    """Run tasks and yield each outcome as it arrives.

    Args:
        todo: the tasks, in order; tasks removed meanwhile are not started.
        executor: who carries it out.
        stop: when set, running tasks finish and no new ones start.
        progress_of: the progress of the cell that a task belongs to.

    Yields:
        The queued task and its outcome; None if its worker was lost. A lost task is tried again unless it
        is `QueuedTask.is_exhausted`.
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
    """Whether the executor can take the task now. A task that lost a worker before runs alone."""
    if any(other.losses for other in under_way.values()) or (queued.losses and under_way):
        return False
    return len(under_way) < executor.capacity
