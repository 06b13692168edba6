"""The loop that brings a ledger to its end: orders out, results in, one writer."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from assay.core.outcome import Status
from assay.runs.executors import Executor
from assay.runs.fault_injection import fault_point
from assay.runs.interrupts import StopRequest
from assay.runs.retry_queue import ATTEMPTS, QueuedTask, run_queue
from assay.runs.tasks import AttackTask, TaskResult
from assay.store.columns import Cell, Shard
from assay.store.edits import broken_and_passes, read_shard, samples_with_status
from assay.store.image_store import is_of_run, resolve_inside, write_images
from assay.store.ledger import Ledger
from assay.util.files import run_of
from assay.util.progress import Callback, Progress
from assay.util.tensors import read_tensors


@dataclass(frozen=True)
class OpenCell:
    """One cell to be completed.

    Attributes:
        entry: the cell in the ledger.
        order: what to do, for all of its samples.
        label: model and attack, for people.
    """

    entry: Cell
    order: AttackTask
    label: str


@dataclass(frozen=True)
class Failure:
    """A cell that could not be completed.

    Attributes:
        label: model and attack.
        error: what was raised.
    """

    label: str
    error: Exception


@dataclass
class _State:
    """What the loop knows: what of each cell is there, how many of its orders are not."""

    todo: deque[QueuedTask[OpenCell, AttackTask]]
    done: dict[int, Progress]
    left: dict[int, int]
    failures: list[Failure] = field(default_factory=list)

    def fail(self, job: OpenCell, error: Exception) -> None:
        """A cell cannot be completed."""
        if job.label not in {failure.label for failure in self.failures}:
            self.failures.append(Failure(job.label, error))

    def withdraw(self, job: OpenCell) -> None:
        """No more orders of a cell that has failed."""
        others = [ticket for ticket in self.todo if ticket.job is not job]
        self.todo.clear()
        self.todo.extend(others)


def run_cells(
    jobs: Sequence[OpenCell],
    ledger: Ledger,
    folder: Path,
    executor: Executor,
    stop: StopRequest,
    *,
    completed: Callable[[OpenCell], None] = lambda _: None,
    progressed: Callback = lambda _: None,
    strict: bool = False,
) -> list[Failure]:
    """Carry out what is missing of each job, and keep every result as it comes.

    Args:
        jobs: the cells, in order.
        ledger: where results go.
        folder: the run's.
        executor: who carries out orders.
        stop: whether an end was asked for: then what is under way is finished, and nothing new begun.
        completed: called when a cell is.
        progressed: called after each result with what is there of the cell.
        strict: raise what makes a cell fail, instead of going on with the others.

    Returns:
        The cells that failed; the rest went on.

    Raises:
        KeyboardInterrupt: an end was asked for twice. What is under way is lost, all else kept.
    """
    state = _begun(jobs, ledger)
    for ticket, result in run_queue(state.todo, executor, stop, lambda t: state.done[t.job.entry.id]):
        if result is None:
            _lost(ticket, state, ledger)
        elif isinstance(result, Exception):
            if strict:
                raise result
            state.fail(ticket.job, result)
            state.withdraw(ticket.job)
        else:
            _keep(ticket, result, ledger, folder)
            _account(ticket, result, state, completed, progressed)
    return state.failures


def missing_shards(entry: Cell, parts: Sequence[Shard], size: int) -> Iterator[tuple[int, int]]:
    """First sample and number of samples of each shard that is not there.

    Shards begin at multiples of ``size``, so that the same samples are attacked together after a kill as before.

    Example:
        >>> shard = Shard(4, 2, 0.0, "", None, None, ())
        >>> list(missing_shards(Cell(1, "", "", 10, {}, "", ()), [shard], 4))
        [(0, 4), (6, 2), (8, 2)]
    """
    there = np.zeros(entry.n, bool)
    for part in parts:
        there[part.first : part.first + part.count] = True
    first = 0
    for place in range(entry.n):
        if there[place]:
            first = place + 1
        elif place + 1 == entry.n or (place + 1) % size == 0 or there[place + 1]:
            yield first, place + 1 - first
            first = place + 1


def utc_now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _begun(jobs: Sequence[OpenCell], ledger: Ledger) -> _State:
    parts, failed = ledger.shards(), samples_with_status(ledger, int(Status.ERROR))
    todo, done, left, tallies = deque[QueuedTask[OpenCell, AttackTask]](), {}, {}, broken_and_passes(ledger)
    for job in jobs:
        there, again = parts.get(job.entry.id, []), failed.get(job.entry.id, [])
        shards = list(missing_shards(job.entry, there, job.order.settings.together))
        orders = [replace(job.order, first=first, count=count) for first, count in shards]
        for part in there:
            only = tuple(i for i in again if part.first <= i < part.first + part.count)
            if only:
                orders.append(replace(job.order, first=part.first, count=part.count, only=only))
        count = sum(part.count for part in there) - len(again)
        done[job.entry.id] = Progress(job.label, count, job.entry.n, *tallies.get(job.entry.id, (0, 0)))
        left[job.entry.id] = len(orders)
        todo.extend(QueuedTask(job, order) for order in orders)
    return _State(todo, done, left)


def _lost(ticket: QueuedTask[OpenCell, AttackTask], state: _State, ledger: Ledger) -> None:
    order = ticket.work
    where = f"{ticket.job.label}, samples {order.first} to {order.first + order.count - 1}"
    ledger.add_event(utc_now(), f"{where}: the worker was lost, time {ticket.lost}")
    if ticket.given_up:  # other samples of the cell may be harmless
        text = f"the worker process ended {ATTEMPTS} times on {where} (killed, out of memory?)"
        state.fail(ticket.job, RuntimeError(text))


def _keep(ticket: QueuedTask[OpenCell, AttackTask], result: TaskResult, ledger: Ledger, folder: Path) -> None:
    entry, order = ticket.job.entry, ticket.work
    name, keep = f"{entry.key}-{order.first}", order.settings.images
    if order.only:
        _amend(ticket, result, ledger, folder, name)
        return
    images = digest = None
    if len(result.at):
        images, digest = write_images(folder, name, result.images, result.at)
        fault_point("images-written")
    part = Shard(order.first, order.count, result.seconds, result.worker, images, digest, result.events, keep)
    errors = {order.first + i: text for i, text in result.errors.items()}
    ledger.add_shard(entry.id, part, result.columns, errors)
    fault_point("part-committed")


def _amend(
    ticket: QueuedTask[OpenCell, AttackTask], result: TaskResult, ledger: Ledger, folder: Path, name: str
) -> None:
    """Replace the results of samples that raised an error before; the other samples of their shard stay."""
    entry, order = ticket.job.entry, ticket.work
    part, columns, errors = read_shard(ledger, entry.id, order.first)
    places = np.array(order.only) - order.first
    for column, values in columns.items():
        values[places] = result.columns[column]
    errors = {i: text for i, text in errors.items() if i not in order.only}
    errors |= {order.only[i]: text for i, text in result.errors.items()}
    images, at = result.images, torch.from_numpy(places)[result.at]
    before = None if part.images is None else resolve_inside(folder, part.images)
    if before is not None:
        _, tensors = read_tensors(before, "assay-images", "images")
        kept = ~torch.isin(tensors["sample"], torch.from_numpy(places))
        images, at = torch.cat([tensors["images"][kept], images]), torch.cat([tensors["sample"][kept], at])
        order_of = at.argsort()
        images, at = images[order_of], at[order_of]
    file = digest = None
    if len(at):  # under another name: until it is committed the ledger names the file of before
        again = before is not None and before.stem == name
        file, digest = write_images(folder, f"{name}-again" if again else name, images, at)
        fault_point("images-written")
    events = tuple(dict.fromkeys((*part.events, *result.events)))
    ledger.add_shard(
        entry.id,
        Shard(part.first, part.count, part.seconds + result.seconds, result.worker, file, digest, events, part.keep),
        columns,
        errors,
    )
    fault_point("part-committed")
    if before is not None and file != part.images and is_of_run(before, run_of(folder)):
        before.unlink()


def _account(
    ticket: QueuedTask[OpenCell, AttackTask],
    result: TaskResult,
    state: _State,
    completed: Callable[[OpenCell], None],
    progressed: Callback,
) -> None:
    cell, columns = ticket.job.entry.id, result.columns
    before = state.done[cell]
    state.done[cell] = replace(
        before,
        done=before.done + (len(ticket.work.only) or ticket.work.count),
        broken=before.broken + int((columns["status"] == int(Status.BROKEN)).sum()),
        passes=before.passes + int(columns["forwards"].sum() + columns["backwards"].sum()),
    )
    state.left[cell] -= 1
    progressed(state.done[cell])
    if not state.left[cell]:
        completed(ticket.job)


def count_not_run(ledger: Ledger, entry: Cell) -> int:
    """How many samples of a cell have not been run."""
    return entry.n - sum(part.count for part in ledger.shards(entry.id).get(entry.id, []))


def unfinished_counter(ledger: Ledger) -> Callable[[Cell], int]:
    """How many samples of a cell have not been run, or raised an error; the ledger is read once for all cells."""
    parts, counts = ledger.shards(), ledger.counts()

    def of(entry: Cell) -> int:
        there = sum(part.count for part in parts.get(entry.id, []))
        return entry.n - there + counts.get(entry.id, {}).get(int(Status.ERROR), 0)

    return of
