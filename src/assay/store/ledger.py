"""The ledger: one SQLite file that holds every result of a run, sample by sample, as it comes.

One process writes; a kill at any moment leaves what was committed. Everything else in a run's folder (tables, summary,
report) is made from it and can be made again.
"""

import json
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.outcome import Status
from assay.store.columns import COLUMNS, Cell, CellNames, Columns, Shard, not_run_columns
from assay.store.digests import (
    Damage,
    find_damage,
    remove_digest,
    visible_damage,
    write_all_digests,
    write_digest,
    write_plan_digest,
    write_shard_digest,
)
from assay.store.lock import COMMAND
from assay.store.sqlite import NAME, connect, convert, format_of
from assay.util.output_folder import Owned, read_record, write_record
from assay.util.validate import described, reject

DERIVED_FILES = ("study.json", "summary.json", "samples.csv", "samples.parquet", "report.html", "manifest.json")
"""Files derived from a ledger."""


class Ledger:
    """A run's results. Use as a context manager.

    Args:
        folder: the run's folder.
        write: open for writing and create the file if needed; otherwise it must exist and is not changed.

    Raises:
        FileNotFoundError: nothing to read there.
        ValueError: not a ledger, or one of a later format.
    """

    def __init__(self, folder: Path, *, write: bool = False) -> None:
        self.path = Path(folder) / NAME
        is_new = write and not self.path.exists()
        if is_new:
            Path(folder).mkdir(parents=True, exist_ok=True)
            record = read_record(Path(folder))
            run = record.run if record is not None else secrets.token_hex(8)
            write_record(Path(folder), Owned(run, COMMAND, record.files if record is not None else ()))
        self.connection = connect(self.path, write=write)
        self.has_digests = format_of(self.connection) > 1
        """Whether rows have digests; a ledger of format 1 gets them when it is opened to be written."""
        self.is_verified = is_new
        """Whether all results have been compared with their digests since the ledger was opened."""
        if is_new:
            self.set_meta(run=run, files=[])
        elif write:
            self._prepare()

    def _prepare(self) -> None:
        """Bring an old ledger to the present format, and see that the folder's record is that of this ledger."""
        folder = self.path.parent
        if not self.has_digests:
            existing = [name for name in DERIVED_FILES if (folder / name).is_file()]
            with self.transaction() as db:
                convert(db)
                own = {"run": secrets.token_hex(8), "files": existing}
                db.executemany(
                    "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                    [(name, json.dumps(value)) for name, value in own.items()],
                )
                write_all_digests(db)
            self.has_digests = True
        if self.meta("run") is None:
            self.set_meta(run=secrets.token_hex(8))
        run, record = str(self.meta("run")), read_record(folder)
        if record is None or (record.run, record.command) != (run, COMMAND):
            write_record(folder, Owned(run, COMMAND, ()))

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all writes inside are committed, or none."""
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            yield self.connection

    def meta(self, name: str) -> Any:
        """The value stored under a name; None if there is none."""
        row = self.connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        try:
            return None if row is None else json.loads(row[0])
        except ValueError:  # damaged; the digest check reports it
            return None

    def set_meta(self, **values: Any) -> None:
        """Keep values (what JSON can hold) under names."""
        rows = [(name, json.dumps(value, allow_nan=False)) for name, value in values.items()]
        with self.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
            for name, value in rows:
                write_digest(db, f"meta/{name}", name, value)

    def add_event(self, at: str, text: str) -> None:
        """Store an event of the run."""
        with self.transaction() as db:
            number = db.execute("INSERT INTO event VALUES (?, ?)", (at, text)).lastrowid
            write_digest(db, f"event/{number}", at, text)

    def events(self) -> list[tuple[str, str]]:
        """The sentences about the run: when, what."""
        return list(self.connection.execute("SELECT at, text FROM event ORDER BY rowid"))

    def add_data(self, digest: str, about: Mapping[str, Any]) -> None:
        """Keep what is known about a data set."""
        text = json.dumps(dict(about))
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO data VALUES (?, ?)", (digest, text))
            write_digest(db, f"data/{digest}", digest, text)

    def data(self) -> dict[str, dict[str, Any]]:
        """The data sets by digest."""
        return {digest: json.loads(about) for digest, about in self.connection.execute("SELECT * FROM data")}

    def add_cell(self, key: str, data: str, n: int, fields: Mapping[str, str], name: str, stages: Sequence[str]) -> int:
        """Add a cell if it is new; return its id."""
        about = json.dumps({"name": name, "stages": list(stages)})
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO cell(key, data, n, fields, about) VALUES (?, ?, ?, ?, ?)",
                (key, data, n, json.dumps(dict(fields), sort_keys=True), about),
            )
            query = "SELECT id, key, data, n, fields, about FROM cell WHERE key = ?"
            cell_id, *rest = db.execute(query, (key,)).fetchone()
            write_digest(db, f"cell/{cell_id}", cell_id, *rest)
        return int(cell_id)

    def set_plan(self, cells: Iterable[tuple[int, CellNames]]) -> None:
        """Replace the plan: the run's cells in order, with their names."""
        rows = [(i, cell_id, json.dumps(asdict(names))) for i, (cell_id, names) in enumerate(cells)]
        with self.transaction() as db:
            db.execute("DELETE FROM plan")
            db.executemany("INSERT INTO plan VALUES (?, ?, ?)", rows)
            write_plan_digest(db)

    def plan(self) -> list[tuple[Cell, CellNames]]:
        """The cells that the run consists of, in order."""
        cells_by_id = {cell.id: cell for cell in self.cells()}
        rows = self.connection.execute("SELECT cell, words FROM plan ORDER BY place").fetchall()
        missing = sorted({cell_id for cell_id, _ in rows} - set(cells_by_id))
        if missing:
            expected = "a ledger with all cells of its plan (the run's own command makes them again)"
            reject("run", expected, described(f"none of number {', '.join(map(str, missing))} in {self.path}"))
        try:
            return [(cells_by_id[cell_id], CellNames(**json.loads(words))) for cell_id, words in rows]
        except (TypeError, ValueError) as error:
            return reject("run", f"a ledger written by assay at {self.path}", described(f"a damaged plan: {error}"))

    def cells(self) -> list[Cell]:
        """Every cell, also those of earlier plans."""
        results = []
        for number, key, data, n, fields, about in self.connection.execute("SELECT * FROM cell ORDER BY id"):
            info = json.loads(about)
            results.append(Cell(number, key, data, n, json.loads(fields), info["name"], tuple(info["stages"])))
        return results

    def add_shard(self, cell_id: int, shard: Shard, columns: Columns, errors: Mapping[int, str] | None = None) -> None:
        """Add the results of some samples, all or none.

        Args:
            cell_id: as returned by `add_cell`.
            shard: which samples.
            columns: their numbers, one array a column.
            errors: messages by sample of the data set.
        """
        messages = errors or {}
        numbers = range(shard.first, shard.first + shard.count)
        lists = [_plain(columns[name], kind) for name, kind in COLUMNS.items()]
        rows = zip([cell_id] * shard.count, numbers, *lists, [messages.get(i) for i in numbers], strict=True)
        marks = ", ".join("?" * (len(COLUMNS) + 3))
        with self.transaction() as db:
            db.executemany(f"INSERT OR REPLACE INTO sample VALUES ({marks})", rows)  # noqa: S608 (only marks)
            db.execute(
                "INSERT OR REPLACE INTO shard VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    cell_id,
                    shard.first,
                    shard.count,
                    shard.seconds,
                    shard.worker,
                    shard.images,
                    shard.sha256,
                    json.dumps(shard.events),
                    shard.keep,
                ),
            )
            write_shard_digest(db, cell_id, shard.first)

    def drop_shard(self, cell: int, first: int) -> None:
        """Delete a shard and its samples."""
        with self.transaction() as db:
            row = db.execute("SELECT count FROM shard WHERE cell = ? AND first = ?", (cell, first)).fetchone()
            if row is not None:
                db.execute(
                    "DELETE FROM sample WHERE cell = ? AND sample >= ? AND sample < ?", (cell, first, first + row[0])
                )
                db.execute("DELETE FROM shard WHERE cell = ? AND first = ?", (cell, first))
            remove_digest(db, f"shard/{cell}/{first}")

    def shards(self, cell: int | None = None) -> dict[int, list[Shard]]:
        """The stored shards, by cell id."""
        where, values = ("", ()) if cell is None else ("WHERE cell = ?", (cell,))
        results: dict[int, list[Shard]] = {}
        query = self.connection.execute(f"SELECT * FROM shard {where} ORDER BY cell, first", values)  # noqa: S608
        for number, first, count, seconds, worker, images, sha256, events, *keep in query:
            shard = Shard(first, count, seconds, worker, images, sha256, tuple(json.loads(events)), *keep)
            results.setdefault(number, []).append(shard)
        return results

    def columns(self, cell: Cell, names: Sequence[str] = tuple(COLUMNS)) -> dict[str, Any]:
        """The columns of a cell; missing samples count as not run."""
        blank = not_run_columns(cell.n)
        chosen = ", ".join(name for name in COLUMNS if name in names)
        kept = tuple(name for name in COLUMNS if name in names)
        query = f"SELECT sample, {chosen} FROM sample WHERE cell = ? AND sample >= 0 AND sample < ?"  # noqa: S608
        rows = self.connection.execute(query, (cell.id, cell.n)).fetchall()
        if not rows:
            return {name: blank[name] for name in kept}
        at, *values = zip(*rows, strict=True)
        index = np.array(at)
        for name, column in zip(kept, values, strict=True):
            blank[name][index] = np.array(column, dtype=np.float64 if COLUMNS[name] is float else np.int64)
        return {name: blank[name] for name in kept}

    def counts(self) -> dict[int, dict[int, int]]:
        """How many samples of each cell have ended in which status, by cell and code."""
        results: dict[int, dict[int, int]] = {}
        query = "SELECT cell, status, count(*) FROM sample GROUP BY cell, status"
        for cell, status, count in self.connection.execute(query):
            results.setdefault(cell, {})[status] = count
        return results

    def integrity_errors(self) -> list[str]:
        """What is wrong with the file's structure, as sentences; nothing where it is whole."""
        return [str(row[0]) for row in self.connection.execute("PRAGMA integrity_check") if row[0] != "ok"]

    def find_damage(self, *tables: str) -> Damage:
        """Rows that changed since they were written; a ledger of format 1 has no digests to check.

        Args:
            tables: what is compared; by default everything.
        """
        if not self.has_digests:
            return Damage()
        return find_damage(self.connection, tables) if tables else find_damage(self.connection)

    def require_rows(self) -> None:
        """Refuse a ledger whose results are not as they were written; each ledger that is opened is compared once.

        Raises:
            ValueError: one row at least has changed.
        """
        if self.is_verified:
            return
        texts = visible_damage(self.connection, self.find_damage())
        if texts:
            expected = "results as they were written (assay verify lists the damage; the run's own command repairs it)"
            reject("run", expected, described(f"{len(texts)} changed parts in {self.path}, the first: {texts[0]}"))
        self.is_verified = True

    def errors(self, cell: Cell) -> dict[int, str]:
        """Messages by sample of a cell."""
        query = "SELECT sample, error FROM sample WHERE cell = ? AND sample < ? AND error IS NOT NULL"
        return dict(self.connection.execute(query, (cell.id, cell.n)))

    def error_texts(self, cell: int) -> list[str]:
        """Messages of the samples of a cell that raised an error, in order."""
        query = "SELECT coalesce(error, 'no message') FROM sample WHERE cell = ? AND status = ? ORDER BY sample"
        return [row[0] for row in self.connection.execute(query, (cell, int(Status.ERROR)))]

    def answer(self, key: str) -> Any:
        """What was kept under a key: the answer of a diagnostic, the result of a check; None without."""
        row = self.connection.execute("SELECT content FROM answer WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def add_answer(self, key: str, kind: str, content: Any) -> None:
        """Keep an answer."""
        text = json.dumps(content, allow_nan=False)
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO answer VALUES (?, ?, ?)", (key, kind, text))
            write_digest(db, f"answer/{key}", key, kind, text)


def _plain(values: Any, kind: type) -> list[Any]:
    """An array as SQLite takes it: what is no number becomes NULL."""
    if kind is int:
        integers: list[Any] = values.tolist()
        return integers
    return [None if v != v else v for v in values.tolist()]
