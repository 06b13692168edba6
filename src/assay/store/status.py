"""How far a run is, read from its ledger alone: another process may be writing to it."""

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
        words: what it is called.
        n: samples.
        counts: how many samples have ended in which way, by label.
        seconds: spent on it.
    """

    words: CellNames
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
        command: that goes on with it.
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
        text, parts, counts = ledger.meta("told") or {}, ledger.shards(), ledger.counts()
        cells = tuple(
            CellStatus(
                words,
                entry.n,
                {Status(code).label: n for code, n in counts.get(entry.id, {}).items()},
                sum(part.seconds for part in parts.get(entry.id, [])),
            )
            for entry, words in ledger.plan()
        )
        events = tuple(ledger.events())
        ended = ledger.meta("ended") is not False  # ledgers of the first version do not say
    return RunStatus(
        text.get("title", ""),
        text.get("command", ""),
        holder(folder),
        ended and (folder / MANIFEST).is_file(),
        cells,
        events,
    )
