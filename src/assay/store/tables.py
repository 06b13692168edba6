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
    """One record a sample and attack, in the order of the plan, without times."""
    for cell, names in ledger.plan():
        columns, errors = ledger.columns(cell), ledger.errors(cell)
        values = {name: columns[name].tolist() for name in COLUMNS}
        for i in range(cell.n):
            yield _row(cell, names, i, values, errors)


def _row(
    cell: Cell, names: CellNames, i: int, columns: Mapping[str, list[Any]], errors: Mapping[int, str]
) -> dict[str, Any]:
    stage = columns["stage"][i]
    row = {
        "data": names.data,
        "model": names.model,
        "attack": names.attack,
        "budget": names.budget,
        "seed": names.seed,
        "sample": i,
    }
    row |= {name: values[i] for name, values in columns.items() if name != "stage"}
    row["status"] = _LABELS[columns["status"][i]]
    return row | {"broken_by": cell.stages[stage] if stage >= 0 else None, "error": errors.get(i)}


def csv_text(ledger: Ledger) -> str:
    """The content of ``samples.csv``, from the ledger."""
    buffer, writer = io.StringIO(), None
    for row in rows(ledger):
        if writer is None:
            writer = csv.DictWriter(buffer, fieldnames=list(row))
            writer.writeheader()
        writer.writerow(
            {name: _escape_formula(value) if isinstance(value, str) else value for name, value in row.items()}
        )
    return buffer.getvalue()


def parquet_bytes(ledger: Ledger) -> bytes | None:
    """The content of ``samples.parquet``, from the ledger; None where pyarrow is not installed."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        return None
    tables = []
    for cell, names in ledger.plan():
        columns, errors = ledger.columns(cell), ledger.errors(cell)
        stages = columns.pop("stage").tolist()
        status = columns.pop("status").tolist()
        plain = {"data": names.data, "model": names.model, "attack": names.attack, "budget": names.budget}
        tables.append(
            pa.table(
                {name: pa.array([value] * cell.n, pa.string()).dictionary_encode() for name, value in plain.items()}
                | {"seed": pa.array([names.seed] * cell.n), "sample": pa.array(range(cell.n), pa.int64())}
                | {"status": pa.array([_LABELS[code] for code in status], pa.string()).dictionary_encode()}
                | {name: pa.array(values) for name, values in columns.items()}
                | {"broken_by": pa.array([cell.stages[s] if s >= 0 else None for s in stages], pa.string())}
                | {"error": pa.array([errors.get(i) for i in range(cell.n)], pa.string())}
            )
        )
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.concat_tables(tables).unify_dictionaries(), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _escape_formula(value: str) -> str:
    """Text escaped so that no spreadsheet reads it as a formula."""
    return f"'{value}" if value.startswith(("=", "+", "-", "@")) else value
