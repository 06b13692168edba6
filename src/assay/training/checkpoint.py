"""Training checkpoints: write, read, verify."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from assay.training.recipe import Recipe
from assay.training.records import Epoch
from assay.util.files import atomic_write
from assay.util.tensors import content_digest
from assay.util.validate import described, reject

_NAMES = {"data": "the data differ", "start": "its start differs", "teacher": "its teacher differs"}


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Replace the checkpoint, whole or not at all; it holds a digest of its content.

    Args:
        path: the file.
        state: tensors and plain values; ``history`` is a list of `Epoch`.
    """
    content = io.BytesIO()
    plain = {**state, "history": json.dumps([vars(epoch) for epoch in state["history"]])}
    torch.save({**plain, "sha256": content_digest(plain)}, content)
    atomic_write(path, content.getvalue())


def read_checkpoint(path: Path, identity: Mapping[str, str], recipe: Recipe) -> dict[str, Any] | None:
    """The checkpoint of this very run; None where there is none.

    Args:
        path: the file.
        identity: digests of the data, the start and the teacher, by those names.
        recipe: of the run.

    Raises:
        ValueError: it is damaged, of another run (what differs is named), or has done more epochs than are asked for.
    """
    if not path.exists():
        return None
    state = load_checkpoint(path)
    differs = [text for key, text in _NAMES.items() if state.get(key, "") != identity[key]]
    differs += [text for text in (recipe.difference(state["recipe"]),) if text]
    if differs:
        reject("out", f"a new folder or one of the same run ({', '.join(differs)})", str(path))
    state["history"] = [Epoch(**entry) for entry in json.loads(state["history"])]
    if len(state["history"]) > recipe.epochs:
        reject("epochs", f"at least {len(state['history'])}, which the run in this folder has done", recipe.epochs)
    return state


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, compared with its digest.

    Raises:
        ValueError: it is damaged, or another file.
    """
    expected = f"a whole checkpoint at {path} (restore it from a copy, or delete the folder to train again)"
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        digest = state.pop("sha256", None)
        known = {"recipe", "model", "history"} <= set(state)
    except Exception as error:  # of all kinds, for files that are no checkpoints
        reject("out", expected, described(f"one that cannot be read: {' '.join(str(error).split())[:120]}"))
    if not known or (digest is not None and digest != content_digest(state)):
        reject("out", expected, described("one whose content does not match its digest" if known else "another file"))
    return state
