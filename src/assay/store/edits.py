"""Read or remove single rows of a ledger."""

from typing import Any

import numpy as np

from assay.core.outcome import Status
from assay.store.columns import COLUMNS, Shard
from assay.store.digests import is_digest_name, remove_digest
from assay.store.ledger import Ledger


def read_shard(ledger: Ledger, cell: int, first: int) -> tuple[Shard, dict[str, Any], dict[int, str]]:
    """A stored shard, its columns, and its errors by sample."""
    (shard,) = (shard for shard in ledger.shards(cell)[cell] if shard.first == first)
    query = f"SELECT {', '.join(COLUMNS)}, error FROM sample WHERE cell = ? AND sample >= ? AND sample < ?"  # noqa: S608
    rows = ledger.connection.execute(f"{query} ORDER BY sample", (cell, first, first + shard.count)).fetchall()
    *columns, errors = zip(*rows, strict=True)
    arrays = {
        name: np.array(values, dtype=np.float64 if kind is float else np.int64)
        for (name, kind), values in zip(COLUMNS.items(), columns, strict=True)
    }
    return shard, arrays, {first + i: text for i, text in enumerate(errors) if text is not None}


def samples_with_status(ledger: Ledger, status: int) -> dict[int, list[int]]:
    """The samples that have ended in a status, by cell."""
    samples: dict[int, list[int]] = {}
    query = "SELECT cell, sample FROM sample WHERE status = ? ORDER BY cell, sample"
    for cell, sample in ledger.connection.execute(query, (status,)):
        samples.setdefault(cell, []).append(sample)
    return samples


def broken_and_passes(ledger: Ledger) -> dict[int, tuple[int, int]]:
    """By cell how many samples are broken, and the forward and backward passes spent."""
    query = "SELECT cell, sum(status = ?), sum(forwards + backwards) FROM sample GROUP BY cell"
    return {cell: (broken, passes) for cell, broken, passes in ledger.connection.execute(query, (int(Status.BROKEN),))}


def remove_row(ledger: Ledger, table: str, *key: str) -> None:
    """Remove a row, with all that belongs to it, and its digest.

    Args:
        ledger: to be changed.
        table: ``cell``, ``shard``, ``data``, ``answer``, ``meta``, ``event`` or ``plan``.
        key: of the row, as in the name of its digest.
    """
    if not is_digest_name("/".join((table, *key))):
        with ledger.transaction() as db:
            remove_digest(db, "/".join((table, *key)))
        return
    if table == "shard":
        ledger.drop_shard(int(key[0]), int(key[1]))
        return
    column = {"cell": "id", "data": "digest", "answer": "key", "meta": "name", "event": "rowid"}.get(table)
    with ledger.transaction() as db:
        if table == "cell":
            for inner in ("sample", "shard"):
                db.execute(f"DELETE FROM {inner} WHERE cell = ?", key)  # noqa: S608 (our own tables)
            db.execute("DELETE FROM seal WHERE name LIKE ?", (f"shard/{key[0]}/%",))
        where = "" if column is None else f" WHERE {column} = ?"
        db.execute(f"DELETE FROM {table}{where}", () if column is None else key)  # noqa: S608
        remove_digest(db, "/".join((table, *key)))


def remove_stray_samples(ledger: Ledger, cell: int) -> None:
    """Remove the samples of a cell that belong to no shard."""
    with ledger.transaction() as db:
        inside = "shard.cell = sample.cell AND sample.sample >= first AND sample.sample < first + count"
        statement = f"DELETE FROM sample WHERE cell = ? AND NOT EXISTS (SELECT 1 FROM shard WHERE {inside})"  # noqa: S608
        db.execute(statement, (cell,))
