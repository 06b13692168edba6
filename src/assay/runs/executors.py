"""Where work is carried out: in this process, or in worker processes of this machine."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from typing import Any, Protocol

import torch

from assay.runs.interrupts import HEEDED
from assay.runs.tasks import Task, shift_progress
from assay.util.progress import Callback, Progress
from assay.util.validate import whole

_PATIENCE = 5.0
"""Seconds that workers get to end by themselves."""

Found = Any
"""What became of some work: what it found, the exception that it raised, or None: its worker was lost."""


class Executor(Protocol):
    """Carries out work."""

    @property
    def room(self) -> int:
        """How much work it takes at once."""
        ...

    def submit(self, ticket: int, work: Task, before: Progress) -> None:
        """Take some work, which is a part of a whole, of which ``before`` is there already."""
        ...

    def next(self) -> tuple[int, Found]:
        """Wait until something has become of some work."""
        ...

    def close(self, *, now: bool = False) -> None:
        """End; ``now``: also what is under way."""
        ...


class Inline:
    """In this process, one after the other.

    Args:
        progress: called by the engine.
    """

    room = 1

    def __init__(self, progress: Callback | None = None) -> None:
        self.progress = progress
        self.waiting: deque[tuple[int, Task, Progress]] = deque()

    def submit(self, ticket: int, work: Task, before: Progress) -> None:
        """See `Executor`."""
        self.waiting.append((ticket, work, before))

    def next(self) -> tuple[int, Found]:
        """See `Executor`."""
        ticket, work, before = self.waiting.popleft()
        try:
            return ticket, work.run_task(shift_progress(self.progress, before))
        except Exception as error:
            return ticket, error

    def close(self, *, now: bool = False) -> None:
        """See `Executor`."""


@dataclass
class Local:
    """In worker processes of this machine.

    A worker that dies (out of memory, killed) takes its work with it, and that of others; the pool is made anew.

    Args:
        workers: how many.
        threads: of each; by default the processors are shared among them.
    """

    workers: int
    threads: int | None = None
    _pool: ProcessPoolExecutor | None = None
    _under_way: dict[Future[Any], int] = field(default_factory=dict)
    _lost: deque[int] = field(default_factory=deque)

    def __post_init__(self) -> None:
        whole("workers", self.workers, least=1)

    @property
    def room(self) -> int:
        """See `Executor`: one piece of work waits, so that no worker does."""
        return self.workers + 1

    def submit(self, ticket: int, work: Task, before: Progress) -> None:
        """See `Executor`."""
        try:
            future = self._started().submit(_carried_out, work)
        except BrokenProcessPool:
            self._abandon()
            future = self._started().submit(_carried_out, work)
        self._under_way[future] = ticket

    def next(self) -> tuple[int, Found]:
        """See `Executor`."""
        if not self._lost:
            closing, _ = wait(self._under_way, return_when=FIRST_COMPLETED)
            for future in closing:  # what was done before a worker died is done
                if _is_done(future):
                    ticket, error = self._under_way.pop(future), future.exception()
                    return ticket, future.result() if error is None else _plain(error)
            self._abandon()
        return self._lost.popleft(), None

    def close(self, *, now: bool = False) -> None:
        """See `Executor`."""
        self._end(0.0 if now else _PATIENCE)

    def _end(self, patience: float) -> None:
        """End the pool. A worker that has not ended in time is killed: nothing is under way in it.

        One that waits for the lock of a worker that was killed would wait for ever, and the end of this process for it.
        """
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        workers = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        until = time.monotonic() + patience
        for worker in workers:
            connection.wait([worker.sentinel], max(0.0, until - time.monotonic()))
            worker.kill()

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            threads = self.threads or max(1, cpu_count() // self.workers)
            self._pool = ProcessPoolExecutor(self.workers, get_context("spawn"), _begin, (threads, os.getpid()))
        return self._pool

    def _abandon(self) -> None:
        """Give up a pool that has lost a worker, with all that it had taken and not done."""
        done = {future: ticket for future, ticket in self._under_way.items() if _is_done(future)}
        self._lost.extend(ticket for future, ticket in self._under_way.items() if future not in done)
        self._under_way = done
        self._end(0.0)


@contextmanager
def closing(executor: Executor) -> Iterator[Executor]:
    """Close an executor afterwards; after an exception, also what is under way is ended."""
    try:
        yield executor
    except BaseException:
        executor.close(now=True)
        raise
    executor.close()


def cpu_count() -> int:
    """Processors that this process may use: a job of a cluster is often given some of a machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _carried_out(work: Task) -> Any:
    return work.run_task()


def _is_done(future: Future[Any]) -> bool:
    """Whether work was done, or raised: a lost worker did not take it along."""
    return future.done() and not isinstance(future.exception(), BrokenProcessPool)


def _plain(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")


def _begin(threads: int, parent: int) -> None:
    """Set a worker up: signals are the driver's business, and a worker does not outlive it."""
    for number in HEEDED:
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(threads)
    threading.Thread(target=_follow, args=(parent, os.getppid), daemon=True).start()


def _follow(parent: int, current: Callable[[], int]) -> None:
    while current() == parent:
        time.sleep(0.5)
    os._exit(1)
