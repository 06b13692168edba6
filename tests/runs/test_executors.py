"""Workers that are killed: nothing hangs, neither what comes after nor the end."""

import os
import signal
import time
from pathlib import Path

import pytest

from assay.runs.examining import CheckOrder
from assay.runs.executors import Local
from assay.runs.work import Source
from assay.trust import Asking

NOTHING = CheckOrder("none", Source("none.safetensors"), Path("none"), (), "", "cpu", 1, Asking("A1"))
"""Work that a worker knows how to fail at."""


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
        executor.submit(ticket, NOTHING, 0, 1)
    assert {executor.next()[0] for _ in range(4)} == {0, 1, 2, 3}
    workers = sorted(executor._pool._processes)
    time.sleep(0.5)
    os.kill(workers[which], signal.SIGKILL)
    time.sleep(0.5)
    executor.submit(4, NOTHING, 0, 1)
    number, found = executor.next()
    while found is None:  # lost with the pool, as the loop above an executor knows
        executor.submit(5, NOTHING, 0, 1)
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
