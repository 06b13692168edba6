"""Repair a run's folder before it resumes: drop damaged rows and images, so that they are computed again."""

from collections.abc import Iterator
from pathlib import Path

from assay.store.cell_key import key_of
from assay.store.certified import image_files
from assay.store.digests import stray_rows
from assay.store.edits import remove_row, remove_stray_samples
from assay.store.image_store import DATA, FOLDER, is_of_run, resolve_inside
from assay.store.ledger import Ledger
from assay.util.files import run_of, sha256, sweep
from assay.util.validate import described, reject


def repair(ledger: Ledger, folder: Path) -> list[str]:
    """Drop rows and images that changed since they were written, and images that no shard refers to.

    Only files that this run has written are removed.

    Returns:
        A sentence for each thing that was dropped.

    Raises:
        ValueError: the ledger's file is damaged in its structure.
    """
    for place in (folder, folder / FOLDER, folder / DATA):
        if place.is_dir():
            sweep(place)
    errors = ledger.integrity_errors()
    if errors:
        reject(
            "run",
            f"a whole ledger at {ledger.path} (restore it from a copy, or start a new run with another -o)",
            described(f"a damaged one: {errors[0]}"),
        )
    query = "SELECT key, first, images FROM shard JOIN cell ON cell.id = shard.cell WHERE images IS NOT NULL"
    named = {(name, f"{key}-{first}") for key, first, name in ledger.connection.execute(query)}
    messages = list(_drop_damaged_rows(ledger))
    remaining = {shard.images for parts in ledger.shards().values() for shard in parts if shard.images is not None}
    for name, stem in named:
        if name not in remaining:
            _remove(folder, str(name), stem)
    ledger.is_verified = True
    return [*messages, *_drop_damaged_images(ledger, folder)]


def _drop_damaged_rows(ledger: Ledger) -> Iterator[str]:
    """Drop rows that are not as they were written."""
    damage = ledger.find_damage()
    for name, text in zip(damage.names, damage.texts, strict=True):
        table, _, key = name.partition("/")
        remove_row(ledger, table, *(key.split("/") if table == "shard" else (key,) if key else ()))
        if table == "cell":
            yield f"{text}: its samples are attacked again"
        elif table == "shard":
            yield f"{text}: they are attacked again"
        elif table == "answer":
            yield f"{text}: it is computed again"
    for cell in ledger.cells():
        if cell.key != key_of(cell.fields):
            remove_row(ledger, "cell", str(cell.id))
            yield f"cell {cell.id} is not what its key says: its samples are attacked again"
    known = {cell.id for cell in ledger.cells()}
    for cell_id in {*ledger.shards(), *stray_rows(ledger.connection)} - known:
        remove_row(ledger, "cell", str(cell_id))
    for cell_id, count in stray_rows(ledger.connection).items():
        remove_stray_samples(ledger, cell_id)
        yield f"cell {cell_id}: {count} rows that belong to no shard are dropped"


def _drop_damaged_images(ledger: Ledger, folder: Path) -> Iterator[str]:
    """Drop results whose images are lost or damaged, and images of this run that none refers to."""
    named: set[str] = set()
    keys = {cell.id: cell.key for cell in ledger.cells()}
    for cell_id, shards in ledger.shards().items():
        for shard in shards:
            if shard.images is None:
                continue
            path = resolve_inside(folder, shard.images)
            if path.is_file() and sha256(path) == shard.sha256:
                named.add(path.name)
                continue
            ledger.drop_shard(cell_id, shard.first)
            _remove(folder, shard.images, f"{keys.get(cell_id, '')}-{shard.first}")
            yield (
                f"{shard.images} is lost or damaged: samples {shard.first} to {shard.first + shard.count - 1} "
                "are attacked again"
            )
    for key, (name, digest) in image_files(ledger).items():
        path = resolve_inside(folder, name)
        if path.is_file() and sha256(path) == digest:
            named.add(path.name)
            continue
        remove_row(ledger, "answer", key)
        _remove(folder, name, key)
        yield f"{name} is lost or damaged: its samples are certified again"
    run = run_of(folder)
    for path in (folder / FOLDER).glob("*.safetensors"):
        if path.name not in named and is_of_run(path, run):
            path.unlink()


def _remove(folder: Path, name: str, own: str) -> None:
    """Remove a file of images that the ledger has named, if it has the name that the run gives to such a file."""
    path = (folder / name).resolve()
    if path.parent == (folder / FOLDER).resolve() and path.name in (f"{own}.safetensors", f"{own}-again.safetensors"):
        path.unlink(missing_ok=True)
