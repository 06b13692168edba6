"""What is in a run's folder, compared with its digests before a run goes on; what is damaged is done again."""

from collections.abc import Iterator
from pathlib import Path

from assay.store.cell_key import key_of
from assay.store.digests import stray_rows
from assay.store.edits import remove, remove_strays
from assay.store.image_store import DATA, FOLDER, inside, is_of_run
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
    broken = ledger.faults()
    if broken:
        reject("run", f"a whole ledger at {ledger.path} (restore it from a copy, or start a new run with another -o)",
               described(f"a damaged one: {broken[0]}"))  # fmt: skip
    query = "SELECT key, first, images FROM shard JOIN cell ON cell.id = shard.cell WHERE images IS NOT NULL"
    named = {(name, f"{key}-{first}") for key, first, name in ledger.connection.execute(query)}
    told = list(_rows(ledger))
    left = {part.images for parts in ledger.parts().values() for part in parts if part.images is not None}
    for name, own in named:
        if name not in left:
            _remove(folder, str(name), own)
    ledger.compared = True
    return [*told, *_images(ledger, folder)]


def _rows(ledger: Ledger) -> Iterator[str]:
    """Drop rows that are not as they were written."""
    wrong = ledger.damage()
    for name, text in zip(wrong.names, wrong.texts, strict=True):
        table, _, key = name.partition("/")
        remove(ledger, table, *(key.split("/") if table == "shard" else (key,) if key else ()))
        if table == "cell":
            yield f"{text}: its samples are attacked again"
        elif table == "shard":
            yield f"{text}: they are attacked again"
        elif table == "answer":
            yield f"{text}: it is computed again"
    for entry in ledger.cells():
        if entry.key != key_of(entry.fields):
            remove(ledger, "cell", str(entry.id))
            yield f"cell {entry.id} is not what its key says: its samples are attacked again"
    known = {entry.id for entry in ledger.cells()}
    for cell in {*ledger.parts(), *stray_rows(ledger.connection)} - known:
        remove(ledger, "cell", str(cell))
    for cell, count in stray_rows(ledger.connection).items():
        remove_strays(ledger, cell)
        yield f"cell {cell}: {count} rows that belong to no shard are dropped"


def _images(ledger: Ledger, folder: Path) -> Iterator[str]:
    """Drop parts whose images are lost or damaged, and images of this run that no part names."""
    named: set[str] = set()
    keys = {entry.id: entry.key for entry in ledger.cells()}
    for cell, parts in ledger.parts().items():
        for part in parts:
            if part.images is None:
                continue
            path = inside(folder, part.images)
            if path.is_file() and sha256(path) == part.sha256:
                named.add(path.name)
                continue
            ledger.drop(cell, part.first)
            _remove(folder, part.images, f"{keys.get(cell, '')}-{part.first}")
            yield (f"{part.images} is lost or damaged: samples {part.first} to {part.first + part.count - 1} "
                   "are attacked again")  # fmt: skip
    run = run_of(folder)
    for path in (folder / FOLDER).glob("*.safetensors"):
        if path.name not in named and is_of_run(path, run):
            path.unlink()


def _remove(folder: Path, name: str, own: str) -> None:
    """Remove a file of images that the ledger has named, if it has the name that the run gives to such a file."""
    path = (folder / name).resolve()
    if path.parent == (folder / FOLDER).resolve() and path.name in (f"{own}.safetensors", f"{own}-again.safetensors"):
        path.unlink(missing_ok=True)
