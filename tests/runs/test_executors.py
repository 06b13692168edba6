"""Workers that are killed: nothing hangs, neither what comes after nor the end."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from assay.attacks.plan import plan
from assay.data import Dataset
from assay.runs.check_tasks import CheckTask
from assay.runs.executors import Local
from assay.runs.settings import Settings
from assay.runs.tasks import AttackTask
from assay.store.model_source import ModelSource
from assay.trust import CheckRequest
from assay.util.progress import Progress

NOTHING = CheckTask("none", ModelSource("none.safetensors"), Path("none"), (), "", "cpu", 1, CheckRequest("A1"))
"""Work that a worker knows how to fail at."""
BEFORE = Progress("none", 0, 1, 0, 0)


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.timeout(120)
@pytest.mark.parametrize("which", [0, 1])
def test_an_idle_worker_that_is_killed_holds_nobody_up(which):
    """One of two idle workers holds the lock of their queue; the other waits for it, and would for ever."""
    executor = Local(2, threads=1)
    for ticket in range(4):
        executor.submit(ticket, NOTHING, BEFORE)
    assert {executor.next()[0] for _ in range(4)} == {0, 1, 2, 3}
    workers = sorted(executor._pool._processes)
    time.sleep(0.5)
    os.kill(workers[which], signal.SIGKILL)
    time.sleep(0.5)
    executor.submit(4, NOTHING, BEFORE)
    number, found = executor.next()
    while found is None:  # lost with the pool, as the loop above an executor knows
        executor.submit(5, NOTHING, BEFORE)
        number, found = executor.next()
    assert number in (4, 5)
    assert found.failed
    later = sorted(executor._pool._processes)
    os.kill(later[min(which, len(later) - 1)], signal.SIGKILL)
    began = time.monotonic()
    executor.close()
    assert time.monotonic() - began < 30
    time.sleep(1)
    assert not [pid for pid in (*workers, *later) if alive(pid)]


@pytest.mark.timeout(120)
def test_what_was_done_before_a_worker_died_is_kept():
    executor = Local(2, threads=1)
    executor.submit(0, NOTHING, BEFORE)
    while not all(future.done() for future in executor._running):
        time.sleep(0.1)
    for worker in executor._pool._processes:
        os.kill(worker, signal.SIGKILL)
    time.sleep(0.5)
    executor.submit(1, NOTHING, BEFORE)
    found = dict(executor.next() for _ in range(2))
    executor.close()
    assert found[0].failed
    assert found[1].failed


class Noisy(nn.Module):
    """A random model, as nobody has declared it."""

    def forward(self, x):
        scores = (x + 0.2 * torch.randn_like(x)).flatten(1)
        return torch.stack([scores.sum(1), scores.abs().sum(1) + 1, scores[:, 0]], 1)


def test_a_random_model_draws_alike_in_every_process():
    """Whatever was drawn before: a run in workers, or after a kill, has the same table."""
    data = Dataset(torch.rand(8, 1, 4, 4), torch.zeros(8, dtype=torch.int64), ("a", "b", "c"))
    order = AttackTask(Noisy(), data, plan("pgd:steps=3", eps=0.01), Settings(), 0, 8)
    one = order.run_task().columns
    torch.rand(5)
    other = order.run_task().columns
    later = replace(order, settings=Settings(seed=1)).run_task().columns
    assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in one if name != "seconds")
    assert not np.array_equal(one["margin"], later["margin"])
