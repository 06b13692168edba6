"""The inputs of a run's trust checks (`CheckContext`) and the checks that executors run (`CheckTask`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn

from assay.attacks.plan import Planned
from assay.core.outcome import Status
from assay.data.dataset import Dataset
from assay.runs.plan import AttackedModel, PlannedCell
from assay.runs.tasks import clear_caches, task_data, task_model
from assay.store.columns import Cell, outcome_of
from assay.store.image_store import image_reader
from assay.store.ledger import Ledger
from assay.store.model_source import ModelSource
from assay.trust.answer import CheckResult, failed
from assay.trust.context import AttackResult, CheckContext
from assay.trust.running import CheckRequest
from assay.util.progress import ProgressCallback
from assay.util.text import plain

_OTHERS = 256

PlannedCells = Sequence[tuple[PlannedCell, Cell]]
"""Planned cells, each with its cell in the ledger."""


@dataclass(frozen=True)
class Evidence:
    """An attack's result without images, small enough to send to a worker.

    Attributes:
        planned: the attack.
        columns: numbers of the samples, by name.
        name: what ran.
        stages: its parts.
        adapted: whether a defence was attacked in the way that it declares.
        seed: of its draws.
    """

    planned: Planned
    columns: Mapping[str, NDArray[Any]]
    name: str
    stages: tuple[str, ...]
    adapted: bool
    seed: int

    def result(self, shape: Sequence[int]) -> AttackResult:
        """The result for images of shape ``(c, h, w)``, without the images themselves."""
        outcome = outcome_of(self.columns, shape, name=self.name, stages=self.stages)
        return AttackResult(self.planned, outcome, lambda _: None, adapted=self.adapted, seed=self.seed)


@dataclass(frozen=True)
class CheckTask:
    """One check that reruns attacks.

    Attributes:
        context_key: tasks with the same key share a context and differ only in their request.
        model: the model, or where to get it.
        data: the data, or the file that holds them.
        evidence: the results whose budgets are claimed.
        identity: digest of the model that is meant.
        device: where it runs.
        samples: how many samples the check uses.
        request: which check to run.
    """

    context_key: str
    model: ModelSource | nn.Module = field(compare=False)
    data: Path | Dataset = field(compare=False)
    evidence: tuple[Evidence, ...] = field(compare=False)
    identity: str
    device: str
    samples: int
    request: CheckRequest = field(compare=False)

    def run_task(self, progress: ProgressCallback | None = None) -> CheckResult:
        """Run the check; an exception becomes a failed result."""
        try:
            context = _task_context(self)
        except Exception as error:  # as in `CheckRequest.answer`
            return failed(f"{type(error).__name__}: {plain(str(error), 200)}")
        return self.request.answer(context)


@lru_cache(maxsize=1)
def _task_context(task: CheckTask) -> CheckContext:
    """The context of a task. The last one is cached, because tasks with the same key follow each other."""
    model, data = task_model(task.model, task.device, task.identity), task_data(task.data)
    results = tuple(evidence.result(data.x.shape[1:]) for evidence in task.evidence)
    return CheckContext(model, data.x, data.y, results, masks=data.masks, samples=task.samples)


def clear_evidence() -> None:
    """Clear the cached context, models and data of this process."""
    _task_context.cache_clear()
    clear_caches()


def load_evidence(own_cells: PlannedCells, ledger: Ledger) -> tuple[Evidence, ...]:
    """The results whose budgets are claimed, from the ledger."""
    return tuple(
        Evidence(
            planned_cell.task.planned,
            ledger.columns(cell),
            cell.name,
            cell.stages,
            planned_cell.task.settings.adaptive,
            planned_cell.names.seed,
        )
        for planned_cell, cell in own_cells
        if planned_cell.names.curve is None
    )


def build_context(
    attacked_model: AttackedModel,
    data: Dataset,
    own_cells: PlannedCells,
    other_cells: PlannedCells,
    ledger: Ledger,
    out: Path,
    samples: int,
) -> CheckContext:
    """Build the check context of a model: its results with images, and transfer images of other models.

    Args:
        attacked_model: the model.
        data: what was attacked.
        own_cells: attacks on it.
        other_cells: attacks on other models.
        ledger: of the run.
        out: its folder.
        samples: how many samples the check uses.
    """
    settings = own_cells[0][0].task.settings
    shards, shape = ledger.shards(), tuple(data.x.shape[1:])
    results = []
    for planned_cell, cell in own_cells:
        cell_shards = shards.get(cell.id, [])
        outcome = outcome_of(
            ledger.columns(cell),
            shape,
            name=cell.name,
            stages=cell.stages,
            seconds=sum(shard.seconds for shard in cell_shards),
            errors=ledger.errors(cell),
        )
        results.append(
            AttackResult(
                planned_cell.task.planned,
                outcome,
                image_reader(out, cell_shards),
                planned_cell.task.settings.adaptive,
                planned_cell.names.seed,
                planned_cell.names.curve is None,
            )
        )
    other_shards = [
        (cell, shards.get(cell.id, [])) for planned_cell, cell in other_cells if planned_cell.names.curve is None
    ]
    recorded = {**own_cells[0][1].fields, "search": settings.search}
    return CheckContext(
        task_model(attacked_model.model, settings.device, attacked_model.identity),
        data.x,
        data.y,
        tuple(results),
        masks=data.masks,
        transfer_images=_transfer_images(other_shards, ledger, out),
        reference=attacked_model.reference,
        whole=data,
        samples=samples,
        recorded=recorded,
    )


def _transfer_images(cells: Sequence[tuple[Cell, Any]], ledger: Ledger, out: Path) -> list[tuple[int, Tensor]]:
    """Adversarial images made on other models: at most `_OTHERS`, the same number from each attack."""
    images: list[tuple[int, Tensor]] = []
    per_attack = max(1, _OTHERS // max(len(cells), 1))
    for cell, shards in cells[:_OTHERS]:
        read_image = image_reader(out, shards)
        status = ledger.columns(cell, ("status",))["status"]
        for sample in (status == int(Status.BROKEN)).nonzero()[0].tolist()[:per_attack]:
            image = read_image(sample)
            if image is not None:
                images.append((sample, image))
    return images
