"""Adversarial images of a run: one safetensors file a shard, named in the ledger with its SHA-256."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.core.outcome import Status
from assay.data.dataset import Dataset
from assay.store.columns import Shard
from assay.util.files import run_of, sha256
from assay.util.tensors import read_tensors, write_tensors
from assay.util.validate import described, one_of, reject

FOLDER, DATA = "images", "data"
KEEP = ("all", "broken", "none")
"""Which images are kept: all that were attacked, those of broken samples, none."""


def resolve_inside(folder: Path, name: str) -> Path:
    """A file of a run by the name that its ledger gives it.

    Raises:
        ValueError: the name leads out of the folder: the ledger is not one that assay wrote.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        reject("run", "files inside the run's folder", name)
    return path


def select_kept(images: Tensor, status: Tensor, keep: str) -> tuple[Tensor, Tensor]:
    """The images to keep, and which samples (from 0) they belong to.

    Args:
        images: ``(n, c, h, w)``.
        status: `Status` codes, ``(n,)``.
        keep: one of `KEEP`.
    """
    one_of("images", keep, KEEP)
    attacked = (status != int(Status.MISCLASSIFIED)) & (status != int(Status.NOT_RUN))
    chosen = {"all": attacked, "broken": status == int(Status.BROKEN), "none": torch.zeros_like(attacked)}[keep]
    at = chosen.nonzero().squeeze(1)
    return images[at], at


def write_images(folder: Path, name: str, images: Tensor, at: Tensor) -> tuple[str, str]:
    """Write the images of a shard atomically.

    Returns:
        The file, relative to the run's folder, and its SHA-256.

    Raises:
        ValueError: another file of that name is there, which this run did not write.
    """
    path, run = folder / FOLDER / f"{name}.safetensors", run_of(folder)
    if path.exists() and not is_of_run(path, run, unnumbered=True):
        reject("out", f"no file {FOLDER}/{path.name} of another run (move it)", described(f"one in {folder}"))
    write_tensors(path, {"images": images, "sample": at}, "assay-images", {"count": len(at), "run": run})
    return f"{FOLDER}/{path.name}", sha256(path)


def is_of_run(path: Path, run: str, *, unnumbered: bool = False) -> bool:
    """Whether an image file belongs to a run, by the run id stored in it.

    Args:
        path: the file.
        run: the number.
        unnumbered: whether a file of the first version, which wrote no numbers, counts as the run's.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("assay-images", "{}"))
    except (SafetensorError, OSError, ValueError):
        return False
    if not isinstance(about, dict):
        return False
    return about.get("run") == run if "run" in about else unnumbered and "count" in about


def image_reader(folder: Path, shards: list[Shard]) -> Callable[[int], Tensor | None]:
    """A function from a sample to its image, or None where none was kept.

    Files are read on demand; their SHA-256 is checked the first time.
    """
    is_intact: dict[str, bool] = {}

    def read(sample: int) -> Tensor | None:
        for shard in shards:
            if shard.images is not None and shard.first <= sample < shard.first + shard.count:
                path = resolve_inside(folder, shard.images)
                if shard.images not in is_intact:
                    is_intact[shard.images] = path.is_file() and sha256(path) == shard.sha256
                return _read_row(path, sample - shard.first) if is_intact[shard.images] else None
        return None

    return read


def _read_row(path: Path, row: int) -> Tensor | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            at = (file.get_tensor("sample") == row).nonzero().squeeze(1)
            if not len(at):
                return None
            result: Tensor = file.get_slice("images")[int(at[0])]
            return result
    except (SafetensorError, OSError):  # lost or damaged; `verify` reports it, and the numbers are in the ledger
        return None


def store_data(folder: Path, data: Dataset, digest: str = "") -> str:
    """Keep a copy of the attacked images in the run's folder, so that all else can be made from the folder alone.

    Args:
        folder: the run's.
        data: images and labels.
        digest: of the data, if it is known already.

    Returns:
        The file, relative to the folder.

    Raises:
        ValueError: a copy is there, and is not of these images.
    """
    name = f"{DATA}/{(digest or data.digest)[:16]}.safetensors"
    if (folder / name).is_file():
        load_data(folder / name)
        return name
    tensors = {"x": data.x, "y": data.y} | ({} if data.masks is None else {"masks": data.masks})
    about = {"classes": list(data.classes), "name": data.name, "source": data.source}
    write_tensors(folder / name, tensors, "assay-data", about)
    return name


def load_data(path: Path) -> Dataset:
    """What `store_data` kept. Its digest, whose beginning is the file's name, is compared with its content.

    Raises:
        FileNotFoundError: it is gone.
        ValueError: it is damaged, or another file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"run: expected the run's copy of its data, but there is none at {path}")
    expected = f"the data that the run was made with at {path} (restore the file, or delete it and repeat the command)"
    try:
        about, tensors = read_tensors(path, "assay-data", "data")
        result = Dataset(
            tensors["x"], tensors["y"], tuple(about["classes"]), tensors.get("masks"), about["name"], about["source"]
        )
    except (ValueError, KeyError, TypeError) as error:
        reject("data", expected, described(f"a damaged file: {error}"))
    if result.digest[:16] != path.stem:
        reject("data", expected, described("a damaged file: other images, labels, classes or masks"))
    return result


def run_data(folder: Path, digest: str, about: Mapping[str, Any]) -> Dataset:
    """The data of a run by what its ledger says of them.

    Raises:
        FileNotFoundError: the copy is gone.
        ValueError: it is damaged, or another one.
    """
    result = load_data(resolve_inside(folder, about["file"]))
    if result.digest != digest:
        reject("data", f"the data of the run, SHA-256 {digest[:16]}…, at {about['file']}", described("other data"))
    return result
