"""What is in a run's folder, compared with its digests before a run goes on; what is damaged is done again."""

from collections.abc import Iterator
from pathlib import Path

from assay.store.cell_key import key_of
from assay.store.digests import stray_rows
from assay.store.edits import remove_row, remove_stray_samples
from assay.store.image_store import DATA, FOLDER, is_of_run, resolve_inside
from assay.store.ledger import Ledger
from assay.util.files import run_of, sha256, sweep
from assay.util.validate import described, reject


def repair(ledger: Ledger, folder: Path) -> list[str]:
    """Bring files and ledger together after a kill or damage: what is not as it was written is dropped.

    Only files that this run has written are removed.

    Returns:
        A sentence for each thing that was dropped.

    Raises:
        ValueError: the ledger's file is damaged in its structure.
    """
    for place in (folder, folder / FOLDER, folder / DATA):
        if place.is_dir():
            sweep(place)
    broken = ledger.integrity_errors()
    if broken:
        reject(
            "run",
            f"a whole ledger at {ledger.path} (restore it from a copy, or start a new run with another -o)",
            described(f"a damaged one: {broken[0]}"),
        )
    query = "SELECT key, first, images FROM shard JOIN cell ON cell.id = shard.cell WHERE images IS NOT NULL"
    named = {(name, f"{key}-{first}") for key, first, name in ledger.connection.execute(query)}
    text = list(_rows(ledger))
    left = {part.images for parts in ledger.shards().values() for part in parts if part.images is not None}
    for name, own in named:
        if name not in left:
            _remove(folder, str(name), own)
    ledger.compared = True
    return [*text, *_images(ledger, folder)]


def _rows(ledger: Ledger) -> Iterator[str]:
    """Drop rows that are not as they were written."""
    wrong = ledger.find_damage()
    for name, text in zip(wrong.names, wrong.texts, strict=True):
        table, _, key = name.partition("/")
        remove_row(ledger, table, *(key.split("/") if table == "shard" else (key,) if key else ()))
        if table == "cell":
            yield f"{text}: its samples are attacked again"
        elif table == "shard":
            yield f"{text}: they are attacked again"
        elif table == "answer":
            yield f"{text}: it is computed again"
    for entry in ledger.cells():
        if entry.key != key_of(entry.fields):
            remove_row(ledger, "cell", str(entry.id))
            yield f"cell {entry.id} is not what its key says: its samples are attacked again"
    known = {entry.id for entry in ledger.cells()}
    for cell in {*ledger.shards(), *stray_rows(ledger.connection)} - known:
        remove_row(ledger, "cell", str(cell))
    for cell, count in stray_rows(ledger.connection).items():
        remove_stray_samples(ledger, cell)
        yield f"cell {cell}: {count} rows that belong to no shard are dropped"


def _images(ledger: Ledger, folder: Path) -> Iterator[str]:
    """Drop parts whose images are lost or damaged, and images of this run that no part names."""
    named: set[str] = set()
    keys = {entry.id: entry.key for entry in ledger.cells()}
    for cell, parts in ledger.shards().items():
        for part in parts:
            if part.images is None:
                continue
            path = resolve_inside(folder, part.images)
            if path.is_file() and sha256(path) == part.sha256:
                named.add(path.name)
                continue
            ledger.drop_shard(cell, part.first)
            _remove(folder, part.images, f"{keys.get(cell, '')}-{part.first}")
            yield (
                f"{part.images} is lost or damaged: samples {part.first} to {part.first + part.count - 1} "
                "are attacked again"
            )
    run = run_of(folder)
    for path in (folder / FOLDER).glob("*.safetensors"):
        if path.name not in named and is_of_run(path, run):
            path.unlink()


def _remove(folder: Path, name: str, own: str) -> None:
    """Remove a file of images that the ledger has named, if it has the name that the run gives to such a file."""
    path = (folder / name).resolve()
    if path.parent == (folder / FOLDER).resolve() and path.name in (f"{own}.safetensors", f"{own}-again.safetensors"):
        path.unlink(missing_ok=True)
