"""Attack tasks: some samples, one attack, one model; the same in this process, in a worker and on a cluster."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from assay.attacks.plan import Planned
from assay.core.combinators import unfold
from assay.core.model_state import seeded
from assay.core.rng import content_keys
from assay.data.dataset import Dataset
from assay.defences.adaptation import adaptation_of
from assay.engine.api import INTERRUPTED, attack
from assay.models.load import digest
from assay.runs.settings import Settings
from assay.runs.starts import starts_for
from assay.store.columns import columns_of
from assay.store.image_store import load_data, select_kept
from assay.store.model_source import ModelSource
from assay.util.progress import Progress, ProgressCallback
from assay.util.validate import described, reject


class Task(Protocol):
    """What an executor carries out; a frozen dataclass, so that a cluster can exchange model and data for its own."""

    @property
    def model(self) -> ModelSource | nn.Module:
        """The model, or where to get it."""
        ...

    @property
    def data(self) -> Path | Dataset:
        """The data, or the file that `assay.store.image_store.store_data` wrote."""
        ...

    @property
    def identity(self) -> str:
        """Digest of the model that is meant."""
        ...

    def run_task(self, progress: ProgressCallback | None = None) -> Any:
        """Run the task; the result can be pickled."""
        ...


@dataclass(frozen=True)
class AttackTask:
    """Some samples to be attacked.

    Attributes:
        model: the model, or where to get it.
        data: the data, or the file that `assay.store.image_store.store_data` wrote.
        planned: the attack, as planned (a defence's own way of being attacked is found here).
        settings: how to run.
        first: index of the first sample.
        count: samples.
        identity: digest of the model that is meant.
        only: indices of the samples, where not all of them are meant: those that raised an error before.
    """

    model: ModelSource | nn.Module
    data: Path | Dataset
    planned: Planned
    settings: Settings
    first: int
    count: int
    identity: str = ""
    only: tuple[int, ...] = ()

    def run_task(self, progress: ProgressCallback | None = None) -> "TaskResult":
        """Attack the samples; a random model draws alike in every process.

        Args:
            progress: called by the engine.

        Returns:
            What was found.

        Raises:
            KeyboardInterrupt: the attack was interrupted; the task's results are discarded.
        """
        settings = self.settings.resolved()
        model, data = task_model(self.model, settings.device, self.identity), task_data(self.data)
        index = torch.tensor(self.only) if self.only else slice(self.first, self.first + self.count)
        x, y = data.images(index), data.y[index]
        declared = adaptation_of(model)
        adaptation = declared if settings.adaptive else None
        adapted_attack = self.planned.attack if adaptation is None else adaptation.adapt(self.planned.attack)
        needs = {need for stage in unfold(self.planned.attack) for need in stage.attack.needs}
        with seeded(settings.seed + self.first, {torch.device(settings.device)}):  # what a random model draws
            outcome = attack(
                model,
                x,
                y,
                adapted_attack,
                mask=data.masks[index] if data.masks is not None and "mask" in needs else None,
                start=starts_for(settings.start, adapted_attack, data, index),
                stop=settings.stop,
                slots=settings.slots,
                search=settings.search,
                seed=settings.seed,
                ids=content_keys(x, y),
                max_forwards=settings.max_forwards,
                surrogate=None if adaptation is None else adaptation.surrogate,
                test=None if declared is None else declared.test,
                errors=settings.errors,
                preflight=False,
                progress=progress,
            )
        if INTERRUPTED in outcome.events:
            raise KeyboardInterrupt
        images, at = select_kept(outcome.images, outcome.status, settings.images)
        return TaskResult(
            columns_of(outcome),
            images,
            at,
            outcome.errors,
            outcome.seconds,
            outcome.events,
            f"{platform.node()}:{os.getpid()}",
        )


@dataclass(frozen=True)
class TaskResult:
    """The result of an attack task.

    Attributes:
        columns: numbers of the samples, by name.
        images: the images that are kept, ``(m, c, h, w)``.
        at: which samples they belong to, counted from the task's first.
        errors: messages by sample, counted likewise.
        seconds: wall time.
        events: what happened besides.
        worker: where it ran.
    """

    columns: Mapping[str, NDArray[Any]]
    images: Tensor
    at: Tensor
    errors: Mapping[int, str]
    seconds: float
    events: tuple[str, ...]
    worker: str


def shift_progress(progress: ProgressCallback | None, before: Progress) -> ProgressCallback | None:
    """A progress callback that adds the progress made before this task."""
    if progress is None:
        return None

    def shifted(now: Progress) -> None:
        broken, passes = before.broken + now.broken, before.passes + now.passes
        progress(replace(now, done=before.done + now.done, total=before.total, broken=broken, passes=passes))

    return shifted


def task_model(model: ModelSource | nn.Module, device: str, identity: str) -> nn.Module:
    """A task's model on its device; the last two loaded models are cached.

    Raises:
        ValueError: the source has other weights now than those that are meant.
    """
    loaded = model if isinstance(model, nn.Module) else _load_model(model, device, identity)
    return loaded.to(device)


def task_data(data: Path | Dataset) -> Dataset:
    """A task's data; the last two data sets read are cached."""
    return data if isinstance(data, Dataset) else _read_data(data)


def clear_caches() -> None:
    """Clear the model and data caches of this process."""
    _load_model.cache_clear()
    _read_data.cache_clear()


@lru_cache(maxsize=2)
def _load_model(source: ModelSource, device: str, identity: str) -> nn.Module:
    """Load a model and check its digest: a changed file must not be recorded under the old identity."""
    model = source.load()
    if digest(model) != identity:
        reject("model", f"what {source.spec} was when the run began", described("another model"))
    return model.to(torch.device(device))


@lru_cache(maxsize=2)
def _read_data(path: Path) -> Dataset:
    return load_data(path)
