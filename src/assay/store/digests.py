"""Digests of the ledger's rows, written in the same transaction, so that edits and damage are detected."""

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from assay.store.columns import COLUMNS

_PARTS = ", ".join(("first", "count", "seconds", "worker", "images", "sha256", "events", "keep"))
_PLAIN = {
    "meta": "SELECT 'meta/' || name, name, value FROM meta",
    "data": "SELECT 'data/' || digest, digest, about FROM data",
    "cell": "SELECT 'cell/' || id, id, key, data, n, fields, about FROM cell",
    "answer": "SELECT 'answer/' || key, key, kind, content FROM answer",
    "event": "SELECT 'event/' || rowid, at, text FROM event",
}
"""Tables whose rows have a digest each: its name, then what it is over."""
_SHARDS = f"SELECT cell, {_PARTS} FROM shard ORDER BY cell, first"  # noqa: S608 (names of our columns)
_SHARD = f"SELECT {_PARTS} FROM shard WHERE cell = ? AND first = ?"  # noqa: S608
_SAMPLES = f"SELECT sample, {', '.join(COLUMNS)}, error FROM sample WHERE cell = ?"  # noqa: S608
_STRAYS = """
SELECT sample.cell, count(*) FROM sample LEFT JOIN shard ON shard.cell = sample.cell
AND sample.sample >= shard.first AND sample.sample < shard.first + shard.count
WHERE shard.cell IS NULL GROUP BY sample.cell
"""
_NAME = re.compile(r"plan|(cell|event)/\d+|shard/\d+/\d+|(meta|data|answer)/.*", re.DOTALL)
"""How digests are named."""
_KINDS = MappingProxyType({"meta": "the value", "data": "the data set", "answer": "the answer", "event": "the note"})


@dataclass(frozen=True)
class Damage:
    """Rows of a ledger that changed since they were written.

    Attributes:
        names: of the rows whose digest is wrong or missing, or which are gone, such as ``"shard/3/128"``.
        texts: a sentence for each.
    """

    names: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


def write_digest(connection: sqlite3.Connection, name: str, *values: Any) -> None:
    """Write the digest of a row, inside the transaction that writes the row."""
    connection.execute("INSERT OR REPLACE INTO seal VALUES (?, ?)", (name, _digest(values)))


def write_shard_digest(connection: sqlite3.Connection, cell: int, first: int) -> None:
    """Write the digest of a shard and its samples, inside the transaction that writes them."""
    shard_row = connection.execute(_SHARD, (cell, first)).fetchone()
    rows = connection.execute(
        f"{_SAMPLES} AND sample >= ? AND sample < ? ORDER BY sample", (cell, first, first + shard_row[1])
    ).fetchall()
    connection.execute(
        "INSERT OR REPLACE INTO seal VALUES (?, ?)", (f"shard/{cell}/{first}", _of_shard(shard_row, rows))
    )


def write_plan_digest(connection: sqlite3.Connection) -> None:
    """Write the digest of the plan."""
    write_digest(connection, "plan", connection.execute("SELECT * FROM plan ORDER BY place").fetchall())


def is_digest_name(name: str) -> bool:
    """Whether a digest can have that name."""
    return _NAME.fullmatch(name) is not None


def remove_digest(connection: sqlite3.Connection, name: str) -> None:
    """Remove the digest of a row that is removed."""
    connection.execute("DELETE FROM seal WHERE name = ?", (name,))


def write_all_digests(connection: sqlite3.Connection) -> None:
    """Write digests of everything, as it is."""
    for query in _PLAIN.values():
        for name, *values in connection.execute(query).fetchall():
            write_digest(connection, name, *values)
    write_plan_digest(connection)
    for cell, first in connection.execute("SELECT cell, first FROM shard").fetchall():
        write_shard_digest(connection, cell, first)


def find_damage(connection: sqlite3.Connection, tables: Sequence[str] = (*_PLAIN, "plan", "shard")) -> Damage:
    """Compare everything with its digest.

    Args:
        connection: of a ledger of format 2.
        tables: what is compared.
    """
    owns_transaction = not connection.in_transaction
    if owns_transaction:  # one state of a ledger that another process may be writing to
        connection.execute("BEGIN")
    try:
        return _compared(connection, tables)
    finally:
        if owns_transaction:
            connection.execute("ROLLBACK")


def _compared(connection: sqlite3.Connection, tables: Sequence[str]) -> Damage:
    stored = dict(connection.execute("SELECT name, sha256 FROM seal"))
    names, texts = [], []
    for name, digest in _current_digests(connection, tables):
        expected = stored.pop(name, None)
        if digest != expected:
            names.append(name)
            texts.append(
                f"{_describe(name)} changed since written" if expected else f"{_describe(name)}: added by hand"
            )
    gone = [name for name in stored if not is_digest_name(name) or name.split("/")[0] in tables]
    return Damage((*names, *gone), (*texts, *(f"{_describe(name)} is missing" for name in gone)))


def visible_damage(connection: sqlite3.Connection, damage: Damage) -> list[str]:
    """The damage that changes what readers show: not that of events, or of a cell or shard that is gone.

    Args:
        connection: to the ledger.
        damage: as `damage` finds it.

    Returns:
        A sentence for each damaged row.
    """

    def is_visible(name: str) -> bool:
        table, *key = name.split("/")
        if table not in ("cell", "shard") or not all(part.isdecimal() for part in key) or not key:
            return table != "event"
        if len(key) < (2 if table == "shard" else 1):
            return True
        query = "SELECT 1 FROM cell WHERE id = ?"
        if table == "shard":
            query = "SELECT 1 FROM shard WHERE cell = ? AND first = ?"
        return connection.execute(query, tuple(map(int, key))).fetchone() is not None

    return [text for name, text in zip(damage.names, damage.texts, strict=True) if is_visible(name)]


def stray_rows(connection: sqlite3.Connection) -> dict[int, int]:
    """How many samples of each cell belong to no shard."""
    return dict(connection.execute(_STRAYS))


def _current_digests(connection: sqlite3.Connection, tables: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names and digests of the stored rows and files."""
    for table, query in _PLAIN.items():
        if table in tables:
            for name, *values in connection.execute(query):
                yield name, _digest(values)
    if "plan" in tables:
        yield "plan", _digest([connection.execute("SELECT * FROM plan ORDER BY place").fetchall()])
    if "shard" in tables:
        yield from _shards(connection)


def _shards(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    shard_rows: dict[int, list[Any]] = {}
    for cell, *shard_row in connection.execute(_SHARDS):
        shard_rows.setdefault(cell, []).append(shard_row)
    for cell, abouts in shard_rows.items():
        rows = connection.execute(f"{_SAMPLES} ORDER BY sample", (cell,)).fetchall()
        at = np.array([row[0] for row in rows], dtype=np.int64)
        for shard_row in abouts:
            begin, end = np.searchsorted(at, [shard_row[0], shard_row[0] + shard_row[1]])
            yield f"shard/{cell}/{shard_row[0]}", _of_shard(shard_row, rows[begin:end])


def _of_shard(shard_row: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    samples, *columns, errors = zip(*rows, strict=True) if rows else ((), *(() for _ in COLUMNS), ())
    hasher = hashlib.sha256(json.dumps([list(shard_row), list(samples)]).encode())
    for (name, kind), values in zip(COLUMNS.items(), columns, strict=True):
        array = np.array(values, dtype=np.float64 if kind is float else np.int64)
        if kind is float:
            array = np.where(np.isnan(array), np.nan, array + 0.0)
        hasher.update(name.encode() + b"\0" + array.tobytes())
    hasher.update(json.dumps({str(i): text for i, text in zip(samples, errors, strict=True) if text}).encode())
    return hasher.hexdigest()


def _digest(values: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()


def _describe(name: str) -> str:
    table, *rest = name.split("/")
    if not is_digest_name(name):
        return f"the row that the digest {name!r} is of"
    if table == "plan":
        return "the plan"
    if table == "shard":
        return f"cell {rest[0]}, the samples from {rest[1]}"
    return f"{_KINDS.get(table, table)} {'/'.join(rest)}"
