"""Per-sample records: an outcome as columns of numbers, and back without its images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.core.outcome import MEASURES, Outcome, Status

WHOLE = ("status", "y", "target", "predicted_clean", "predicted", "steps", "forwards", "backwards", "checks", "restart",
         "stage")  # fmt: skip
REAL = ("margin", "size", *MEASURES)
COLUMNS: Mapping[str, type] = MappingProxyType({**dict.fromkeys(WHOLE, int), **dict.fromkeys(REAL, float)})
"""The columns of a record and their types, in the order of the ledger."""

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Words:
    """What a report calls a cell. Not part of its identity: a renamed model is the same model.

    Attributes:
        model: name of the model.
        data: name of the data.
        attack: what ran, ``"PGD-40 linf 8/255"``.
        family: the attack without its budget.
        budget: in words.
        eps: as a number, where it is one.
        curve: name of the accuracy–budget curve that it is on, or None.
        seed: of its random draws.
    """

    model: str
    data: str
    attack: str
    family: str
    budget: str
    eps: float | None = None
    curve: str | None = None
    seed: int = 0


def columns_of(outcome: Outcome) -> dict[str, NDArray[Any]]:
    """The numbers of an outcome, one array a column of `COLUMNS`."""
    found = {name: getattr(outcome, name).cpu().numpy() for name in WHOLE}
    found |= {name: getattr(outcome, name).double().cpu().numpy() for name in ("margin", "size")}
    return found | {name: outcome.norm(name).double().cpu().numpy() for name in MEASURES}


def outcome_of(
    columns: Columns,
    shape: Sequence[int],
    *,
    name: str,
    stages: Sequence[str],
    seconds: float = 0.0,
    events: Sequence[str] = (),
    errors: Mapping[int, str] | None = None,
) -> Outcome:
    """An outcome from its numbers. Its images have a shape and no memory; the sizes are those that were measured.

    Args:
        columns: one array a column of `COLUMNS`.
        shape: of an image, ``(c, h, w)``.
        name: what ran.
        stages: its parts.
        seconds: wall time.
        events: what happened besides.
        errors: messages by sample.
    """
    n = len(columns["status"])
    blank = torch.zeros(()).expand(n, *shape)
    tensors = {key: torch.from_numpy(np.array(columns[key])) for key in (*WHOLE, "margin", "size")}
    return Outcome(
        clean=blank,
        images=blank,
        **tensors,
        name=name,
        stages=tuple(stages),
        seconds=seconds,
        events=tuple(events),
        errors=dict(errors or {}),
        sizes={key: torch.from_numpy(np.array(columns[key])) for key in MEASURES},
    )


def not_run(n: int) -> dict[str, NDArray[Any]]:
    """The columns of ``n`` samples that nothing has been done to."""
    found: dict[str, NDArray[Any]] = {name: np.zeros(n, np.int64) for name in WHOLE}
    for name in ("target", "predicted_clean", "predicted", "restart", "stage"):
        found[name] -= 1
    found["status"] += int(Status.NOT_RUN)
    return found | {name: np.full(n, np.nan) for name in REAL}
