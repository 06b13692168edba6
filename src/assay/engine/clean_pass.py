"""The clean pass: what the model says of every image before anything is attacked."""

import torch
from torch import Tensor

from assay.core.oracle import Oracle
from assay.core.outcome import Status
from assay.core.types import Flag, Logits
from assay.engine.batching import Splitter, error_text
from assay.engine.referee import Record


def predict_clean(oracle: Oracle, splitter: Splitter, record: Record) -> tuple[Logits, Flag]:
    """Predict every clean image; close those in the record that are wrong, not finite, or raised an error.

    Args:
        oracle: the model.
        splitter: runs the batches.
        record: of all ``n`` samples.

    Returns:
        Clean logits ``(n, k)`` on the CPU (zeros for samples that raised an error), and which samples are to be
        attacked, ``(n,)``.
    """
    problem = record.problem

    def work(part: Tensor) -> Tensor:
        return oracle.verify(problem.x[part]).cpu()

    def fail(sample: int, failure: Exception) -> None:
        record.errors[sample] = error_text(failure)

    parts = splitter.run(torch.arange(len(problem.x)), work, fail)
    width = parts[0][1].shape[1] if parts else 2
    logits = torch.zeros(len(problem.x), width, dtype=parts[0][1].dtype if parts else torch.float32)
    seen = torch.zeros(len(problem.x), dtype=torch.bool)
    for part, result in parts:
        logits[part], seen[part] = result, True
    return logits, _judge(record, logits, seen)


def _judge(record: Record, logits: Logits, seen: Flag) -> Flag:
    """Write down the clean predictions; returns which samples are right and have somewhere to go."""
    problem = record.problem
    finite = logits.isfinite().all(1) & problem.x.flatten(1).isfinite().all(1) if len(logits) else seen
    predicted = torch.where(finite & seen, logits.argmax(1), -1) if len(logits) else record.predicted
    record.predicted_clean, record.predicted = predicted, predicted.clone()
    record.checks += seen.long()
    right = finite & seen & (predicted == problem.y)
    aimless = right & problem.goal.strict & (problem.target == problem.y)
    record.status[seen & finite & ~right] = int(Status.MISCLASSIFIED)
    record.status[seen & ~finite] = int(Status.INVALID)
    record.status[~seen] = int(Status.ERROR)
    if bool(aimless.any()):
        record.events.append(f"{int(aimless.sum())} samples were not attacked: their target is their own label")
    return right & ~aimless
