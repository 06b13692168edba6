"""Weights from files as training programs write them, read without running any code they hold."""

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.util.tensors import read_tensors
from assay.util.validate import described, outside, reject

SUFFIXES = (".safetensors", ".pt", ".pth", ".pt.tar", ".pth.tar", ".ckpt", ".bin")
"""Endings of files with weights."""

_ENTRIES = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "module",
    "ema_state_dict",
    "state_dict_ema",
    "model_ema",
    "ema_model",
    "ema",
    "average_model",
)
"""Where a checkpoint keeps its weights, in the order in which they are looked for."""

_CODE = re.compile(r"GLOBAL ([\w.]+)")
_OBJECTS = re.compile(r"Unsupported operand 1(?:29|4[79])|Unsupported (?:class|type)")
"""What PyTorch says of a pickle that makes objects: opcodes NEWOBJ, INST-like and STACK_GLOBAL."""


def is_weights_file(spec: str) -> bool:
    """Whether a spec names a file of weights, by its ending.

    Example:
        >>> is_weights_file("best.pth.tar"), is_weights_file("hf:org/name")
        (True, False)
    """
    return spec.lower().endswith(SUFFIXES)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, and what assay wrote about the network beside them.

    A checkpoint that holds more than weights (optimiser, epoch) is searched for ``state_dict``, ``model_state_dict``,
    ``model``, ``net``, …, and after these for a moving average (``ema``, ``model_ema``, …), and where none of these is
    there, for the only mapping of names to tensors. Where several are there, a warning says which is taken. The file's
    content decides how it is read, not its ending.

    Args:
        path: the file.

    Returns:
        The weights, and the file's recipe (empty for files that assay did not write).

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, holds code, or no weights.

    Warns:
        UserWarning: the file holds several sets of weights.
    """
    if not path.is_file():
        raise FileNotFoundError(f"model: expected a weights file, but there is none at {path}")
    head = _head(path)
    if _is_safetensors(head) or (path.suffix == ".safetensors" and not _is_pytorch(head)):
        return _from_safetensors(path, head)
    weights, chosen, others = select_weights(_read_pickle(path, head), path.name)
    if others:
        every = ", ".join((chosen, *others))
        warnings.warn(f"{path.name} holds several sets of weights ({every}); {chosen!r} is taken", stacklevel=outside())
    return weights, {}


def select_weights(loaded: Any, name: str) -> tuple[dict[str, Tensor], str, tuple[str, ...]]:
    """The weights in what a checkpoint holds.

    Args:
        loaded: what was read.
        name: of the file, for the message.

    Returns:
        Tensors by name, the entry that they come from (empty for a file of nothing else), and the entries that hold
        others.

    Raises:
        ValueError: nothing there is a mapping of names to tensors.

    Example:
        >>> checkpoint = {"epoch": 3, "ema": {"w": torch.ones(1)}, "state_dict": {"w": torch.zeros(1)}}
        >>> select_weights(checkpoint, "m.pt")
        ({'w': tensor([0.])}, 'state_dict', ('ema',))
    """
    if not isinstance(loaded, Mapping):
        reject("model", f"a mapping of names to tensors in {name} (torch.save(model.state_dict(), …))", _kind(loaded))
    inner: dict[str, dict[str, Tensor]] = {}
    for entry in _ENTRIES:
        value = loaded.get(entry)
        if isinstance(value, Mapping):
            tensors = _tensors(value) or next((t for e in _ENTRIES if (t := _tensors(value.get(e)))), {})
            if tensors:
                inner[entry] = tensors
    if inner:
        chosen, *others = inner
        return inner[chosen], chosen, tuple(others)
    weights = _tensors(loaded)
    nested = [(str(key), tensors) for key, value in loaded.items() if (tensors := _tensors(value))]
    if not weights and len(nested) == 1:  # under a name of its own
        return nested[0][1], nested[0][0], ()
    if not weights:
        keys = ", ".join(map(repr, list(loaded)[:8])) or "nothing"
        reject(
            "model",
            f"a mapping of names to tensors in {name}, at the top or under one of {', '.join(_ENTRIES[:5])}",
            described(f"a file with {keys}"),
        )
    return weights, "", ()


def _tensors(value: Any) -> dict[str, Tensor]:
    """The tensors of a mapping by name; none if most of its values are something else."""
    if not isinstance(value, Mapping):
        return {}
    tensors = {str(key): tensor for key, tensor in value.items() if isinstance(tensor, Tensor)}
    return tensors if 2 * len(tensors) > len(value) else {}


def _from_safetensors(path: Path, head: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        about, weights = read_tensors(path, "assay", "model")
    except ValueError as error:
        reason = str(error).partition(", got ")[2] or str(error)
        reject("model", f"a safetensors file at {path.name}", described(_describe_damage(head, "safetensors", reason)))
    if about is not None and not isinstance(about, dict):
        reject("model", f"metadata that assay wrote in {path.name}, or none", described(f"{about!r:.60}"))
    if not weights:
        reject("model", f"weights in {path.name}", described("a safetensors file without tensors"))
    return weights, about or {}


def _read_pickle(path: Path, head: bytes) -> Any:
    if not _is_pytorch(head):
        reject("model", f"a PyTorch file of weights at {path.name}", described(_describe_damage(head, "PyTorch", "")))
    if zipfile.is_zipfile(path):
        _check_archive(path, head)
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # about protocols of pickle; what it cannot read is an error below
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        code = sorted(set(_CODE.findall(str(error))))
        if code or _OBJECTS.search(str(error)):
            names = f" objects of {', '.join(code)}" if code else " objects"
            reject(
                "model",
                f"a file of plain weights at {path.name} (pickled objects are never loaded; write the weights alone "
                "where the file comes from: torch.save(model.state_dict(), …))",
                described(f"one that also holds{names}"),
            )
        reason = " ".join(str(error).split())
        reject(
            "model", f"a PyTorch file of weights at {path.name}", described(_describe_damage(head, "PyTorch", reason))
        )


def _check_archive(path: Path, head: bytes) -> None:
    """Refuse programs, and archives whose checksums are wrong: PyTorch does not compare them."""
    wrong, names = [], []
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for name in names:
                try:
                    with archive.open(name) as member:
                        while member.read(2**20):
                            pass
                except zipfile.BadZipFile:
                    wrong.append(name)
    except Exception as error:
        reason = " ".join(str(error).split())
        reject(
            "model", f"a PyTorch file of weights at {path.name}", described(_describe_damage(head, "PyTorch", reason))
        )
    if any("/code/" in name or name.endswith("constants.pkl") for name in names):
        reject(
            "model",
            f"plain weights in {path.name} (torch.save(model.state_dict(), …))",
            described("a TorchScript program, which is code"),
        )
    if 0 < len(wrong) < len(names):  # all of them: written without checksums
        reason = f"the checksum of {wrong[0]} is wrong"
        reject(
            "model", f"a PyTorch file of weights at {path.name}", described(_describe_damage(head, "PyTorch", reason))
        )


def _describe_damage(head: bytes, kind: str, reason: str) -> str:
    """What a file that cannot be read seems to be."""
    if not head:
        return "an empty file"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer instead of the file (git lfs pull)"
    if head.lstrip()[:1] == b"<":
        return "a web page (was the download a link to a page?)"
    if len(reason) > 90:
        reason = reason[:90].rpartition(" ")[0] + " …"
    return f"one that is damaged or not a {kind} file" + (f" ({reason})" if reason else "")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**27


def _is_pytorch(head: bytes) -> bool:
    """The start of a zip archive, or of a pickle of protocol 2 or later."""
    return head.startswith(b"PK") or (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05")


def _kind(value: Any) -> str:
    kind = type(value)
    return described(f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."))
