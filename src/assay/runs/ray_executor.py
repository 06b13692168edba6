"""Work carried out by Ray: on this machine or on a cluster. The driver stays the ledger's only writer."""

import os
from collections import deque
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from assay.data import Dataset
from assay.runs.executors import Found
from assay.runs.tasks import Task, task_model
from assay.store.image_store import load_data
from assay.store.model_source import ModelSource
from assay.util.progress import Progress
from assay.util.validate import described, reject, whole

_KEPT = 6
"""Models and data sets that stay in the object store: orders come model by model."""


class RayExecutor:
    """An executor on Ray. Models and data travel through Ray's object store: no shared disk is needed.

    Lost workers and nodes are told as lost orders, which the driver hands out again. Started here, Ray listens on the
    loopback address alone and without its dashboard, because its ports ask nobody for a password.

    Args:
        address: of a running cluster (``"auto"``, ``"ray://head:10001"``); None to start Ray on this machine.
        workers: orders at once; by default as many as the cluster's processors (or accelerators) allow.
        threads: processors of each order.
        device: where models run; an order on an accelerator asks for one.

    Raises:
        ImportError: Ray is not installed.
    """

    def __init__(
        self, address: str | None = None, workers: int | None = None, threads: int = 1, device: str = "cpu"
    ) -> None:
        ray: Any
        try:
            ray = import_module("ray")
        except ImportError:
            raise ImportError("executor: expected Ray for --executor ray: pip install 'assay[ray]'") from None
        whole("threads", threads, least=1)
        self.ray, self.threads = ray, threads
        self.started = not ray.is_initialized()
        """Whether the connection is this executor's, to be ended with it."""
        if self.started:
            _connect(ray, address, workers, threads)
        gpus = 0 if torch.device(device).type == "cpu" else 1
        there = ray.cluster_resources()
        most = int(there.get("GPU", 0)) if gpus else int(there.get("CPU", 1)) // threads
        if not most and gpus:
            reject("device", "an accelerator in the Ray cluster", described("none"))
        if not most:
            reject("threads", f"at most the {int(there.get('CPU', 0))} processors of the Ray cluster", threads)
        self.workers = min(workers or most, most)
        options = {"num_cpus": threads, "num_gpus": gpus, "max_retries": 0}
        self._carry_out = ray.remote(**options)(_carried_out)
        self._kept: dict[Any, Any] = {}
        self._under_way: dict[Any, int] = {}
        self._refused: deque[tuple[int, Exception]] = deque()

    @property
    def room(self) -> int:
        """See `Executor`: one piece of work waits, so that no worker does."""
        return self.workers + 1

    def submit(self, ticket: int, work: Task, before: Progress) -> None:
        """See `Executor`."""
        try:
            model, data = self._put(work.model, work.identity), self._put(work.data)
        except Exception as error:
            self._refused.append((ticket, error))
            return
        bare = _with(work, ModelSource(""), Path())
        self._under_way[self._carry_out.remote(bare, model, data, self.threads)] = ticket

    def next(self) -> tuple[int, Found]:
        """See `Executor`."""
        if self._refused:
            return self._refused.popleft()
        (ready, *_), _ = self.ray.wait(list(self._under_way), num_returns=1)
        ticket = self._under_way.pop(ready)
        errors = self.ray.exceptions
        try:
            return ticket, self.ray.get(ready)
        except errors.RayTaskError as error:
            cause = error.cause
            return ticket, cause if isinstance(cause, Exception) else RuntimeError(str(error))
        except errors.RayError:  # the worker or its node is gone
            return ticket, None

    def close(self, *, now: bool = False) -> None:
        """See `Executor`."""
        if now:
            for reference in self._under_way:
                self.ray.cancel(reference, force=True)
        self._under_way.clear()
        self._kept.clear()
        if self.started:
            self.ray.shutdown()

    def _put(self, what: ModelSource | nn.Module | Path | Dataset, identity: str = "") -> Any:
        """A model or data in the object store; the last few stay, and all that orders under way need.

        Raises:
            ValueError: a model has other weights now than those that are meant.
        """
        key = what if isinstance(what, ModelSource | Path) else id(what)
        if key not in self._kept:
            if isinstance(what, ModelSource):
                new: Any = task_model(what, "cpu", identity)
            else:
                new = load_data(what) if isinstance(what, Path) else what
            while len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = self.ray.put(new)
        return self._kept[key]


def _connect(ray: Any, address: str | None, workers: int | None, threads: int) -> None:
    plain = {"logging_level": "ERROR", "log_to_driver": False, "include_dashboard": False}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is not None:
        ray.init(address=address, logging_level="ERROR", log_to_driver=False)
        return
    count = None if workers is None else workers * threads
    ray.init(num_cpus=count, _node_ip_address="127.0.0.1", **plain)


def _with(work: Task, model: ModelSource | nn.Module, data: Path | Dataset) -> Task:
    exchanged: Any = replace(work, model=model, data=data)  # type: ignore[type-var]
    result: Task = exchanged
    return result


def _carried_out(work: Task, model: nn.Module, data: Dataset, threads: int) -> Any:
    torch.set_num_threads(threads)
    return _with(work, model, data).run_task()
