"""The loop that completes a run's cells: it queues tasks and writes their results to the ledger."""

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
from assay.util.progress import Progress, ProgressCallback
from assay.util.tensors import read_tensors


@dataclass(frozen=True)
class OpenCell:
    """One cell to be completed.

    Attributes:
        cell: the cell in the ledger.
        task: the attack task for all of its samples.
        label: model and attack, for people.
    """

    cell: Cell
    task: AttackTask
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
    """The loop's state: queued tasks, progress and number of open tasks per cell, and failures."""

    todo: deque[QueuedTask[OpenCell, AttackTask]]
    done: dict[int, Progress]
    left: dict[int, int]
    failures: list[Failure] = field(default_factory=list)

    def fail(self, open_cell: OpenCell, error: Exception) -> None:
        """Record that a cell failed."""
        if open_cell.label not in {failure.label for failure in self.failures}:
            self.failures.append(Failure(open_cell.label, error))

    def withdraw(self, open_cell: OpenCell) -> None:
        """Remove the queued tasks of a failed cell."""
        others = [queued for queued in self.todo if queued.owner is not open_cell]
        self.todo.clear()
        self.todo.extend(others)


def run_cells(
    open_cells: Sequence[OpenCell],
    ledger: Ledger,
    folder: Path,
    executor: Executor,
    stop: StopRequest,
    *,
    on_complete: Callable[[OpenCell], None] = lambda _: None,
    on_progress: ProgressCallback = lambda _: None,
    strict: bool = False,
) -> list[Failure]:
    """Run the missing tasks of each cell, and store every result as it arrives.

    Args:
        open_cells: the cells, in order.
        ledger: where results go.
        folder: the run's.
        executor: runs the tasks.
        stop: whether an end was asked for: then what is under way is finished, and nothing new begun.
        on_complete: called when a cell is complete.
        on_progress: called after each result with the progress of the cell.
        strict: raise what makes a cell fail, instead of going on with the others.

    Returns:
        The cells that failed; the rest went on.

    Raises:
        KeyboardInterrupt: the user interrupted twice. Running tasks are lost; stored results are kept.
    """
    state = _build_state(open_cells, ledger)
    for queued, result in run_queue(state.todo, executor, stop, lambda t: state.done[t.owner.cell.id]):
        if result is None:
            _record_lost_worker(queued, state, ledger)
        elif isinstance(result, Exception):
            if strict:
                raise result
            state.fail(queued.owner, result)
            state.withdraw(queued.owner)
        else:
            _store_result(queued, result, ledger, folder)
            _update_progress(queued, result, state, on_complete, on_progress)
    return state.failures


def missing_shards(cell: Cell, shards: Sequence[Shard], size: int) -> Iterator[tuple[int, int]]:
    """First sample and number of samples of each missing shard.

    Shards begin at multiples of ``size``, so that the same samples are attacked together after a kill as before.

    Example:
        >>> shard = Shard(4, 2, 0.0, "", None, None, ())
        >>> list(missing_shards(Cell(1, "", "", 10, {}, "", ()), [shard], 4))
        [(0, 4), (6, 2), (8, 2)]
    """
    is_stored = np.zeros(cell.n, bool)
    for shard in shards:
        is_stored[shard.first : shard.first + shard.count] = True
    first = 0
    for place in range(cell.n):
        if is_stored[place]:
            first = place + 1
        elif place + 1 == cell.n or (place + 1) % size == 0 or is_stored[place + 1]:
            yield first, place + 1 - first
            first = place + 1


def utc_now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _build_state(open_cells: Sequence[OpenCell], ledger: Ledger) -> _State:
    parts, failed = ledger.shards(), samples_with_status(ledger, int(Status.ERROR))
    todo, done, left, tallies = deque[QueuedTask[OpenCell, AttackTask]](), {}, {}, broken_and_passes(ledger)
    for open_cell in open_cells:
        stored, failed_samples = parts.get(open_cell.cell.id, []), failed.get(open_cell.cell.id, [])
        shards = list(missing_shards(open_cell.cell, stored, open_cell.task.settings.samples_per_shard))
        tasks = [replace(open_cell.task, first=first, count=count) for first, count in shards]
        for shard in stored:
            only = tuple(i for i in failed_samples if shard.first <= i < shard.first + shard.count)
            if only:
                tasks.append(replace(open_cell.task, first=shard.first, count=shard.count, only=only))
        count = sum(shard.count for shard in stored) - len(failed_samples)
        done[open_cell.cell.id] = Progress(
            open_cell.label, count, open_cell.cell.n, *tallies.get(open_cell.cell.id, (0, 0))
        )
        left[open_cell.cell.id] = len(tasks)
        todo.extend(QueuedTask(open_cell, task) for task in tasks)
    return _State(todo, done, left)


def _record_lost_worker(queued: QueuedTask[OpenCell, AttackTask], state: _State, ledger: Ledger) -> None:
    task = queued.task
    where = f"{queued.owner.label}, samples {task.first} to {task.first + task.count - 1}"
    ledger.add_event(utc_now(), f"{where}: the worker was lost, time {queued.losses}")
    if queued.is_exhausted:  # other samples of the cell may still work
        text = f"the worker process ended {ATTEMPTS} times on {where} (killed, out of memory?)"
        state.fail(queued.owner, RuntimeError(text))


def _store_result(queued: QueuedTask[OpenCell, AttackTask], result: TaskResult, ledger: Ledger, folder: Path) -> None:
    cell, task = queued.owner.cell, queued.task
    name, keep = f"{cell.key}-{task.first}", task.settings.images
    if task.only:
        _amend(queued, result, ledger, folder, name)
        return
    images = digest = None
    if len(result.at):
        images, digest = write_images(folder, name, result.images, result.at)
        fault_point("images-written")
    shard = Shard(task.first, task.count, result.seconds, result.worker, images, digest, result.events, keep)
    errors = {task.first + i: text for i, text in result.errors.items()}
    ledger.add_shard(cell.id, shard, result.columns, errors)
    fault_point("shard-committed")


def _amend(
    queued: QueuedTask[OpenCell, AttackTask], result: TaskResult, ledger: Ledger, folder: Path, name: str
) -> None:
    """Replace the results of samples that raised an error before; the other samples of their shard stay."""
    cell, task = queued.owner.cell, queued.task
    shard, columns, errors = read_shard(ledger, cell.id, task.first)
    places = np.array(task.only) - task.first
    for column, values in columns.items():
        values[places] = result.columns[column]
    errors = {i: text for i, text in errors.items() if i not in task.only}
    errors |= {task.only[i]: text for i, text in result.errors.items()}
    images, at = result.images, torch.from_numpy(places)[result.at]
    before = None if shard.images is None else resolve_inside(folder, shard.images)
    if before is not None:
        _, tensors = read_tensors(before, "assay-images", "images")
        kept = ~torch.isin(tensors["sample"], torch.from_numpy(places))
        images, at = torch.cat([tensors["images"][kept], images]), torch.cat([tensors["sample"][kept], at])
        sorting = at.argsort()
        images, at = images[sorting], at[sorting]
    file = digest = None
    if len(at):  # a new name: until the commit, the ledger refers to the old file
        again = before is not None and before.stem == name
        file, digest = write_images(folder, f"{name}-again" if again else name, images, at)
        fault_point("images-written")
    events = tuple(dict.fromkeys((*shard.events, *result.events)))
    ledger.add_shard(
        cell.id,
        Shard(
            shard.first, shard.count, shard.seconds + result.seconds, result.worker, file, digest, events, shard.keep
        ),
        columns,
        errors,
    )
    fault_point("shard-committed")
    if before is not None and file != shard.images and is_of_run(before, run_of(folder)):
        before.unlink()


def _update_progress(
    queued: QueuedTask[OpenCell, AttackTask],
    result: TaskResult,
    state: _State,
    completed: Callable[[OpenCell], None],
    progressed: ProgressCallback,
) -> None:
    cell_id, columns = queued.owner.cell.id, result.columns
    before = state.done[cell_id]
    state.done[cell_id] = replace(
        before,
        done=before.done + (len(queued.task.only) or queued.task.count),
        broken=before.broken + int((columns["status"] == int(Status.BROKEN)).sum()),
        passes=before.passes + int(columns["forwards"].sum() + columns["backwards"].sum()),
    )
    state.left[cell_id] -= 1
    progressed(state.done[cell_id])
    if not state.left[cell_id]:
        completed(queued.owner)


def count_not_run(ledger: Ledger, cell: Cell) -> int:
    """How many samples of a cell have not been run."""
    return cell.n - sum(part.count for part in ledger.shards(cell.id).get(cell.id, []))


def unfinished_counter(ledger: Ledger) -> Callable[[Cell], int]:
    """How many samples of a cell have not been run, or raised an error; the ledger is read once for all cells."""
    shards, counts = ledger.shards(), ledger.counts()

    def count(cell: Cell) -> int:
        there = sum(part.count for part in shards.get(cell.id, []))
        return cell.n - there + counts.get(cell.id, {}).get(int(Status.ERROR), 0)

    return count
