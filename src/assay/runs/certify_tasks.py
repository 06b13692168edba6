"""The certification of some samples, as executors run it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from assay.certify.api import certified
from assay.certify.certificates import Decision
from assay.certify.subject import Certifier
from assay.core.geometry import Geometry
from assay.data.dataset import Dataset
from assay.defences.adaptation import adaptation_of
from assay.runs.tasks import task_data, task_model
from assay.store.model_source import ModelSource
from assay.util.progress import Progress, ProgressCallback
from assay.util.validate import described, reject


@dataclass(frozen=True, eq=False)
class CertifyResult:
    """What certifiers say of some samples.

    Attributes:
        record: by name a number a sample, as JSON can hold it: ``decision``, ``by``, ``margin`` (None for no number),
            ``predicted``, ``seconds``; and ``events``.
        images: for samples that a certifier broke an image within the budget that is not classified right,
            ``(m, c, h, w)``.
        at: which samples these are, from the first of the task, ``(m,)``.
    """

    record: Mapping[str, Any]
    images: Tensor
    at: Tensor


@dataclass(frozen=True)
class CertifyTask:
    """Some samples of a model and a budget.

    Attributes:
        model: the model, or where to get it.
        data: the data, or the file that holds them.
        certifiers: one after another.
        geometry: the budget.
        label: model and budget, for people.
        first: index of the first sample.
        count: samples.
        identity: digest of the model that is meant.
        device: where it runs.
    """

    model: ModelSource | nn.Module
    data: Path | Dataset
    certifiers: tuple[Certifier, ...]
    geometry: Geometry
    label: str
    first: int
    count: int
    identity: str
    device: str

    def run_task(self, progress: ProgressCallback | None = None) -> CertifyResult:
        """Certify the samples.

        Args:
            progress: called with samples done.

        Returns:
            The certificates, with the images that break samples.
        """
        model, data = task_model(self.model, self.device, self.identity), task_data(self.data)
        index = slice(self.first, self.first + self.count)
        x, y = data.images(index), data.y[index]
        declared = adaptation_of(model)
        if declared is not None and declared.test is not None:
            reject("model", "one that answers every image, as bounds know no refusal", described(declared.how))

        def tell(done: int, total: int) -> None:
            if progress is not None:
                progress(Progress(f"certify {self.label}", done, total, 0, 0))

        result = certified(
            model,
            x,
            y,
            self.certifiers,
            eps=self.geometry,
            mask=data.masks[index] if data.masks is not None and self.geometry.needs else None,
            progress=tell,
        )
        margin = [value if abs(value) < float("inf") else None for value in result.margin.tolist()]
        at = (result.decision == int(Decision.BROKEN)).nonzero().squeeze(1)
        record = {
            "decision": result.decision.tolist(),
            "by": result.by.tolist(),
            "margin": [None if value is None or value != value else value for value in margin],
            "predicted": result.predicted.tolist(),
            "seconds": result.seconds.tolist(),
            "events": list(result.events),
        }
        return CertifyResult(record, result.images[at], at)
