"""What the checks of a run look at: made from the ledger in this process, or from numbers alone in another one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn

from assay.attacks.plan import Planned
from assay.core.outcome import Status
from assay.data import Dataset
from assay.runs.plan import AttackedModel, PlannedCell
from assay.runs.tasks import clear_caches as forget_parts
from assay.runs.tasks import task_data, task_model
from assay.store.columns import Cell, outcome_of
from assay.store.image_store import image_reader
from assay.store.ledger import Ledger
from assay.store.model_source import ModelSource
from assay.trust import CheckContext, CheckRequest, CheckResult, Result
from assay.trust.answer import failed
from assay.util.progress import Callback

_OTHERS = 256

Cells = Sequence[tuple[PlannedCell, Cell]]
"""What was wanted, and where it is in the ledger."""


@dataclass(frozen=True)
class Evidence:
    """A result as numbers that can be sent: what `Result` says, without images.

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

    def result(self, shape: Sequence[int]) -> Result:
        """The result, of images of a shape ``(c, h, w)``, none of which is at hand."""
        outcome = outcome_of(self.columns, shape, name=self.name, stages=self.stages)
        return Result(self.planned, outcome, lambda _: None, adapted=self.adapted, seed=self.seed)


@dataclass(frozen=True)
class CheckTask:
    """One check that attacks anew.

    Attributes:
        exam: a name for what is examined: orders of the same name differ in what they ask alone.
        model: the model, or where to get it.
        data: the data, or the file that holds them.
        evidence: the results whose budgets are claimed.
        identity: digest of the model that is meant.
        device: where it runs.
        samples: how many samples are looked at again.
        asking: what is asked.
    """

    exam: str
    model: ModelSource | nn.Module = field(compare=False)
    data: Path | Dataset = field(compare=False)
    evidence: tuple[Evidence, ...] = field(compare=False)
    identity: str
    device: str
    samples: int
    asking: CheckRequest = field(compare=False)

    def run_task(self, progress: Callback | None = None) -> CheckResult:
        """Ask it; what raises is told in the answer."""
        try:
            exam = _exam(self)
        except Exception as error:  # as in `Asking.answer`
            return failed(f"{type(error).__name__}: {str(error)[:200]}")
        return self.asking.answer(exam)


@lru_cache(maxsize=1)
def _exam(order: CheckTask) -> CheckContext:
    """What an order is about; the last one is kept, as its checks come one after the other."""
    model, data = task_model(order.model, order.device, order.identity), task_data(order.data)
    results = tuple(evidence.result(data.x.shape[1:]) for evidence in order.evidence)
    return CheckContext(model, data.x, data.y, results, masks=data.masks, samples=order.samples)


def clear_evidence() -> None:
    """Let go of what was examined last in this process, and of models and data that it was made from."""
    _exam.cache_clear()
    forget_parts()


def load_evidence(own: Cells, ledger: Ledger) -> tuple[Evidence, ...]:
    """The results whose budgets are claimed, from the ledger."""
    return tuple(
        Evidence(
            wanted.order.planned,
            ledger.columns(entry),
            entry.name,
            entry.stages,
            wanted.order.settings.adaptive,
            wanted.words.seed,
        )
        for wanted, entry in own
        if wanted.words.curve is None
    )


def build_context(
    subject: AttackedModel, data: Dataset, own: Cells, others: Cells, ledger: Ledger, out: Path, samples: int
) -> CheckContext:
    """A model with all its results and their images.

    Args:
        subject: the model.
        data: what was attacked.
        own: attacks on it.
        others: attacks on other models.
        ledger: of the run.
        out: its folder.
        samples: how many samples are looked at again.
    """
    settings = own[0][0].order.settings
    parts, shape = ledger.shards(), tuple(data.x.shape[1:])
    results = []
    for wanted, entry in own:
        there = parts.get(entry.id, [])
        outcome = outcome_of(
            ledger.columns(entry),
            shape,
            name=entry.name,
            stages=entry.stages,
            seconds=sum(part.seconds for part in there),
            errors=ledger.errors(entry),
        )
        results.append(
            Result(
                wanted.order.planned,
                outcome,
                image_reader(out, there),
                wanted.order.settings.adaptive,
                wanted.words.seed,
                wanted.words.curve is None,
            )
        )
    foreign = [(entry, parts.get(entry.id, [])) for wanted, entry in others if wanted.words.curve is None]
    recorded = {**own[0][1].fields, "search": settings.search}
    return CheckContext(
        task_model(subject.model, settings.device, subject.identity),
        data.x,
        data.y,
        tuple(results),
        masks=data.masks,
        others=_foreign(foreign, ledger, out),
        reference=subject.reference,
        samples=samples,
        recorded=recorded,
    )


def _foreign(cells: Sequence[tuple[Cell, Any]], ledger: Ledger, out: Path) -> list[tuple[int, Tensor]]:
    """Adversarial images that were made on other models, `_OTHERS` in all at most, of each attack as many."""
    results: list[tuple[int, Tensor]] = []
    share = max(1, _OTHERS // max(len(cells), 1))
    for entry, parts in cells[:_OTHERS]:
        look = image_reader(out, parts)
        status = ledger.columns(entry, ("status",))["status"]
        for sample in (status == int(Status.BROKEN)).nonzero()[0].tolist()[:share]:
            image = look(sample)
            if image is not None:
                results.append((sample, image))
    return results
