"""An executor on Ray, local or on a cluster. Only the driver writes to the ledger."""

import os
from collections import deque
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from assay.data.dataset import Dataset
from assay.runs.executors import TaskOutcome
from assay.runs.tasks import Task, task_model
from assay.store.image_store import load_data
from assay.store.model_source import ModelSource
from assay.util.progress import Progress
from assay.util.validate import described, reject, whole

_MAX_CACHED = 6
"""How many models and data sets stay in the object store; tasks arrive model by model."""


class RayExecutor:
    """An executor on Ray. Models and data travel through Ray's object store: no shared disk is needed.

    Tasks of lost workers and nodes are reported as lost; the driver queues them again. If started here, Ray listens on
    the
    loopback address only and without its dashboard, because its ports have no authentication.

    Args:
        address: of a running cluster (``"auto"``, ``"ray://head:10001"``); None to start Ray on this machine.
        workers: tasks at once; by default as many as the cluster's processors (or accelerators) allow.
        threads: processors per task.
        device: where models run; each task on an accelerator reserves one.

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
        self.owns_connection = not ray.is_initialized()
        """Whether this executor started Ray and has to shut it down."""
        if self.owns_connection:
            _connect(ray, address, workers, threads)
        gpus = 0 if torch.device(device).type == "cpu" else 1
        resources = ray.cluster_resources()
        most = int(resources.get("GPU", 0)) if gpus else int(resources.get("CPU", 1)) // threads
        if not most and gpus:
            reject("device", "an accelerator in the Ray cluster", described("none"))
        if not most:
            reject("threads", f"at most the {int(resources.get('CPU', 0))} processors of the Ray cluster", threads)
        self.workers = min(workers or most, most)
        options = {"num_cpus": threads, "num_gpus": gpus, "max_retries": 0}
        self._carry_out = ray.remote(**options)(_run_task)
        self._object_refs: dict[Any, Any] = {}
        self._under_way: dict[Any, int] = {}
        self._refused: deque[tuple[int, Exception]] = deque()

    @property
    def capacity(self) -> int:
        """See `Executor`: one piece of work waits, so that no worker does."""
        return self.workers + 1

    def submit(self, task_id: int, task: Task, before: Progress) -> None:
        """See `Executor`."""
        try:
            model, data = self._put(task.model, task.identity), self._put(task.data)
        except Exception as error:
            self._refused.append((task_id, error))
            return
        stripped = _replace_inputs(task, ModelSource(""), Path())
        self._under_way[self._carry_out.remote(stripped, model, data, self.threads)] = task_id

    def next(self) -> tuple[int, TaskOutcome]:
        """See `Executor`."""
        if self._refused:
            return self._refused.popleft()
        (ready, *_), _ = self.ray.wait(list(self._under_way), num_returns=1)
        task_id = self._under_way.pop(ready)
        errors = self.ray.exceptions
        try:
            return task_id, self.ray.get(ready)
        except errors.RayTaskError as error:
            cause = error.cause
            return task_id, cause if isinstance(cause, Exception) else RuntimeError(str(error))
        except errors.RayError:  # the worker or its node is gone
            return task_id, None

    def close(self, *, now: bool = False) -> None:
        """See `Executor`."""
        if now:
            for reference in self._under_way:
                self.ray.cancel(reference, force=True)
        self._under_way.clear()
        self._object_refs.clear()
        if self.owns_connection:
            self.ray.shutdown()

    def _put(self, source: ModelSource | nn.Module | Path | Dataset, identity: str = "") -> Any:
        """A model or data in the object store; the last few stay, and all that orders under way need.

        Raises:
            ValueError: a model has other weights now than those that are meant.
        """
        key = source if isinstance(source, ModelSource | Path) else id(source)
        if key not in self._object_refs:
            if isinstance(source, ModelSource):
                value: Any = task_model(source, "cpu", identity)
            else:
                value = load_data(source) if isinstance(source, Path) else source
            while len(self._object_refs) >= _MAX_CACHED:
                del self._object_refs[next(iter(self._object_refs))]
            self._object_refs[key] = self.ray.put(value)
        return self._object_refs[key]


def _connect(ray: Any, address: str | None, workers: int | None, threads: int) -> None:
    plain = {"logging_level": "ERROR", "log_to_driver": False, "include_dashboard": False}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is not None:
        ray.init(address=address, logging_level="ERROR", log_to_driver=False)
        return
    count = None if workers is None else workers * threads
    ray.init(num_cpus=count, _node_ip_address="127.0.0.1", **plain)


def _replace_inputs(task: Task, model: ModelSource | nn.Module, data: Path | Dataset) -> Task:
    exchanged: Any = replace(task, model=model, data=data)  # type: ignore[type-var]
    result: Task = exchanged
    return result


def _run_task(task: Task, model: nn.Module, data: Dataset, threads: int) -> Any:
    torch.set_num_threads(threads)
    return _replace_inputs(task, model, data).run_task()
