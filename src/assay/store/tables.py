"""The tables of a run, ``samples.csv`` and ``samples.parquet``, made from the ledger."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from assay.core.outcome import Status
from assay.store.columns import COLUMNS, Cell, CellNames
from assay.store.ledger import Ledger

_LABELS = {int(status): status.label for status in Status}


def rows(ledger: Ledger) -> Iterator[dict[str, Any]]:
    """One record a sample and attack, in the order of the plan; it holds no times."""
    for entry, words in ledger.plan():
        columns, errors = ledger.columns(entry), ledger.errors(entry)
        lists = {name: columns[name].tolist() for name in COLUMNS}
        for i in range(entry.n):
            yield _row(entry, words, i, lists, errors)


def _row(
    entry: Cell, words: CellNames, i: int, lists: Mapping[str, list[Any]], errors: Mapping[int, str]
) -> dict[str, Any]:
    stage = lists["stage"][i]
    results = {
        "data": words.data,
        "model": words.model,
        "attack": words.attack,
        "budget": words.budget,
        "seed": words.seed,
        "sample": i,
    }
    results |= {name: values[i] for name, values in lists.items() if name != "stage"}
    results["status"] = _LABELS[lists["status"][i]]
    return results | {"broken_by": entry.stages[stage] if stage >= 0 else None, "error": errors.get(i)}


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
        tables.append(
            pa.table(
                {name: pa.array([value] * entry.n, pa.string()).dictionary_encode() for name, value in plain.items()}
                | {"seed": pa.array([words.seed] * entry.n), "sample": pa.array(range(entry.n), pa.int64())}
                | {"status": pa.array([_LABELS[code] for code in status], pa.string()).dictionary_encode()}
                | {name: pa.array(values) for name, values in columns.items()}
                | {"broken_by": pa.array([entry.stages[s] if s >= 0 else None for s in stages], pa.string())}
                | {"error": pa.array([errors.get(i) for i in range(entry.n)], pa.string())}
            )
        )
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.concat_tables(tables).unify_dictionaries(), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _text(value: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{value}" if value.startswith(("=", "+", "-", "@")) else value
