"""The end of a run: tables, summary, report, and last a manifest of them all. All of it is made from the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.report import write_report
from assay.runs.fault_injection import crossing
from assay.store.edits import remove
from assay.store.findings import Extras, extras_of
from assay.store.ledger import MADE, Ledger
from assay.store.load_report import studies_of
from assay.store.manifest import MANIFEST, listed_files, own, read_manifest, write_manifest
from assay.store.results import Study
from assay.store.summary import summary_of, to_json
from assay.store.tables import csv_text, parquet_bytes
from assay.util.files import atomic_write


@dataclass(frozen=True)
class Finished:
    """Where everything is.

    Attributes:
        report: the page.
        summary: as in ``summary.json``; ``claims`` where the study makes any: ``says``, ``source``, ``theirs``,
            ``ours``, ``holds`` (None: not asked, or not measured) and ``note`` of each.
        tables: ``samples.csv``, and ``samples.parquet`` where pyarrow is there.
    """

    report: Path
    summary: dict[str, Any]
    tables: tuple[Path, ...]


def begin(folder: Path, ledger: Ledger) -> None:
    """Take back that a run is finished, before anything of it changes.

    Args:
        folder: the run's.
        ledger: its ledger.

    Raises:
        ValueError: files of the names that a run writes are there, and are not this run's.
    """
    for name in ledger.damage("meta").names:  # a changed list of files is none
        remove(ledger, "meta", name.removeprefix("meta/"))
    if ledger.meta("files") is None:
        ledger.keep(files=listed_files(folder))
    own(ledger, *(name for name in MADE if (folder / name).exists()))
    (folder / MANIFEST).unlink(missing_ok=True)
    ledger.keep(ended=False)


def finish(folder: Path, ledger: Ledger, *, ended: bool = False) -> Finished:
    """Write everything that is made from the ledger, and the manifest.

    Args:
        folder: the run's.
        ledger: its ledger.
        ended: whether the run has come to its end; else it is as far as it was.
    """
    studies = studies_of(folder, ledger)
    extras = extras_of(ledger, studies)
    told = summary_of(ledger, studies, extras)
    own(ledger, "summary.json", "samples.csv", "samples.parquet", "report.html", MANIFEST)
    before = {} if ended else read_manifest(folder)  # of files that are not made here: what is damaged stays told
    (folder / MANIFEST).unlink(missing_ok=True)  # what it says would not be true while files change
    atomic_write(folder / "summary.json", to_json(told))
    crossing("summary-written")
    tables, parquet = [atomic_write(folder / "samples.csv", csv_text(ledger))], parquet_bytes(ledger)
    if parquet is not None:
        tables.append(atomic_write(folder / "samples.parquet", parquet))
    else:  # that of an earlier call would say something else
        (folder / "samples.parquet").unlink(missing_ok=True)
    crossing("tables-written")
    report = _report(folder, ledger, studies, extras)
    crossing("report-written")
    write_manifest(folder, ledger, before)
    if ended:
        ledger.keep(ended=True)
    return Finished(report, told, tuple(tables))


def _report(folder: Path, ledger: Ledger, studies: tuple[Study, ...], extras: Extras) -> Path:
    told: Mapping[str, Any] = ledger.meta("told") or {}
    return write_report(studies if len(studies) > 1 else studies[0], folder / "report.html",
                        title=told.get("title") or None, extras=extras)  # fmt: skip
