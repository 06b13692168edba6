"""Write a run's tables, summary, report and manifest from its ledger."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from assay.data.dataset import Dataset
from assay.report.page import write_report
from assay.runs.fault_injection import fault_point
from assay.store.edits import remove_row
from assay.store.ledger import DERIVED_FILES, Ledger
from assay.store.load_report import studies_of
from assay.store.manifest import MANIFEST, listed_files, read_manifest, register_files, write_manifest
from assay.store.results import Study
from assay.store.study_extras import StudyExtras, extras_of
from assay.store.summary import summary_of, to_json
from assay.store.tables import csv_text, parquet_bytes
from assay.util.files import atomic_write


@dataclass(frozen=True)
class Published:
    """The files that `publish` wrote.

    Attributes:
        report: the page.
        summary: as in ``summary.json``; ``claims`` where the study makes any: ``says``, ``source``, ``theirs``,
            ``ours``, ``holds`` (None: not asked, or not measured) and ``note`` of each.
        tables: ``samples.csv``, and ``samples.parquet`` where pyarrow is there.
        studies: what the report shows, one a data set.
    """

    report: Path
    summary: dict[str, Any]
    tables: tuple[Path, ...]
    studies: tuple[Study, ...]


def mark_running(folder: Path, ledger: Ledger) -> None:
    """Mark a run as unfinished before anything in it changes.

    Args:
        folder: the run's.
        ledger: its ledger.

    Raises:
        ValueError: files of the names that a run writes are there, and are not this run's.
    """
    for name in ledger.find_damage("meta").names:  # drop a damaged file list
        remove_row(ledger, "meta", name.removeprefix("meta/"))
    if ledger.meta("files") is None:
        ledger.set_meta(files=listed_files(folder))
    register_files(ledger, *(name for name in DERIVED_FILES if (folder / name).exists()))
    (folder / MANIFEST).unlink(missing_ok=True)
    ledger.set_meta(ended=False)


def publish(
    folder: Path, ledger: Ledger, *, ended: bool = False, known: Mapping[str, Dataset] = MappingProxyType({})
) -> Published:
    """Write everything that is made from the ledger, and the manifest.

    Args:
        folder: the run's.
        ledger: its ledger.
        ended: whether the run is finished; False leaves its state unchanged.
        known: data that this process has in memory, by digest.
    """
    studies = studies_of(folder, ledger, known)
    extras = extras_of(ledger, studies)
    summary = summary_of(ledger, studies, extras)
    register_files(ledger, "summary.json", "samples.csv", "samples.parquet", "report.html", MANIFEST)
    # entries of files that are not rewritten here, so that their damage stays visible
    previous = {} if ended else read_manifest(folder)
    (folder / MANIFEST).unlink(missing_ok=True)  # it would be wrong while files change
    atomic_write(folder / "summary.json", to_json(summary))
    fault_point("summary-written")
    tables, parquet = [atomic_write(folder / "samples.csv", csv_text(ledger))], parquet_bytes(ledger)
    if parquet is not None:
        tables.append(atomic_write(folder / "samples.parquet", parquet))
    else:  # a file of an earlier call would be stale
        (folder / "samples.parquet").unlink(missing_ok=True)
    fault_point("tables-written")
    report = _report(folder, ledger, studies, extras)
    fault_point("report-written")
    write_manifest(folder, ledger, previous)
    if ended:
        ledger.set_meta(ended=True)
    return Published(report, summary, tuple(tables), studies)


def _report(folder: Path, ledger: Ledger, studies: tuple[Study, ...], extras: StudyExtras) -> Path:
    info: Mapping[str, Any] = ledger.meta("told") or {}
    return write_report(
        studies if len(studies) > 1 else studies[0],
        folder / "report.html",
        title=info.get("title") or None,
        extras=extras,
    )
