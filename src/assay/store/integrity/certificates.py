"""Compare certificates with all that can be recomputed: their numbers, and the images that break samples."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from assay.certify.certificates import Decision
from assay.core.outcome import TOLERANCE
from assay.core.rows import Rows, untargeted
from assay.data.dataset import Dataset
from assay.parts.balls import Ball, Split
from assay.store.certified import CERTIFICATES, region_of_json
from assay.store.image_store import resolve_inside
from assay.store.integrity.recheck import CleanPredictions, RecheckResult, misses
from assay.store.ledger import Ledger
from assay.util.files import sha256
from assay.util.tensors import read_tensors


def recheck_certificates(
    folder: Path, ledger: Ledger, model: str, data: str, images: Dataset, predictions: CleanPredictions | None
) -> RecheckResult:
    """Recheck the certificates of a model on some data.

    Args:
        folder: the run's.
        ledger: of the run.
        model: its name.
        data: their name.
        images: the data.
        predictions: the model; None if it is not available.
    """
    result = RecheckResult()
    for entry in ledger.meta(CERTIFICATES) or ():
        if (entry["model"], entry["data"]) != (model, data):
            continue
        label, first = f"{model}, certificates for {entry['budget']}", 0
        for key, count in entry["parts"]:
            record = ledger.answer(key)
            if record is not None:
                at = range(first, first + count)
                result.faults += [f"{label}: {text}" for text in _check_record(record, at, images)]
                _check_images(result, label, folder, entry, record, at, images, predictions)
            first += count
        if first != len(images):
            result.faults.append(f"{label}: {first} samples, where the data have {len(images)}")
    return result


def _check_record(record: Mapping[str, Any], at: range, data: Dataset) -> Iterator[str]:
    """Contradictions within the numbers, and with the labels."""
    names = ("decision", "by", "margin", "predicted", "seconds")
    if any(len(record[name]) != len(at) for name in names):
        yield f"samples {at.start} to {at.stop - 1} have another count of results"
        return
    labels = data.y[at.start : at.stop].tolist()
    for sample, y, decision, predicted, by in zip(
        at, labels, record["decision"], record["predicted"], record["by"], strict=True
    ):
        if decision not in [int(own) for own in Decision]:
            yield f"sample {sample} has a decision that there is not"
        elif (decision == int(Decision.MISCLASSIFIED)) != (predicted != y):
            what = Decision(decision).label
            yield f"sample {sample} is called {what}, and its clean prediction is {predicted} of {y}"
        elif (by >= 0) != (decision in (int(Decision.CERTIFIED), int(Decision.BROKEN))):
            yield f"sample {sample} is called {Decision(decision).label}, and decided by certifier {by}"


def _check_images(
    result: RecheckResult,
    label: str,
    folder: Path,
    entry: Mapping[str, Any],
    record: Mapping[str, Any],
    at: range,
    data: Dataset,
    predictions: CleanPredictions | None,
) -> None:
    """Images within the budget that the model does not classify right."""
    broken = [i for i, decision in enumerate(record["decision"]) if decision == int(Decision.BROKEN)]
    if not broken:
        return
    if not record.get("images"):
        result.without_image += len(broken)
        return
    path = resolve_inside(folder, record["images"])
    if not path.is_file() or sha256(path) != record["sha256"]:
        return  # an unreadable file is reported already
    _, tensors = read_tensors(path, "assay-images", "images")
    if tensors["sample"].tolist() != broken:
        result.faults.append(f"{label}: {record['images']} holds images of other samples than those that are broken")
        return
    index, moved = tensors["sample"] + at.start, tensors["images"].float()
    beyond = ~_inside(region_of_json(entry["set"]), moved, index, data)
    result.faults += [f"{label}: the image of sample {i} is beyond the budget" for i in index[beyond].tolist()]
    result.measured += len(index)
    if predictions is not None:
        missed, flipped = misses(predictions.model, moved, data.y[index])
        result.faults += [f"{label}: the image of sample {i} does not fool the model" for i in index[missed].tolist()]
        result.flipped += flipped


def _inside(region: Ball | Split, moved: Tensor, index: Tensor, data: Dataset) -> Tensor:
    """Whether images are in the budget and in the box."""
    x, mask = data.images(index), None if data.masks is None else data.masks[index].float()
    rows = Rows(x, untargeted(data.y[index]), index, mask=mask)
    box = ((moved >= 0) & (moved <= 1)).flatten(1).all(1)
    return box & (region.size(moved - x, rows) <= 1 + TOLERANCE)
