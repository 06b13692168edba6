"""Recompute the results of one cell from its images, data and model, and compare them with the ledger."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.core.model_calls import classify
from assay.core.model_state import preserve_state, seeded
from assay.core.outcome import MEASURES, TOLERANCE, Status
from assay.data.dataset import Dataset
from assay.defences.adaptation import adaptation_of
from assay.store.columns import Cell, Shard
from assay.store.image_store import resolve_inside
from assay.util.files import sha256
from assay.util.tensors import read_tensors

_BATCH = 37
"""Images at once, another number than any attack has used: what depends on the batch shows."""
_DRAWS = 30
"""How often images are shown to a random model."""
_OFTEN, _SELDOM = 0.5, 0.1
"""Shares of the time in which images fool a random model: an image below the first is counted, a cell below the second
is a fault. One draw of the referee accepts images near the boundary that fool the model in a third of all draws."""
_ATTACKED = tuple(int(status) for status in Status if status not in (Status.MISCLASSIFIED, Status.NOT_RUN))
_DECIDED = (int(Status.MISCLASSIFIED), int(Status.BROKEN), int(Status.SURVIVED))


@dataclass(frozen=True)
class CleanPredictions:
    """A model and its predicted classes for the clean images.

    Attributes:
        model: in evaluation mode.
        clean: its classes for all images of the data, -1 where two classes are as good as equal; None for a model whose
            answers are random.
    """

    model: nn.Module
    clean: Tensor | None


@dataclass
class RecheckResult:
    """The result of rechecking a cell.

    Attributes:
        faults: what is wrong, as sentences.
        measured: adversarial images that were measured again.
        flipped: those within rounding of the boundary that the model takes for the true class now.
        without_image: broken samples whose image was not kept, so that nothing can be measured.
    """

    faults: list[str] = field(default_factory=list)
    measured: int = 0
    flipped: int = 0
    without_image: int = 0


def predict_clean(model: nn.Module, data: Dataset) -> CleanPredictions:
    """A model with its classes for the clean images.

    Raises:
        Exception: whatever the model raises, on some of them.
    """
    logits = _logits(model, data.images())
    again = _logits(model, data.images(slice(0, _BATCH)), seed=1)
    if not torch.allclose(logits[:_BATCH], again, rtol=1e-4, atol=1e-6, equal_nan=True):
        return CleanPredictions(model, None)
    best = logits.topk(2, 1).values
    near = best[:, 0] - best[:, 1] <= _rounding_margin(logits)
    return CleanPredictions(model, torch.where(near | ~logits.isfinite().all(1), -1, logits.argmax(1)))


def recheck_cell(
    folder: Path,
    label: str,
    cell: Cell,
    columns: Mapping[str, Any],
    errors: Mapping[int, str],
    shards: Sequence[Shard],
    data: Dataset,
    clean_predictions: CleanPredictions | None,
    *,
    complete: bool,
) -> RecheckResult:
    """Compare the results of a cell with all that can be recomputed.

    Args:
        folder: the run's.
        label: model and attack, for sentences.
        cell: the cell.
        columns: its numbers.
        errors: its messages by sample.
        shards: its stored shards.
        data: what was attacked.
        clean_predictions: the model; None if it is not available.
        complete: whether the run has come to its end: then every sample has a result.
    """
    if cell.n != len(data):
        return RecheckResult([f"{label}: {cell.n} samples, where the data have {len(data)}"])
    if any(shard.first < 0 or shard.first + shard.count > cell.n for shard in shards):
        return RecheckResult([f"{label}: a shard reaches beyond the {cell.n} samples"])
    result = RecheckResult(
        [f"{label}: {text}" for text in _check_columns(cell, columns, errors, data, complete=complete)]
    )
    if clean_predictions is not None and clean_predictions.clean is not None:
        result.faults += [f"{label}: {text}" for text in _check_clean_predictions(columns, clean_predictions.clean)]
    for shard in shards:
        result.faults += [f"{label}: {text}" for text in _check_image_presence(folder, shard, columns)]
        at, images = _images(folder, shard)
        if shard.keep in (None, "none"):  # None: a ledger of the first version, which may have kept them for all that
            status = columns["status"][shard.first : shard.first + shard.count]
            result.without_image += int((np.delete(status, at.numpy()) == int(Status.BROKEN)).sum())
        if len(at):
            index = at + shard.first
            result.faults += [f"{label}: {text}" for text in _check_norms(images, index, columns, data)]
            result.measured += int((torch.from_numpy(columns["status"])[index] == int(Status.BROKEN)).sum())
            if clean_predictions is not None:
                image_faults, flipped = _check_predictions(images, index, columns, data, clean_predictions.model)
                result.faults += [f"{label}: {text}" for text in image_faults]
                result.flipped += flipped
    return result


def _check_columns(
    cell: Cell, columns: Mapping[str, Any], errors: Mapping[int, str], data: Dataset, *, complete: bool
) -> Iterator[str]:
    """Contradictions within the columns, and with the data."""
    status, y, size = columns["status"], data.y.numpy(), columns["size"]
    there = status != int(Status.NOT_RUN)
    decided = np.isin(status, _DECIDED)
    right = columns["predicted_clean"] == y
    broken, survived = status == int(Status.BROKEN), status == int(Status.SURVIVED)
    stages = len(cell.stages)
    rules = {
        "has a status that there is not": there & ~np.isin(status, [int(s) for s in Status]),
        "has a label other than that of the data": there & (columns["y"] != y),
        "has a target, which no run sets": there & (columns["target"] != -1),
        "is called misclassified, and its clean prediction is right": (status == int(Status.MISCLASSIFIED)) & right,
        "was attacked, and its clean prediction is wrong": (broken | survived) & ~right,
        "is called undecided, and its clean prediction is wrong": ~decided & (columns["predicted_clean"] >= 0) & ~right,
        "has a clean prediction that is no class": decided & (columns["predicted_clean"] < 0),
        "is broken with a margin below 0": broken & ~(columns["margin"] >= 0),
        "is broken with a prediction that is its label": broken & (columns["predicted"] == y),
        "is broken by a perturbation beyond its budget": broken & (size > 1 + TOLERANCE),
        "is broken by no stage of the attack": broken & ((columns["stage"] < 0) | (columns["stage"] >= stages)),
        "survived, and a stage of the attack has broken it": survived & (columns["stage"] != -1),
        "has a negative count": there & (np.min([columns[c] for c in ("steps", "forwards", "backwards")], axis=0) < 0),
        "has a negative size": there & (np.nanmin([np.zeros(len(size)), *(columns[m] for m in MEASURES)], axis=0) < 0),
    }
    if complete:
        begun = columns["predicted_clean"] >= 0  # an attack that has no image to start from leaves a sample not run
        rules["has no result, though the run is finished"] = ~there & ~begun
    raised = np.zeros(len(status), bool)
    raised[list(errors)] = True
    rules["has an error's message and another status, or the status and no message"] = there & (
        raised != (status == int(Status.ERROR))
    )
    for text, wrong in rules.items():
        yield from (f"sample {i} {text}" for i in np.flatnonzero(wrong))


def _check_clean_predictions(columns: Mapping[str, Any], clean: Tensor) -> Iterator[str]:
    """Clean predictions that the model does not make."""
    recorded, now = columns["predicted_clean"], clean.numpy()
    for i in np.flatnonzero((recorded >= 0) & (now >= 0) & (recorded != now)):
        yield f"the model takes clean sample {i} for class {now[i]}, the ledger says {recorded[i]}"


def _check_image_presence(folder: Path, shard: Shard, columns: Mapping[str, Any]) -> Iterator[str]:
    """Samples whose image ought to have been kept, and was not, or the other way round."""
    status = columns["status"][shard.first : shard.first + shard.count]
    expected = np.isin(status, _ATTACKED) if shard.keep == "all" else status == int(Status.BROKEN)
    at, _ = _images(folder, shard)
    there = np.zeros(shard.count, bool)
    there[at.numpy()] = True
    for i in np.flatnonzero(there & ~np.isin(status, _ATTACKED)):
        yield f"sample {shard.first + i} is said not to have been attacked, and has an image"
    if shard.keep in (None, "none"):
        return
    for i in np.flatnonzero(expected & ~there):
        yield f"sample {shard.first + i} has no image, though images were kept"


def _images(folder: Path, shard: Shard) -> tuple[Tensor, Tensor]:
    """Sample indices within the shard and the stored images; empty if the file has changed."""
    nothing = torch.zeros(0, dtype=torch.long), torch.zeros(0)
    path = None if shard.images is None else resolve_inside(folder, shard.images)
    if path is None or not path.is_file() or sha256(path) != shard.sha256:
        return nothing
    try:
        _, tensors = read_tensors(path, "assay-images", "images")
    except ValueError:
        return nothing
    at = tensors["sample"]
    return (at, tensors["images"]) if len(at) and int(at.max()) < shard.count and int(at.min()) >= 0 else nothing


def _check_norms(images: Tensor, index: Tensor, columns: Mapping[str, Any], data: Dataset) -> Iterator[str]:
    """Images outside the box, and norms that are not those in the ledger."""
    delta = (images.double() - data.images(index).double()).abs()
    changed = delta > 0
    norms = {
        "linf": delta.flatten(1).amax(1),
        "l2": delta.flatten(1).norm(dim=1),
        "l1": delta.flatten(1).sum(1),
        "l0": changed.flatten(1).sum(1),
        "pixels": changed.any(1).flatten(1).sum(1),
    }
    status = columns["status"][index.numpy()]
    outside = (~images.isfinite() | (images < 0) | (images > 1)).flatten(1).any(1)
    for place, sample in enumerate(index.tolist()):
        if status[place] not in (int(Status.BROKEN), int(Status.SURVIVED)):
            continue
        if outside[place]:
            yield f"the image of sample {sample} leaves [0, 1]"
        for norm, computed in norms.items():
            if not np.isclose(float(computed[place]), columns[norm][sample], rtol=1e-5, atol=1e-6):
                yield (
                    f"the {norm} norm of sample {sample} is {float(computed[place]):.6g}, "
                    f"the ledger says {columns[norm][sample]:.6g}"
                )


def _check_predictions(
    images: Tensor, index: Tensor, columns: Mapping[str, Any], data: Dataset, model: nn.Module
) -> tuple[list[str], int]:
    """Faults when the model classifies the images again, and how many within rounding no longer fool it."""
    status = torch.from_numpy(columns["status"][index.numpy()])
    if not len(index):
        return [], 0
    images = images.nan_to_num(0, 0, 0)  # of a sample that is invalid
    target = torch.from_numpy(columns["target"][index.numpy()])
    adaptation = adaptation_of(model)

    def once(seed: int) -> tuple[Tensor, Tensor]:
        logits = _logits(model, images, seed)
        fooled = torch.where(target < 0, logits.argmax(1) != data.y[index], logits.argmax(1) == target)
        if adaptation is not None and adaptation.test is not None:  # a refused image is no success
            fooled = fooled & adaptation.test(logits, images)
        return logits, fooled

    broken = status == int(Status.BROKEN)
    (logits, fooled), (again, _) = once(0), once(1)
    if not torch.allclose(logits, again, rtol=1e-4, atol=1e-6, equal_nan=True):
        return _check_random_model(lambda seed: once(seed)[1][broken], fooled[broken])
    clear, best = _rounding_margin(logits), logits.topk(2, 1).values
    margin = torch.from_numpy(columns["margin"][index.numpy()])
    missed, is_clear = (broken & ~fooled).nonzero().squeeze(1).tolist(), best[:, 0] - best[:, 1] > clear
    faults = [f"the image of sample {int(index[i])} does not fool the model" for i in missed if margin[i] > clear]
    flipped = len(missed) - len(faults)
    size = torch.from_numpy(columns["size"][index.numpy()])
    missing = torch.isin(status, torch.tensor([int(s) for s in (Status.SURVIVED, Status.INVALID, Status.ERROR)]))
    hidden = (missing & fooled & is_clear & ~(size > 1 + TOLERANCE)).nonzero().squeeze(1).tolist()
    faults += [
        f"sample {int(index[i])} is called {Status(int(status[i])).label}, and its image fools the model"
        for i in hidden
    ]
    recorded = torch.from_numpy(columns["predicted"][index.numpy()])
    decided = broken | (status == int(Status.SURVIVED))
    changed = ((recorded != logits.argmax(1)) & is_clear & decided).nonzero().squeeze(1).tolist()
    faults += [
        f"the model takes the image of sample {int(index[i])} for class {int(logits[i].argmax())}, the ledger "
        f"says {int(recorded[i])}"
        for i in changed
        if i not in missed
    ]
    return faults, flipped


def misses(model: nn.Module, images: Tensor, y: Tensor) -> tuple[Tensor, int]:
    """Which images that ought to fool a model clearly do not, ``(n,)``, and how many do not within rounding."""
    logits = _logits(model, images)
    best, right = logits.topk(2, 1).values, logits.argmax(1) == y
    is_clear = best[:, 0] - best[:, 1] > _rounding_margin(logits)
    return right & is_clear, int((right & ~is_clear).sum())


def _check_random_model(draw: Callable[[int], Tensor], first: Tensor) -> tuple[list[str], int]:
    """What is wrong with images that ought to fool a random model, and how many of them seldom do."""
    if not len(first):
        return [], 0
    fooled = torch.stack([first, *(draw(seed) for seed in range(1, _DRAWS))])
    share, rare = float(fooled.float().mean()), int((fooled.float().mean(0) < _OFTEN).sum())
    fault = f"the model is random, and the images that are said to fool it do so {100 * share:.0f} % of the time"
    return [fault] if share < _SELDOM else [], rare


def _logits(model: nn.Module, images: Tensor, seed: int = 0) -> Tensor:
    with preserve_state(model), torch.no_grad(), seeded(seed, {images.device}):
        return torch.cat([classify(model, part) for part in images.split(_BATCH)])


def _rounding_margin(logits: Tensor) -> float:
    """A difference between logits that is more than rounding."""
    return 1e-3 * float(logits.std(1).median())
