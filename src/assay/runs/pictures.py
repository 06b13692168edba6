"""Adversarial images of a run: one safetensors file a shard, named in the ledger with its SHA-256."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from assay.core.arguments import one_of, reject
from assay.core.outcome import Status
from assay.core.tensors import read_tensors, write_tensors
from assay.data import Dataset
from assay.runs.ledger import Part

FOLDER, DATA = "images", "data"
KEEP = ("all", "broken", "none")
"""Which images are kept: all that were attacked, those of broken samples, none."""


def inside(folder: Path, name: str) -> Path:
    """A file of a run by the name that its ledger gives it.

    Raises:
        ValueError: the name leads out of the folder: the ledger is not one that assay wrote.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        reject("run", "files inside the run's folder", name)
    return path


def kept(images: Tensor, status: Tensor, keep: str) -> tuple[Tensor, Tensor]:
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


def write_part(folder: Path, name: str, images: Tensor, at: Tensor) -> tuple[str, str]:
    """Write the images of a shard; whole or not at all.

    Returns:
        The file, relative to the run's folder, and its SHA-256.
    """
    path = folder / FOLDER / f"{name}.safetensors"
    write_tensors(path, {"images": images, "sample": at}, "assay-images", {"count": len(at)})
    return f"{FOLDER}/{path.name}", sha256(path)


def looker(folder: Path, parts: list[Part]) -> Callable[[int], Tensor | None]:
    """A function from a sample to its image, or None where none was kept; files are read when they are asked for."""

    def look(sample: int) -> Tensor | None:
        for part in parts:
            if part.images is not None and part.first <= sample < part.first + part.count:
                return _from(inside(folder, part.images), sample - part.first)
        return None

    return look


def _from(path: Path, row: int) -> Tensor | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            at = (file.get_tensor("sample") == row).nonzero().squeeze(1)
            if not len(at):
                return None
            found: Tensor = file.get_slice("images")[int(at[0])]
            return found
    except (SafetensorError, OSError):  # lost or damaged, which `verify` tells: the numbers are in the ledger
        return None


def store_data(folder: Path, data: Dataset) -> str:
    """Keep a copy of the attacked images in the run's folder, so that all else can be made from the folder alone.

    Returns:
        The file, relative to the folder.
    """
    name = f"{DATA}/{data.digest[:16]}.safetensors"
    if not (folder / name).is_file():
        tensors = {"x": data.x, "y": data.y} | ({} if data.masks is None else {"masks": data.masks})
        about = {"classes": list(data.classes), "name": data.name, "source": data.source}
        write_tensors(folder / name, tensors, "assay-data", about)
    return name


def load_data(path: Path) -> Dataset:
    """What `store_data` kept.

    Raises:
        FileNotFoundError, ValueError: it is gone, or another file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"run: expected the run's copy of its data, but there is none at {path}")
    about, tensors = read_tensors(path, "assay-data", "data")
    return Dataset(tensors["x"], tensors["y"], tuple(about["classes"]), tensors.get("masks"), about["name"],
                   about["source"])  # fmt: skip


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def whole_file(path: Path) -> bool:
    """Whether a safetensors file is there with all its bytes (whether they are the right ones, its SHA-256 tells)."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt"):
            return True
    except (SafetensorError, OSError):
        return False
