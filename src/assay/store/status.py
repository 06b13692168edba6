"""The progress of a run, read from its ledger while another process may be writing."""

from dataclasses import dataclass
from pathlib import Path

from assay.core.outcome import Status
from assay.store.columns import CellNames
from assay.store.ledger import Ledger
from assay.store.lock import holder
from assay.store.manifest import MANIFEST


@dataclass(frozen=True)
class CellStatus:
    """How far one cell is.

    Attributes:
        names: what tables call it.
        n: samples.
        counts: how many samples have ended in which way, by label.
        seconds: spent on it.
    """

    names: CellNames
    n: int
    counts: dict[str, int]
    seconds: float

    @property
    def done(self) -> int:
        """Samples that are there."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    Attributes:
        title: of the run.
        command: resumes the run.
        holder: who is writing to it; empty for nobody.
        finished: whether its tables and report are there.
        cells: how far each cell is.
        events: what happened besides: when and what.
    """

    title: str
    command: str
    holder: str
    finished: bool
    cells: tuple[CellStatus, ...]
    events: tuple[tuple[str, str], ...]


def read_status(folder: str | Path) -> RunStatus:
    """Read how far a run is.

    Args:
        folder: the run's.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: its ledger is of a later version, or another file.
    """
    folder = Path(folder)
    with Ledger(folder) as ledger:
        info, shards, counts = ledger.meta("told") or {}, ledger.shards(), ledger.counts()
        cells = tuple(
            CellStatus(
                names,
                cell.n,
                {Status(code).label: n for code, n in counts.get(cell.id, {}).items()},
                sum(part.seconds for part in shards.get(cell.id, [])),
            )
            for cell, names in ledger.plan()
        )
        events = tuple(ledger.events())
        ended = ledger.meta("ended") is not False  # ledgers of the first version do not say
    return RunStatus(
        info.get("title", ""),
        info.get("command", ""),
        holder(folder),
        ended and (folder / MANIFEST).is_file(),
        cells,
        events,
    )
