"""The end of a run: tables, summary, report, and last a manifest of them all. All of it is made from the ledger."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from assay.core.files import atomic_write, sha256
from assay.core.outcome import Status
from assay.report import Extras, Finding, Study, summary, write_report
from assay.runs.claims import judged
from assay.runs.edits import remove
from assay.runs.faults import crossing
from assay.runs.ledger import MADE, Entry, Ledger
from assay.runs.owned import files, own
from assay.runs.records import COLUMNS, Words
from assay.runs.view import studies_of

MANIFEST = "manifest.json"
INNER = ("models/*/model.safetensors", "models/*/history.json", "models/*/trail/*.safetensors",
         "signatures/identifier.safetensors")  # fmt: skip
"""The weights that a study trains, relative to its folder."""
_REMADE = ("summary.json", "samples.csv", "samples.parquet", "report.html")
_LABELS = {int(status): status.label for status in Status}


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
        ledger.keep(files=_listed(folder))
    own(ledger, *(name for name in MADE if (folder / name).exists()))
    (folder / MANIFEST).unlink(missing_ok=True)
    ledger.keep(ended=False)


def _listed(folder: Path) -> list[str]:
    """The files of a run whose ledger has lost the list of them: those that are as its manifest says."""
    try:
        kept = [name for name, about in _manifest(folder).items() if sha256(folder / name) == about["sha256"]]
    except (OSError, KeyError, TypeError):
        return []
    return [*(name for name in MADE if name in kept), MANIFEST] if kept else []


def _manifest(folder: Path) -> dict[str, Any]:
    """What the manifest says of each file; nothing where there is none that can be read."""
    try:
        files: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return dict(files)
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def with_errors(told: dict[str, Any], errors: int, first: str) -> dict[str, Any]:
    """A summary that says on how many samples a model raised an exception, where it did on any."""
    return told | {"errors": {"samples": errors, "first": first}} if errors else told


def finish(folder: Path, ledger: Ledger, *, ended: bool = False) -> Finished:
    """Write everything that is made from the ledger, and the manifest.

    Args:
        folder: the run's.
        ledger: its ledger.
        ended: whether the run has come to its end; else it is as far as it was.
    """
    studies = studies_of(folder, ledger)
    extras = _extras(ledger, studies)
    told = _summary(ledger, studies, extras)
    own(ledger, "summary.json", "samples.csv", "samples.parquet", "report.html", MANIFEST)
    before = {} if ended else _manifest(folder)  # of files that are not made here: what is damaged stays told
    (folder / MANIFEST).unlink(missing_ok=True)  # what it says would not be true while files change
    atomic_write(folder / "summary.json", _json(told))
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


def summary_text(folder: Path, ledger: Ledger) -> str:
    """The content of ``summary.json``, from the ledger."""
    studies = studies_of(folder, ledger)
    return _json(_summary(ledger, studies, _extras(ledger, studies)))


def _summary(ledger: Ledger, studies: tuple[Study, ...], extras: Extras) -> dict[str, Any]:
    told = summary(studies[0] if len(studies) == 1 else studies)
    told |= {"claims": [asdict(claim) for claim in extras.claims]} if extras.claims else {}
    return with_errors(told, *errors_of(ledger))


def errors_of(ledger: Ledger) -> tuple[int, str]:
    """How many samples of the plan raised an exception, and the text of the first of them."""
    cells = dict.fromkeys(entry.id for entry, _ in ledger.plan())
    texts = [text for cell in cells for text in ledger.error_texts(cell)]
    return len(texts), texts[0] if texts else ""


def _json(told: dict[str, Any]) -> str:
    return json.dumps(told, indent=1, allow_nan=False)


def _report(folder: Path, ledger: Ledger, studies: tuple[Study, ...], extras: Extras) -> Path:
    told: Mapping[str, Any] = ledger.meta("told") or {}
    return write_report(studies if len(studies) > 1 else studies[0], folder / "report.html",
                        title=told.get("title") or None, extras=extras)  # fmt: skip


def _extras(ledger: Ledger, studies: tuple[Study, ...]) -> Extras:
    """What a study tells besides its attacks."""
    answers = [found for key in ledger.meta("answers") or () if (found := ledger.answer(key)) is not None]
    used = {entry.data for entry, _ in ledger.plan()}
    names = [about["name"] for digest, about in ledger.data().items() if digest in used]
    by_data = dict(zip(names, studies, strict=True))
    findings = tuple(
        Finding(f"answer-{i + 1}", a["title"], a["question"], a["verdict"], tuple(a["figures"]), tuple(a["frame"]),
                "the ledger")
        for i, a in enumerate(answers)
    )  # fmt: skip
    return Extras(ledger.meta("about") or "", judged(ledger.meta("claims") or (), by_data, answers), findings)


def write_manifest(folder: Path, ledger: Ledger, before: Mapping[str, Any]) -> Path:
    """SHA-256 and size of every file of a run but the ledger, which goes on changing.

    Args:
        folder: the run's.
        ledger: its ledger.
        before: what the manifest has said of files that have not been made since.
    """
    made = [folder / name for name in files(ledger) if name != MANIFEST]
    inner = [path for pattern in INNER for path in folder.glob(pattern)]
    kept = sorted({path for path in (*made, *inner) if path.is_file()})
    told = {path.relative_to(folder).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
            for path in kept}  # fmt: skip
    told |= {name: about for name, about in before.items() if name in told and name not in _REMADE}
    text = json.dumps({"format": 1, "files": told}, indent=1)
    ledger.keep(manifest=[*(ledger.meta("manifest") or [])[-1:], hashlib.sha256(text.encode()).hexdigest()])
    return atomic_write(folder / MANIFEST, text)


def rows(ledger: Ledger) -> Iterator[dict[str, Any]]:
    """One record a sample and attack, in the order of the plan; it holds no times."""
    for entry, words in ledger.plan():
        columns, errors = ledger.columns(entry), ledger.errors(entry)
        lists = {name: columns[name].tolist() for name in COLUMNS}
        for i in range(entry.n):
            yield _row(entry, words, i, lists, errors)


def _row(
    entry: Entry, words: Words, i: int, lists: Mapping[str, list[Any]], errors: Mapping[int, str]
) -> dict[str, Any]:
    stage = lists["stage"][i]
    found = {"data": words.data, "model": words.model, "attack": words.attack, "budget": words.budget,
             "seed": words.seed, "sample": i}  # fmt: skip
    found |= {name: values[i] for name, values in lists.items() if name != "stage"}
    found["status"] = _LABELS[lists["status"][i]]
    return found | {"broken_by": entry.stages[stage] if stage >= 0 else None, "error": errors.get(i)}


def csv_text(ledger: Ledger) -> str:
    """The content of ``samples.csv``, from the ledger."""
    text, writer = io.StringIO(), None
    for row in rows(ledger):
        if writer is None:
            writer = csv.DictWriter(text, fieldnames=list(row))
            writer.writeheader()
        writer.writerow({name: _text(value) if isinstance(value, str) else value for name, value in row.items()})
    return text.getvalue()


def parquet_bytes(ledger: Ledger) -> bytes | None:
    """The content of ``samples.parquet``, from the ledger; None where pyarrow is not installed."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        return None
    tables = []
    for entry, words in ledger.plan():
        columns, errors = ledger.columns(entry), ledger.errors(entry)
        stages = columns.pop("stage").tolist()
        status = columns.pop("status").tolist()
        plain = {"data": words.data, "model": words.model, "attack": words.attack, "budget": words.budget}
        tables.append(pa.table(
            {name: pa.array([value] * entry.n, pa.string()).dictionary_encode() for name, value in plain.items()}
            | {"seed": pa.array([words.seed] * entry.n), "sample": pa.array(range(entry.n), pa.int64())}
            | {"status": pa.array([_LABELS[code] for code in status], pa.string()).dictionary_encode()}
            | {name: pa.array(values) for name, values in columns.items()}
            | {"broken_by": pa.array([entry.stages[s] if s >= 0 else None for s in stages], pa.string())}
            | {"error": pa.array([errors.get(i) for i in range(entry.n)], pa.string())}
        ))  # fmt: skip
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.concat_tables(tables).unify_dictionaries(), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _text(value: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{value}" if value.startswith(("=", "+", "-", "@")) else value
