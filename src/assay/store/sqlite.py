"""The ledger's SQLite file: schema, connection, and format versions."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from assay.store.columns import COLUMNS
from assay.util.files import atomic_write
from assay.util.output_folder import LEDGER
from assay.util.validate import described, reject

_NETWORK = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "afs",
        "lustre",
        "gpfs",
        "beegfs",
        "ceph",
        "glusterfs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.s3fs",
        "9p",
        "orangefs",
    }
)
FORMAT = 2
NAME = LEDGER
_SQL = {int: "INTEGER NOT NULL", float: "REAL"}
_SCHEMA = f"""
CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE data(digest TEXT PRIMARY KEY, about TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE cell(id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, data TEXT NOT NULL, n INTEGER NOT NULL,
    fields TEXT NOT NULL, about TEXT NOT NULL) STRICT;
CREATE TABLE plan(place INTEGER PRIMARY KEY, cell INTEGER NOT NULL, words TEXT NOT NULL) STRICT;
CREATE TABLE shard(cell INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL, seconds REAL NOT NULL,
    worker TEXT NOT NULL, images TEXT, sha256 TEXT, events TEXT NOT NULL, keep TEXT, PRIMARY KEY(cell, first))
    STRICT, WITHOUT ROWID;
CREATE TABLE sample(cell INTEGER NOT NULL, sample INTEGER NOT NULL,
    {", ".join(f"{name} {_SQL[kind]}" for name, kind in COLUMNS.items())}, error TEXT,
    PRIMARY KEY(cell, sample)) STRICT, WITHOUT ROWID;
CREATE TABLE answer(key TEXT PRIMARY KEY, kind TEXT NOT NULL, content TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE event(at TEXT NOT NULL, text TEXT NOT NULL) STRICT;
CREATE TABLE seal(name TEXT PRIMARY KEY, sha256 TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""
_FORMAT_2 = """
ALTER TABLE shard ADD COLUMN keep TEXT;
CREATE TABLE seal(name TEXT PRIMARY KEY, sha256 TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""
"""What format 2 has beside format 1."""
_TABLES = frozenset({"meta", "data", "cell", "plan", "shard", "sample", "answer", "event"})


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open a ledger's file, and check that it is one.

    A new file is created atomically, so that a kill never leaves an empty ledger.

    Args:
        path: the file; made if it is missing and ``write``.
        write: whether anything will be added.

    Raises:
        FileNotFoundError: nothing to read there.
        ValueError: not a ledger, a damaged one, or one of a later format.
    """
    if not path.is_file():
        if not write:
            raise FileNotFoundError(f"run: expected a run's folder, but there is no {path.name} in {path.parent}")
        _create(path)
    where = path.resolve().as_uri()
    if write:
        connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    else:
        # A read-only folder has no room for the files that a reader of a write-ahead log needs.
        immutable = not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
        connection = sqlite3.connect(f"{where}?mode=ro" + ("&immutable=1" if immutable else ""), uri=True, timeout=30)
    connection.text_factory = _text
    try:
        _check_format(connection, path)
        if write:
            connection.execute(f"PRAGMA journal_mode = {'DELETE' if on_network(path.parent) else 'WAL'}")
            connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _text(content: bytes) -> str:
    """Decode damaged text anyway, so that the digest check can report it."""
    return content.decode("utf-8", "surrogateescape")


def format_of(connection: sqlite3.Connection) -> int:
    """The format of a ledger."""
    with closing(connection.execute("PRAGMA user_version")) as cursor:
        return int(cursor.fetchone()[0])


def convert(connection: sqlite3.Connection) -> None:
    """Give a ledger of format 1 the tables of format 2, inside a transaction."""
    for statement in _FORMAT_2.split(";"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def _create(path: Path) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT")
        content = connection.serialize()
    atomic_write(path, content)


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    expected = f"a ledger written by assay at {path}"
    advice = "restore it from a copy, or start a new run with another -o"
    try:
        version = format_of(connection)
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        reject("run", f"{expected} ({advice})", described(str(error)))
    if path.stat().st_size == 0:
        reject("run", f"{expected} ({advice})", described("an empty file"))
    if version > FORMAT:
        reject("run", f"a ledger of format {FORMAT} or earlier (a later assay wrote this one)", version)
    if version < 1 or not tables & _TABLES:
        reject("run", expected, described("another SQLite file"))
    if version == 1 and "seal" in tables:
        reject("run", f"{expected} ({advice})", described("one of format 1 with the digests of format 2"))
    missing = sorted((_TABLES | ({"seal"} if version > 1 else set())) - tables)
    if missing:
        reject("run", f"{expected} ({advice})", described(f"one without its table {', '.join(missing)}"))


def on_network(folder: Path) -> bool:
    """Whether a folder is on a network file system, where SQLite's write-ahead log does not work.

    Source: sqlite.org/wal.html, "All processes using a database must be on the same host computer".
    """
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    here, best, kind = folder.resolve(), "", ""
    for line in lines:
        _, place, name, *_ = line.split()
        place = place.replace("\\040", " ")
        if here.is_relative_to(place) and len(place) >= len(best):
            best, kind = place, name
    return kind in _NETWORK
