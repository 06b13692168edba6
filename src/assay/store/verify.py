"""Whether a run's folder is what it says: hashes, the ledger's own order, and every adversarial image measured anew."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from assay.core.call_context import in_neutral_context
from assay.data import Dataset
from assay.models import digest, is_factory
from assay.models.weights import is_weights_file
from assay.store.cell_key import key_of
from assay.store.columns import Words
from assay.store.digests import stray_rows
from assay.store.image_store import FOLDER, inside, is_of_run, run_data
from assay.store.ledger import Entry, Ledger
from assay.store.manifest import MANIFEST
from assay.store.model_source import Source
from assay.store.recheck import Known, Rechecked, known_of, recheck
from assay.store.summary import summary_text
from assay.store.tables import csv_text, parquet_bytes
from assay.util.files import run_of, sha256


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


@in_neutral_context
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
        if faults:  # nothing more can be read for sure
            return Verified(tuple(faults), 0, 0, 0, ())
        changed = [f"ledger: {text}" for text in ledger.damage().texts]
        try:
            return _whole(folder, ledger, [*faults, *changed], notice, models=models, trust=trust)
        except (ValueError, KeyError, TypeError, IndexError, MemoryError, sqlite3.Error) as error:
            reason = " ".join(str(error).split())[:200]
            rest = f"the rest cannot be read and was not checked ({type(error).__name__}: {reason})"
            return Verified((*faults, *changed, f"ledger: {rest}"), 0, 0, 0, ())


def _whole(
    folder: Path, ledger: Ledger, faults: list[str], notice: Callable[[str], None], *, models: bool, trust: bool
) -> Verified:
    """All that can be checked in a ledger whose structure is whole; ``faults`` are known already."""
    faults += [f"ledger: {text}" for text in _rows(ledger)]
    notice("files")
    more, files, skipped = _hashes(folder, ledger)
    faults += more
    if not ledger.sealed:
        skipped.append("digests of rows: a ledger of the first version has none; the run's own command adds them")
    measured, flipped, unseen = 0, 0, 0
    try:
        by_model = _by_model(ledger)
    except ValueError as error:
        faults.append(str(error))
        by_model = {}
    for (model, data), cells in by_model.items():
        notice(f"{model} on {data}")
        for found in _results(folder, ledger, model, data, cells, faults, skipped, models=models, trust=trust):
            faults += found.faults
            measured, flipped = measured + found.measured, flipped + found.flipped
            unseen += found.unseen
    if unseen:
        skipped.append(f"{unseen} broken samples: their images were not kept, so no model can be shown them again")
    notice("tables")
    faults += _tables(folder, ledger)
    return Verified(tuple(faults), files, measured, flipped, tuple(skipped))


def _rows(ledger: Ledger) -> Iterator[str]:
    """What the ledger's rows say against their digests, and against each other."""
    for entry in ledger.cells():
        if entry.key != key_of(entry.fields):
            yield f"cell {entry.id} is not what its key says"
    for cell, count in stray_rows(ledger.connection).items():
        yield f"cell {cell}: {count} samples belong to no shard"
    for entry, words in ledger.plan():
        if str(words.seed) != str(entry.fields.get("seed", words.seed)):
            yield f"the plan says seed {words.seed} for {words.attack}, its results are of {entry.fields['seed']}"
    planned = ledger.connection.execute("SELECT count(*) FROM plan").fetchone()[0]
    if ledger.meta("ended") is True and not planned:
        yield "the run is finished, and its plan is empty"


def _tables(folder: Path, ledger: Ledger) -> list[str]:
    """Tables that are not what the ledger says; a run that is not finished may have older ones, or none."""
    if not (folder / MANIFEST).is_file():
        missing = ledger.meta("ended") is True
        return [f"{MANIFEST}: missing, though the run is finished"] if missing else []
    try:
        expected = {"samples.csv": csv_text(ledger).encode(), "summary.json": summary_text(folder, ledger).encode()}
    except (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
        return [f"tables: cannot be made from the ledger to be compared: {error}"]
    faults = [f"{name}: not what the ledger says" for name, content in expected.items()
              if not (folder / name).is_file() or (folder / name).read_bytes() != content]  # fmt: skip
    return faults + _parquet(folder / "samples.parquet", ledger)


def _parquet(path: Path, ledger: Ledger) -> list[str]:
    content = parquet_bytes(ledger) if path.is_file() else None
    if content is None:
        return []
    import pyarrow as pa
    from pyarrow import parquet

    if path.read_bytes() == content:
        return []
    try:  # another version of pyarrow writes the same numbers in other bytes; repr, as no NaN equals another
        mine, theirs = (parquet.read_table(source).to_pydict() for source in (path, pa.BufferReader(content)))
        same = repr(mine) == repr(theirs)
    except (OSError, ValueError, pa.ArrowException):
        same = False
    return [] if same else [f"{path.name}: not what the ledger says"]


def _results(
    folder: Path,
    ledger: Ledger,
    model: str,
    data: str,
    cells: list[tuple[Entry, Words]],
    faults: list[str],
    skipped: list[str],
    *,
    models: bool,
    trust: bool,
) -> Iterator[Rechecked]:
    """Each cell of a model, checked anew."""
    digest_of, sources = cells[0][0].data, ledger.meta("sources") or {}
    about = ledger.data().get(digest_of)
    if about is None:
        faults.append(f"{model} on {data}: the ledger does not say where its data are")
        return
    name = str(about["file"])
    if not inside(folder, name).is_file():
        faults.append(f"{name}: missing, so nothing can be compared with it")
        return
    try:
        images = run_data(folder, digest_of, about)
    except ValueError as error:
        faults.append(f"{name}: {error}")
        return
    network = _model(folder, model, data, sources, cells, faults, skipped, trust=trust) if models else None
    known = None if network is None else _known(model, network, images, skipped)
    ended, parts = ledger.meta("ended") is True, ledger.parts()
    for entry, words in cells:
        yield recheck(folder, f"{words.model}, {words.attack}", entry, ledger.columns(entry), ledger.errors(entry),
                      parts.get(entry.id, []), images, known, adapted=bool(entry.fields["adaptation"]),
                      complete=ended)  # fmt: skip


def _known(name: str, network: nn.Module, images: Dataset, skipped: list[str]) -> Known | None:
    """The model with its answers; None, and a sentence, where it raises an error on some image."""
    try:
        return known_of(network, images)
    except Exception as error:  # of the model: a run records it, and so does this
        text = " ".join(str(error).split())[:200]
        skipped.append(f"{name}: raises {type(error).__name__} ({text}), so its images are not shown to it again")
        return None


def _hashes(folder: Path, ledger: Ledger) -> tuple[list[str], int, list[str]]:
    faults, right, skipped = [], 0, list[str]()
    expected = {part.images: part.sha256 for parts in ledger.parts().values() for part in parts if part.images}
    try:
        told = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        digests = ledger.meta("manifest")
        if digests is not None and sha256(folder / MANIFEST) not in digests:
            faults.append(f"{MANIFEST}: changed since it was written")
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
            (skipped if name.startswith("models/") else faults).append(f"{name}: missing")
        elif sha256(path) != wanted:
            faults.append(f"{name}: changed since it was written")
        else:
            right += 1
    faults += [f"{FOLDER}/{name}: an image file of this run that no part names" for name in _orphans(folder, expected)]
    return faults, right, skipped


def _orphans(folder: Path, named: Mapping[str, str | None]) -> list[str]:
    """Files of images that this run has written and no part of it names; none while a run is going on."""
    run = run_of(folder)
    if not (folder / MANIFEST).is_file():
        return []
    return sorted(path.name for path in (folder / FOLDER).glob("*.safetensors")
                  if f"{FOLDER}/{path.name}" not in named and is_of_run(path, run))  # fmt: skip


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
    faults: list[str],
    skipped: list[str],
    *,
    trust: bool,
) -> nn.Module | None:
    """The model that a run attacked, if it can be had and is still the same."""
    told = sources.get(f"{data}/{name}")
    if told is not None and not trust and _runs_code(told):
        what = f"--arch {dict(told['recipe'])['arch']}" if is_weights_file(str(told["spec"])) else told["spec"]
        skipped.append(f"{name}: {what} is code or a download; --trust gets it and shows it its images again")
        return None
    if told is None:
        skipped.append(f"{name}: it was handed over in memory, so its images are not shown to it again")
        return None
    try:
        model = Source.told(told, folder).make()
    except FileNotFoundError as error:
        skipped.append(f"{name}: cannot be loaded, so its images are not shown to it again: {error}")
        return None
    except (OSError, ValueError, ImportError, RuntimeError, KeyError, TypeError) as error:
        text = f"{name}: cannot be loaded, so its images are not shown to it again: {error}"
        (faults if told["inside"] else skipped).append(text)
        return None
    if digest(model) != cells[0][0].fields["model"]:
        text = f"{name}: its weights are others now, so its images are not shown to it again"
        (faults if told["inside"] else skipped).append(text)
        return None
    return model


def _runs_code(source: Mapping[str, Any]) -> bool:
    """Whether a model is had by running code that the ledger names, or from a hub."""
    spec = str(source["spec"])
    return not is_weights_file(spec) or is_factory(spec, dict(source["recipe"]))
