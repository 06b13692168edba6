"""The ledger's file: its tables, how it is opened, and which formats are read."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from assay.core.arguments import described, reject
from assay.runs.records import COLUMNS
from assay.runs.storage import on_network

FORMAT = 1
NAME = "ledger.sqlite"
_SQL = {int: "INTEGER NOT NULL", float: "REAL"}
_SCHEMA = f"""
CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE data(digest TEXT PRIMARY KEY, about TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE cell(id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, data TEXT NOT NULL, n INTEGER NOT NULL,
    fields TEXT NOT NULL, about TEXT NOT NULL) STRICT;
CREATE TABLE plan(place INTEGER PRIMARY KEY, cell INTEGER NOT NULL, words TEXT NOT NULL) STRICT;
CREATE TABLE shard(cell INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL, seconds REAL NOT NULL,
    worker TEXT NOT NULL, images TEXT, sha256 TEXT, events TEXT NOT NULL, PRIMARY KEY(cell, first))
    STRICT, WITHOUT ROWID;
CREATE TABLE sample(cell INTEGER NOT NULL, sample INTEGER NOT NULL,
    {", ".join(f"{name} {_SQL[kind]}" for name, kind in COLUMNS.items())}, error TEXT,
    PRIMARY KEY(cell, sample)) STRICT, WITHOUT ROWID;
CREATE TABLE answer(key TEXT PRIMARY KEY, kind TEXT NOT NULL, content TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE event(at TEXT NOT NULL, text TEXT NOT NULL) STRICT;
"""


def connected(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open a ledger's file, and see that it is one.

    Args:
        path: the file; made if it is missing and ``write``.
        write: whether anything will be added.

    Raises:
        FileNotFoundError: nothing to read there.
        ValueError: not a ledger, or one of a later format.
    """
    if not write and not path.is_file():
        raise FileNotFoundError(f"run: expected a run's folder, but there is no {path.name} in {path.parent}")
    where = path.resolve().as_uri()
    if write:
        connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    else:
        # A read-only folder has no room for the files that a reader of a write-ahead log needs.
        fixed = not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
        connection = sqlite3.connect(f"{where}?mode=ro" + ("&immutable=1" if fixed else ""), uri=True, timeout=30)
    try:
        _check_format(connection, path, write=write)
        if write:
            connection.execute(f"PRAGMA journal_mode = {'DELETE' if on_network(path.parent) else 'WAL'}")
            connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_format(connection: sqlite3.Connection, path: Path, *, write: bool) -> None:
    expected = f"a ledger written by assay at {path}"
    try:
        with closing(connection.execute("PRAGMA user_version")) as asked:
            version = int(asked.fetchone()[0])
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if write and version == 0 and not tables:
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT")
            return
    except sqlite3.DatabaseError as error:
        reject("run", expected, described(str(error)))
    if version > FORMAT:
        reject("run", f"a ledger of format {FORMAT} or earlier (a later assay wrote this one)", version)
    if version < 1 or "sample" not in tables:
        reject("run", expected, described("another SQLite file"))
