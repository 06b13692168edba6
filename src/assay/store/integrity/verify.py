"""Verify a run's folder: file hashes, consistency of the ledger, and every adversarial image on its model."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from assay.core.call_context import in_neutral_context
from assay.data.dataset import Dataset
from assay.models.load import digest, is_factory
from assay.models.weights import is_weights_file
from assay.store.cell_key import key_of
from assay.store.certified import image_files
from assay.store.columns import Cell, CellNames
from assay.store.digests import stray_rows
from assay.store.image_store import FOLDER, is_of_run, resolve_inside, run_data
from assay.store.integrity.certificates import recheck_certificates
from assay.store.integrity.recheck import CleanPredictions, RecheckResult, predict_clean, recheck_cell
from assay.store.ledger import Ledger
from assay.store.manifest import MANIFEST
from assay.store.model_source import ModelSource
from assay.store.summary import summary_text
from assay.store.tables import csv_text, parquet_bytes
from assay.util.files import run_of, sha256
from assay.util.progress import SILENT, NoteCallback, Reporter


@dataclass(frozen=True)
class VerifyResult:
    """The result of verifying a folder.

    Attributes:
        faults: what is wrong, as sentences.
        files: files whose hash is right.
        measured: adversarial images that were measured again.
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
    folder: str | Path, *, models: bool = True, trust: bool = False, reporter: Reporter = SILENT
) -> VerifyResult:
    """Check a run's folder.

    Args:
        folder: the run's.
        models: measure adversarial images anew with the models; without, only hashes and sizes.
        trust: run code that the ledger names to get models (``package.module:factory``) and ask hubs for them; without,
            only weights files are loaded, which cannot execute anything.
        reporter: receives what is being checked.

    Returns:
        What was found. An image that no longer fools the model is a fault where its margin was clear, and counted where
        it was within rounding.

    Raises:
        FileNotFoundError: there is no run.
    """
    folder = Path(folder)
    with Ledger(folder) as ledger:
        reporter.note("ledger")
        faults = [f"ledger: {text}" for text in ledger.integrity_errors()]
        if faults:  # nothing else can be read reliably
            return VerifyResult(tuple(faults), 0, 0, 0, ())
        changed = [f"ledger: {text}" for text in ledger.find_damage().texts]
        try:
            return _verify_all(folder, ledger, [*faults, *changed], reporter.note, models=models, trust=trust)
        except (ValueError, KeyError, TypeError, IndexError, MemoryError, sqlite3.Error) as error:
            reason = " ".join(str(error).split())[:200]
            rest = f"the rest cannot be read and was not checked ({type(error).__name__}: {reason})"
            return VerifyResult((*faults, *changed, f"ledger: {rest}"), 0, 0, 0, ())


def _verify_all(
    folder: Path, ledger: Ledger, faults: list[str], note: NoteCallback, *, models: bool, trust: bool
) -> VerifyResult:
    """All that can be checked in a ledger whose structure is whole; ``faults`` are known already."""
    faults += [f"ledger: {text}" for text in _check_rows(ledger)]
    note("files")
    more, files, skipped = _check_files(folder, ledger)
    faults += more
    if not ledger.has_digests:
        skipped.append("digests of rows: a ledger of the first version has none; the run's own command adds them")
    measured, flipped, unseen = 0, 0, 0
    try:
        by_model = _by_model(ledger)
    except ValueError as error:
        faults.append(str(error))
        by_model = {}
    for (model, data), cells in by_model.items():
        note(f"{model} on {data}")
        for result in _recheck_cells(folder, ledger, model, data, cells, faults, skipped, models=models, trust=trust):
            faults += result.faults
            measured, flipped = measured + result.measured, flipped + result.flipped
            unseen += result.without_image
    if unseen:
        skipped.append(f"{unseen} broken samples: their images were not kept, so no model can be shown them again")
    note("tables")
    faults += _check_tables(folder, ledger)
    return VerifyResult(tuple(faults), files, measured, flipped, tuple(skipped))


def _check_rows(ledger: Ledger) -> Iterator[str]:
    """What the ledger's rows say against their digests, and against each other."""
    for cell in ledger.cells():
        if cell.key != key_of(cell.fields):
            yield f"cell {cell.id} is not what its key says"
    for cell_id, count in stray_rows(ledger.connection).items():
        yield f"cell {cell_id}: {count} samples belong to no shard"
    for cell, names in ledger.plan():
        if str(names.seed) != str(cell.fields.get("seed", names.seed)):
            yield f"the plan says seed {names.seed} for {names.attack}, its results are of {cell.fields['seed']}"
    planned = ledger.connection.execute("SELECT count(*) FROM plan").fetchone()[0]
    if ledger.meta("ended") is True and not planned:
        yield "the run is finished, and its plan is empty"


def _check_tables(folder: Path, ledger: Ledger) -> list[str]:
    """Tables that are not what the ledger says; a run that is not finished may have older ones, or none."""
    if not (folder / MANIFEST).is_file():
        missing = ledger.meta("ended") is True
        return [f"{MANIFEST}: missing, though the run is finished"] if missing else []
    try:
        expected = {"samples.csv": csv_text(ledger).encode(), "summary.json": summary_text(folder, ledger).encode()}
    except (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
        return [f"tables: cannot be made from the ledger to be compared: {error}"]
    faults = [
        f"{name}: not what the ledger says"
        for name, content in expected.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != content
    ]
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


def _recheck_cells(
    folder: Path,
    ledger: Ledger,
    model: str,
    data: str,
    cells: list[tuple[Cell, CellNames]],
    faults: list[str],
    skipped: list[str],
    *,
    models: bool,
    trust: bool,
) -> Iterator[RecheckResult]:
    """Each cell of a model, checked again."""
    digest_of, sources = cells[0][0].data, ledger.meta("sources") or {}
    about = ledger.data().get(digest_of)
    if about is None:
        faults.append(f"{model} on {data}: the ledger does not say where its data are")
        return
    name = str(about["file"])
    if not resolve_inside(folder, name).is_file():
        faults.append(f"{name}: missing, so nothing can be compared with it")
        return
    try:
        images = run_data(folder, digest_of, about)
    except ValueError as error:
        faults.append(f"{name}: {error}")
        return
    network = _model(folder, model, data, sources, cells, faults, skipped, trust=trust) if models else None
    clean_predictions = None if network is None else _clean_predictions(model, network, images, skipped)
    ended, shards = ledger.meta("ended") is True, ledger.shards()
    for cell, names in cells:
        yield recheck_cell(
            folder,
            f"{names.model}, {names.attack}",
            cell,
            ledger.columns(cell),
            ledger.errors(cell),
            shards.get(cell.id, []),
            images,
            clean_predictions,
            complete=ended,
        )
    yield recheck_certificates(folder, ledger, model, cells[0][1].data, images, clean_predictions)


def _clean_predictions(name: str, network: nn.Module, images: Dataset, skipped: list[str]) -> CleanPredictions | None:
    """The model with its answers; None, and a sentence, where it raises an error on some image."""
    try:
        return predict_clean(network, images)
    except Exception as error:  # of the model: a run records it, and so does this
        text = " ".join(str(error).split())[:200]
        skipped.append(f"{name}: raises {type(error).__name__} ({text}), so its images are not shown to it again")
        return None


def _check_files(folder: Path, ledger: Ledger) -> tuple[list[str], int, list[str]]:
    faults, matching, skipped = [], 0, list[str]()
    expected = {shard.images: shard.sha256 for shards in ledger.shards().values() for shard in shards if shard.images}
    expected |= dict(image_files(ledger).values())
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        digests = ledger.meta("manifest")
        if digests is not None and sha256(folder / MANIFEST) not in digests:
            faults.append(f"{MANIFEST}: modified after it was written")
        expected = {**{name: listed_file["sha256"] for name, listed_file in listed.items()}, **expected}
    except FileNotFoundError:
        skipped.append("tables and report: the run is not finished, so there is no manifest")
    except (ValueError, KeyError, TypeError):
        faults.append(f"{MANIFEST}: not a manifest")
    root = folder.resolve()
    for name, expected_digest in expected.items():
        path = (folder / name).resolve()
        if not path.is_relative_to(root):
            faults.append(f"{name}: outside the run's folder")
        elif not path.is_file():
            (skipped if name.startswith("models/") else faults).append(f"{name}: missing")
        elif sha256(path) != expected_digest:
            faults.append(f"{name}: changed since it was written")
        else:
            matching += 1
    faults += [
        f"{FOLDER}/{name}: an image file of this run that no shard refers to" for name in _orphans(folder, expected)
    ]
    return faults, matching, skipped


def _orphans(folder: Path, named: Mapping[str, str | None]) -> list[str]:
    """Image files of this run that no shard refers to; empty while a run is in progress."""
    run = run_of(folder)
    if not (folder / MANIFEST).is_file():
        return []
    return sorted(
        path.name
        for path in (folder / FOLDER).glob("*.safetensors")
        if f"{FOLDER}/{path.name}" not in named and is_of_run(path, run)
    )


def _by_model(ledger: Ledger) -> dict[tuple[str, str], list[tuple[Cell, CellNames]]]:
    cells: dict[tuple[str, str], list[tuple[Cell, CellNames]]] = {}
    for cell, names in ledger.plan():
        cells.setdefault((names.model, names.data), []).append((cell, names))
    return cells


def _model(
    folder: Path,
    name: str,
    data: str,
    sources: Mapping[str, Any],
    cells: list[tuple[Cell, CellNames]],
    faults: list[str],
    skipped: list[str],
    *,
    trust: bool,
) -> nn.Module | None:
    """Load the model that a run attacked; None if it cannot be loaded or has changed."""
    source = sources.get(f"{data}/{name}")
    if source is not None and not trust and _runs_code(source):
        what = f"--arch {dict(source['recipe'])['arch']}" if is_weights_file(str(source["spec"])) else source["spec"]
        skipped.append(f"{name}: {what} runs code or downloads a model; add --trust to load it and recheck its images")
        return None
    if source is None:
        skipped.append(f"{name}: it was passed as an object, so its images cannot be rechecked")
        return None
    try:
        model = ModelSource.from_json(source, folder).load()
    except FileNotFoundError as error:
        skipped.append(f"{name}: cannot be loaded, so its images are not shown to it again: {error}")
        return None
    except (OSError, ValueError, ImportError, RuntimeError, KeyError, TypeError) as error:
        text = f"{name}: cannot be loaded, so its images are not shown to it again: {error}"
        (faults if source["inside"] else skipped).append(text)
        return None
    if digest(model) != cells[0][0].fields["model"]:
        text = f"{name}: its weights changed, so its images are not rechecked"
        (faults if source["inside"] else skipped).append(text)
        return None
    return model


def _runs_code(source: Mapping[str, Any]) -> bool:
    """Whether loading a model runs code named in the ledger, or downloads it from a hub."""
    spec = str(source["spec"])
    return not is_weights_file(spec) or is_factory(spec, dict(source["recipe"]))
