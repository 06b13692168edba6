"""Whether a run's folder is what it says: hashes, the ledger's own order, and every adversarial image measured anew."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.core.guard import seeded, untouched
from assay.core.outcome import TOLERANCE, Status
from assay.core.tensors import read_tensors
from assay.data import Dataset
from assay.defences import adaptation_of
from assay.models import digest
from assay.runs.cells import NOT_ADAPTED
from assay.runs.finish import MANIFEST
from assay.runs.ledger import Entry, Ledger, Part
from assay.runs.pictures import inside, load_data, sha256
from assay.runs.records import Words
from assay.runs.work import Source

_WEIGHTS = (".safetensors", ".pt", ".pth")
_BATCH = 37
"""Images at once, another number than any attack has used: what depends on the batch shows."""
_DRAWS, _OFTEN = 10, 0.5
"""How often images are shown to a random model, and the share of the time in which they have to fool it together."""


@dataclass(frozen=True)
class Verified:
    """What a check of a folder has found.

    Attributes:
        faults: what is wrong, as sentences.
        files: files whose hash is right.
        measured: adversarial images that were measured anew.
        flipped: those that the model takes for the true class now: nearer to the boundary than rounding; of a random
            model those that fool it less than half of the time.
        skipped: what could not be checked, and why.
    """

    faults: tuple[str, ...]
    files: int
    measured: int
    flipped: int
    skipped: tuple[str, ...]


def verify(
    folder: str | Path, *, models: bool = True, trust: bool = False, notice: Callable[[str], None] = lambda _: None
) -> Verified:
    """Check a run's folder.

    Args:
        folder: the run's.
        models: measure adversarial images anew with the models; without, only hashes and sizes.
        trust: run code that the ledger names to get models (``package.module:factory``) and ask hubs for them; without,
            only weights files are loaded, which cannot execute anything.
        notice: told what is being checked.

    Returns:
        What was found. An image that no longer fools the model is a fault where its margin was clear, and counted where
        it was within rounding.

    Raises:
        FileNotFoundError: there is no run.
    """
    folder = Path(folder)
    with Ledger(folder) as ledger:
        notice("ledger")
        faults = [f"ledger: {text}" for text in ledger.faults()]
        notice("files")
        more, files, skipped = _hashes(folder, ledger)
        faults += more
        measured, flipped = 0, 0
        sources: Mapping[str, Any] = ledger.meta("sources") or {}
        parts = ledger.parts()
        for (model, data), cells in _by_model(ledger).items():
            notice(f"{model} on {data}")
            found = _model(folder, model, data, sources, cells, skipped, trust=trust) if models else None
            images = load_data(inside(folder, ledger.data()[cells[0][0].data]["file"]))
            for entry, words in cells:
                wrong, count, near = _cell(folder, ledger, entry, words, parts.get(entry.id, []), images, found)
                faults += wrong
                measured, flipped = measured + count, flipped + near
    return Verified(tuple(faults), files, measured, flipped, tuple(skipped))


def _hashes(folder: Path, ledger: Ledger) -> tuple[list[str], int, list[str]]:
    faults, right, skipped = [], 0, []
    expected = {part.images: part.sha256 for parts in ledger.parts().values() for part in parts if part.images}
    try:
        told = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        expected = {**{name: entry["sha256"] for name, entry in told.items()}, **expected}
    except FileNotFoundError:
        skipped.append("tables and report: the run is not finished, so there is no manifest")
    except (ValueError, KeyError, TypeError):
        faults.append(f"{MANIFEST}: not a manifest")
    root = folder.resolve()
    for name, wanted in expected.items():
        path = (folder / name).resolve()
        if not path.is_relative_to(root):
            faults.append(f"{name}: outside the run's folder")
        elif not path.is_file():
            faults.append(f"{name}: missing")
        elif sha256(path) != wanted:
            faults.append(f"{name}: changed since it was written")
        else:
            right += 1
    return faults, right, skipped


def _by_model(ledger: Ledger) -> dict[tuple[str, str], list[tuple[Entry, Words]]]:
    found: dict[tuple[str, str], list[tuple[Entry, Words]]] = {}
    for entry, words in ledger.plan():
        found.setdefault((words.model, words.data), []).append((entry, words))
    return found


def _model(
    folder: Path,
    name: str,
    data: str,
    sources: Mapping[str, Any],
    cells: list[tuple[Entry, Words]],
    skipped: list[str],
    *,
    trust: bool,
) -> nn.Module | None:
    """The model that a run attacked, if it can be had and is still the same."""
    told = sources.get(f"{data}/{name}")
    if told is not None and not trust and not str(told["spec"]).endswith(_WEIGHTS):
        skipped.append(f"{name}: {told['spec']} is code or a download; --trust gets it and shows it its images again")
        return None
    if told is None:
        skipped.append(f"{name}: it was handed over in memory, so its images are not shown to it again")
        return None
    try:
        model = Source.told(told, folder).make()
    except (OSError, ValueError, ImportError) as error:
        skipped.append(f"{name}: cannot be loaded, so its images are not shown to it again: {error}")
        return None
    if digest(model) != cells[0][0].fields["model"]:
        skipped.append(f"{name}: its weights are others now, so its images are not shown to it again")
        return None
    return model


def _cell(
    folder: Path, ledger: Ledger, entry: Entry, words: Words, parts: list[Part], data: Dataset, model: nn.Module | None
) -> tuple[list[str], int, int]:
    """Faults of one cell, images measured, and those that only rounding had broken."""
    label, faults, measured, flipped = f"{words.model}, {words.attack}", [], 0, 0
    columns = ledger.columns(entry)
    there = columns["status"] != int(Status.NOT_RUN)
    if not np.array_equal(columns["y"][there], data.y.numpy()[there]):
        faults.append(f"{label}: labels in the ledger are not those of the data")
    over = (columns["status"] == int(Status.BROKEN)) & (columns["size"] > 1 + TOLERANCE)
    faults += [f"{label}: sample {i} is broken by a perturbation of {columns['size'][i]:.4g} budgets"
               for i in np.flatnonzero(over)]  # fmt: skip
    for part in parts:
        path = inside(folder, part.images or "")
        if part.images is None or not path.is_file():
            continue
        try:
            _, tensors = read_tensors(path, "assay-images", "images")
        except ValueError as error:
            faults.append(f"{part.images}: {error}")
            continue
        at = tensors["sample"] + part.first
        broken = torch.from_numpy(columns["status"][at.numpy()] == int(Status.BROKEN))
        images, index = tensors["images"][broken], at[broken]
        wrong, near = _measured(label, images, index, columns, data, model,
                                adapted=NOT_ADAPTED not in words.attack)  # fmt: skip
        faults += wrong
        measured, flipped = measured + len(index), flipped + near
    return faults, measured, flipped


def _measured(
    label: str,
    images: Tensor,
    index: Tensor,
    columns: Mapping[str, Any],
    data: Dataset,
    model: nn.Module | None,
    *,
    adapted: bool,
) -> tuple[list[str], int]:
    faults = []
    delta = (images.double() - data.images(index).double()).flatten(1)
    sizes = {"linf": delta.abs().amax(1), "l2": delta.norm(dim=1)} if len(delta) else {}
    outside = (~images.isfinite() | (images < 0) | (images > 1)).flatten(1).any(1)
    for place, sample in enumerate(index.tolist()):
        if outside[place]:
            faults.append(f"{label}: the image of sample {sample} leaves [0, 1]")
        for norm, found in sizes.items():
            if not np.isclose(float(found[place]), columns[norm][sample], rtol=1e-5, atol=1e-6):
                faults.append(f"{label}: the {norm} norm of sample {sample} is {float(found[place]):.6g}, "
                              f"the ledger says {columns[norm][sample]:.6g}")  # fmt: skip
    if model is None or not len(index):
        return faults, 0
    doubts, flipped = _shown(label, images, index, columns, data, model, adapted=adapted)
    return faults + doubts, flipped


def _shown(
    label: str,
    images: Tensor,
    index: Tensor,
    columns: Mapping[str, Any],
    data: Dataset,
    model: nn.Module,
    *,
    adapted: bool,
) -> tuple[list[str], int]:
    """What is wrong when the model sees the images again, and how many do not fool it for all that."""
    target = torch.from_numpy(columns["target"][index.numpy()])
    how = adaptation_of(model) if adapted else None

    def once() -> tuple[Tensor, Tensor]:
        with untouched(model), torch.no_grad():
            logits = torch.cat([model(part) for part in images.split(_BATCH)])
        right = torch.where(target < 0, logits.argmax(1) != data.y[index], logits.argmax(1) == target)
        if how is not None and how.test is not None:  # a refused image is no success
            right = right & how.test(logits, images)
        return logits, right

    with seeded(0, {images.device}):
        (logits, right), (again, _) = once(), once()
        if not torch.allclose(logits, again, rtol=1e-4, atol=1e-6, equal_nan=True):
            share, rare = _by_chance(torch.stack([right, *(once()[1] for _ in range(_DRAWS - 1))]))
            told = f"{label}: the model is random, and images that fool it do so {100 * share:.0f} % of the time"
            return [told] if share < _OFTEN else [], rare
    clear = 1e-3 * float(logits.std(1).median())
    missed = (~right).nonzero().squeeze(1).tolist()
    faults = [f"{label}: the image of sample {int(index[place])} does not fool the model" for place in missed
              if columns["margin"][int(index[place])] > clear]  # fmt: skip
    return faults, len(missed) - len(faults)


def _by_chance(fooled: Tensor) -> tuple[float, int]:
    """Of draws × images, whether they fooled a random model: the share, and how many images seldom do."""
    return float(fooled.float().mean()), int((fooled.float().mean(0) < _OFTEN).sum())
