"""The ledger's records: Cell, Shard, CellNames, and conversion of outcomes to and from columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.core.outcome import MEASURES, Outcome, Status

INTEGER_COLUMNS = (
    "status",
    "y",
    "target",
    "predicted_clean",
    "predicted",
    "steps",
    "forwards",
    "backwards",
    "checks",
    "restart",
    "stage",
)
FLOAT_COLUMNS = ("margin", "size", *MEASURES)
COLUMNS: Mapping[str, type] = MappingProxyType(
    {**dict.fromkeys(INTEGER_COLUMNS, int), **dict.fromkeys(FLOAT_COLUMNS, float)}
)
"""The columns of a record and their types, in the order of the ledger."""

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Cell:
    """One cell of the ledger.

    Attributes:
        id: its number in this ledger.
        key: its identity.
        data: digest of its data.
        n: samples.
        fields: what the identity is made of, by name.
        name: what ran.
        stages: the parts of a cascade.
    """

    id: int
    key: str
    data: str
    n: int
    fields: Mapping[str, str]
    name: str
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Shard:
    """The stored result of a task: consecutive samples of a cell, committed together.

    Attributes:
        first: index of the first sample.
        count: samples.
        seconds: wall time.
        worker: where it ran.
        images: file of the adversarial images, relative to the run's folder; None if they were not kept.
        sha256: of that file.
        events: what happened besides.
        keep: which images were to be kept: ``"all"``, ``"broken"`` or ``"none"``; None where the ledger does not say.
    """

    first: int
    count: int
    seconds: float
    worker: str
    images: str | None
    sha256: str | None
    events: tuple[str, ...]
    keep: str | None = None


@dataclass(frozen=True)
class CellNames:
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
    columns = {name: getattr(outcome, name).cpu().numpy() for name in INTEGER_COLUMNS}
    columns |= {name: getattr(outcome, name).double().cpu().numpy() for name in ("margin", "size")}
    return columns | {name: outcome.norm(name).double().cpu().numpy() for name in MEASURES}


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
    tensors = {key: torch.from_numpy(np.array(columns[key])) for key in (*INTEGER_COLUMNS, "margin", "size")}
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


def not_run_columns(n: int) -> dict[str, NDArray[Any]]:
    """The columns of ``n`` samples that were not run."""
    columns: dict[str, NDArray[Any]] = {name: np.zeros(n, np.int64) for name in INTEGER_COLUMNS}
    for name in ("target", "predicted_clean", "predicted", "restart", "stage"):
        columns[name] -= 1
    columns["status"] += int(Status.NOT_RUN)
    return columns | {name: np.full(n, np.nan) for name in FLOAT_COLUMNS}
