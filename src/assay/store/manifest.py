"""The list of files that a run owns, and the manifest with their SHA-256 and size."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.store.ledger import DERIVED_FILES, Ledger
from assay.util.files import atomic_write, sha256
from assay.util.validate import described, reject

MANIFEST = "manifest.json"
WEIGHT_FILES = (
    "models/*/model.safetensors",
    "models/*/history.json",
    "models/*/trail/*.safetensors",
    "signatures/identifier.safetensors",
)
"""The weights that a study trains, relative to its folder."""
_REMADE = ("summary.json", "samples.csv", "samples.parquet", "report.html")


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the manifest says of each file; nothing where there is none that can be read."""
    try:
        entries: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return dict(entries)
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def listed_files(folder: Path) -> list[str]:
    """The files of a run whose ledger has lost the list of them: those that are as its manifest says."""
    try:
        kept = [name for name, about in read_manifest(folder).items() if sha256(folder / name) == about["sha256"]]
    except (OSError, KeyError, TypeError):
        return []
    return [*(name for name in DERIVED_FILES if name in kept), MANIFEST] if kept else []


def write_manifest(folder: Path, ledger: Ledger, previous: Mapping[str, Any]) -> Path:
    """Write SHA-256 and size of every file of a run, except the ledger.

    Args:
        folder: the run's.
        ledger: its ledger.
        previous: what the manifest has said of files that have not been made since.
    """
    registered = [folder / name for name in registered_files(ledger) if name != MANIFEST]
    inner = [path for pattern in WEIGHT_FILES for path in folder.glob(pattern)]
    kept = sorted({path for path in (*registered, *inner) if path.is_file()})
    lines = {
        path.relative_to(folder).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size} for path in kept
    }
    lines |= {name: about for name, about in previous.items() if name in lines and name not in _REMADE}
    text = json.dumps({"format": 1, "files": lines}, indent=1)
    ledger.set_meta(manifest=[*(ledger.meta("manifest") or [])[-1:], hashlib.sha256(text.encode()).hexdigest()])
    return atomic_write(folder / MANIFEST, text)


def registered_files(ledger: Ledger) -> tuple[str, ...]:
    """The files of the run's folder that this ledger names, relative to it."""
    images = [row[0] for row in ledger.connection.execute("SELECT images FROM shard WHERE images IS NOT NULL")]
    data = [str(about["file"]) for about in ledger.data().values()]
    return tuple(dict.fromkeys((*(ledger.meta("files") or ()), *images, *data)))


def register_files(ledger: Ledger, *names: str) -> None:
    """Register files before they are written.

    Raises:
        ValueError: one is there already and is not the run's.
    """
    registered = list(ledger.meta("files") or ())
    new = [name for name in names if name not in registered]
    strange = [name for name in new if (ledger.path.parent / name).exists()]
    if strange:
        got = f"{', '.join(strange)} in {ledger.path.parent}, which this run did not write"
        reject(
            "out",
            "no other files of the names that a run writes (move them, or choose another folder with -o)",
            described(got),
        )
    if new:
        ledger.set_meta(files=[*registered, *new])
