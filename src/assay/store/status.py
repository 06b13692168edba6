"""The progress of a run, read from its ledger while another process may be writing."""

from dataclasses import dataclass
from pathlib import Path

from assay.core.outcome import Status
from assay.store.certified import CERTIFICATES
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
class CertificateStatus:
    """How far the certificates of a model at a budget are.

    Attributes:
        data: name of the data.
        model: name of the model.
        budget: in words.
        n: samples.
        done: samples that have certificates.
        fault: why the model cannot be certified; empty where it can.
    """

    data: str
    model: str
    budget: str
    n: int
    done: int
    fault: str


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
        certificates: how far those of each model and budget are.
    """

    title: str
    command: str
    holder: str
    finished: bool
    cells: tuple[CellStatus, ...]
    events: tuple[tuple[str, str], ...]
    certificates: tuple[CertificateStatus, ...] = ()


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
        certificates = tuple(
            CertificateStatus(
                entry["data"],
                entry["model"],
                entry["budget"],
                sum(count for _, count in entry["parts"]),
                sum(count for key, count in entry["parts"] if ledger.answer(key) is not None),
                entry["fault"],
            )
            for entry in ledger.meta(CERTIFICATES) or ()
        )
        ended = ledger.meta("ended") is not False  # ledgers of the first version do not say
    return RunStatus(
        info.get("title", ""),
        info.get("command", ""),
        holder(folder),
        ended and (folder / MANIFEST).is_file(),
        cells,
        events,
        certificates,
    )
