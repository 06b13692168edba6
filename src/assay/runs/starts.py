"""Where attacks by labels alone start from in a run: random images, or images of other classes."""

from functools import lru_cache

import torch
from torch import Tensor

from assay.core.combinators import AnyAttack, unfold
from assay.data.dataset import Dataset
from assay.data.registry import load as load_data
from assay.engine.starts import nearest_starts
from assay.util.validate import described, reject

MOST = 1000
"""Most images that a start is chosen from."""
RANDOM, DATA = "random", "data"


def reads_start(attack: AnyAttack) -> bool:
    """Whether an attack begins from an adversarial image that it has to have."""
    return any("start" in stage.attack.needs and not stage.refines for stage in unfold(attack))


def starts_for(start: str, attack: AnyAttack, data: Dataset, index: slice | Tensor) -> Tensor | None:
    """The images that some samples start from: for each the nearest of another class.

    The choice depends on the whole data set and not on the part that is attacked together.

    Args:
        start: ``"random"``, ``"data"`` for the data itself, or a data set as `assay.data.load` takes it.
        attack: the attack.
        data: all samples.
        index: those to be attacked.

    Returns:
        ``(m, c, h, w)``; None where the attack needs none, or draws its own.

    Raises:
        ValueError: images of another shape than the data's.
    """
    if start == RANDOM or not reads_start(attack):
        return None
    pool = data if start == DATA else _pool(start)
    at = torch.linspace(0, len(pool) - 1, min(MOST, len(pool))).round().long()
    return nearest_starts(data.images(index), data.y[index], pool.images(at), pool.y[at])


def check_start(start: str, data: Dataset | None = None) -> None:
    """Refuse a start that cannot be loaded, or whose images do not fit, before anything is written.

    Raises:
        ValueError: no such data set, or images of another shape.
    """
    if start in (RANDOM, DATA):
        return
    pool = _pool(start)
    if data is not None and pool.x.shape[1:] != data.x.shape[1:]:
        reject(
            "start",
            f"images of shape {tuple(data.x.shape[1:])}, like those that are attacked",
            described(f"shape {tuple(pool.x.shape[1:])}"),
        )


def start_identity(start: str, attack: AnyAttack) -> str:
    """What of the start decides a verdict; empty where nothing does (the data have an identity of their own)."""
    if start == RANDOM or not reads_start(attack):
        return ""
    return start if start == DATA else f"{start} {_pool(start).digest}"


@lru_cache(maxsize=2)
def _pool(spec: str) -> Dataset:
    try:
        return load_data(spec, split="test")
    except ValueError as error:
        return reject("start", "random, data, or a data set such as npz:FILE", described(f"{spec!r} ({error})"))
