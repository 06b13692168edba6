"""Executors: run tasks in this process or in worker processes of this machine."""

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

from assay.runs.interrupts import SIGNALS
from assay.runs.tasks import Task, shift_progress
from assay.util.progress import Progress, ProgressCallback
from assay.util.validate import whole

_PATIENCE = 5.0
"""Seconds that workers get to end by themselves."""

TaskOutcome = Any
"""The outcome of a task: its result, the exception that it raised, or None if its worker was lost."""


class Executor(Protocol):
    """Runs tasks."""

    @property
    def capacity(self) -> int:
        """How many tasks it accepts at once."""
        ...

    def submit(self, task_id: int, task: Task, before: Progress) -> None:
        """Queue a task. ``before`` is the progress of its cell so far."""
        ...

    def next(self) -> tuple[int, TaskOutcome]:
        """Wait for the next task to end; return its id and outcome."""
        ...

    def close(self, *, now: bool = False) -> None:
        """Shut down; with ``now``, also stop running tasks."""
        ...


class Inline:
    """Runs tasks in this process, one after the other.

    Args:
        progress: called by the engine.
    """

    capacity = 1

    def __init__(self, progress: ProgressCallback | None = None) -> None:
        self.progress = progress
        self.waiting: deque[tuple[int, Task, Progress]] = deque()

    def submit(self, task_id: int, task: Task, before: Progress) -> None:
        """See `Executor`."""
        self.waiting.append((task_id, task, before))

    def next(self) -> tuple[int, TaskOutcome]:
        """See `Executor`."""
        task_id, task, before = self.waiting.popleft()
        try:
            return task_id, task.run_task(shift_progress(self.progress, before))
        except Exception as error:
            return task_id, error

    def close(self, *, now: bool = False) -> None:
        """See `Executor`."""


@dataclass
class Local:
    """Runs tasks in worker processes of this machine.

    A worker that dies (out of memory, killed) breaks the pool: its unfinished tasks are reported as lost, and a new
    pool is started.

    Args:
        workers: how many.
        threads: of each; by default the processors are shared among them.
    """

    workers: int
    threads: int | None = None
    _pool: ProcessPoolExecutor | None = None
    _running: dict[Future[Any], int] = field(default_factory=dict)
    _lost: deque[int] = field(default_factory=deque)

    def __post_init__(self) -> None:
        whole("workers", self.workers, least=1)

    @property
    def capacity(self) -> int:
        """One more than the workers, so that no worker is ever idle."""
        return self.workers + 1

    def submit(self, task_id: int, task: Task, before: Progress) -> None:
        """See `Executor`."""
        try:
            future = self._started().submit(_run_task, task)
        except BrokenProcessPool:
            self._abandon()
            future = self._started().submit(_run_task, task)
        self._running[future] = task_id

    def next(self) -> tuple[int, TaskOutcome]:
        """See `Executor`."""
        if not self._lost:
            finished, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for future in finished:  # results that arrived before the worker died still count
                if _is_done(future):
                    task_id, error = self._running.pop(future), future.exception()
                    return task_id, future.result() if error is None else _as_exception(error)
            self._abandon()
        return self._lost.popleft(), None

    def close(self, *, now: bool = False) -> None:
        """See `Executor`."""
        self._end(0.0 if now else _PATIENCE)

    def _end(self, patience: float) -> None:
        """Shut the pool down; kill workers that do not exit in time (no task runs in them).

        A worker that waits for the lock of a killed worker would never exit, and neither would this process.
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
            self._pool = ProcessPoolExecutor(self.workers, get_context("spawn"), _init_worker, (threads, os.getpid()))
        return self._pool

    def _abandon(self) -> None:
        """Discard a broken pool; its unfinished tasks count as lost."""
        done = {future: task_id for future, task_id in self._running.items() if _is_done(future)}
        self._lost.extend(task_id for future, task_id in self._running.items() if future not in done)
        self._running = done
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
    """The number of processors that this process may use; cluster jobs often get only some of a machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run_task(task: Task) -> Any:
    return task.run_task()


def _is_done(future: Future[Any]) -> bool:
    """Whether the task has a result or an exception of its own (its worker was not lost)."""
    return future.done() and not isinstance(future.exception(), BrokenProcessPool)


def _as_exception(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")


def _init_worker(threads: int, parent: int) -> None:
    """Initialise a worker: ignore signals (the driver handles them) and exit when the driver does."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(threads)
    threading.Thread(target=_exit_with_parent, args=(parent, os.getppid), daemon=True).start()


def _exit_with_parent(parent: int, current: Callable[[], int]) -> None:
    while current() == parent:
        time.sleep(0.5)
    os._exit(1)
