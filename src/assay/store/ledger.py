"""The ledger: one SQLite file that holds every result of a run, sample by sample, as it comes.

One process writes; a kill at any moment leaves what was committed. Everything else in a run's folder (tables, summary,
report) is made from it and can be made again.
"""

import json
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.outcome import Status
from assay.store.columns import COLUMNS, Columns, Words, not_run
from assay.store.digests import Damage, damage, seal, seal_all, seal_plan, seal_shard, unseal
from assay.store.lock import COMMAND
from assay.store.sqlite import NAME, connected, convert, format_of
from assay.util.output_folder import Owned, read_record, write_record
from assay.util.validate import described, reject

MADE = ("study.json", "summary.json", "samples.csv", "samples.parquet", "report.html", "manifest.json")
"""The files that are made from a ledger."""


@dataclass(frozen=True)
class Entry:
    """One cell of the ledger.

    Attributes:
        id: its number in this ledger.
        key: its identity.
        data: digest of its data.
        n: samples.
        fields: what the identity is made of, by name.
        name: what ran.
        stages: the parts of a cascade.
    """

    id: int
    key: str
    data: str
    n: int
    fields: Mapping[str, str]
    name: str
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """Some consecutive samples of a cell that were attacked together: they are in the ledger, or none of them is.

    Attributes:
        first: index of the first sample.
        count: samples.
        seconds: wall time.
        worker: where it ran.
        images: file of the adversarial images, relative to the run's folder; None if they were not kept.
        sha256: of that file.
        events: what happened besides.
        keep: which images were to be kept: ``"all"``, ``"broken"`` or ``"none"``; None where the ledger does not say.
    """

    first: int
    count: int
    seconds: float
    worker: str
    images: str | None
    sha256: str | None
    events: tuple[str, ...]
    keep: str | None = None


class Ledger:
    """A run's results. Use as a context manager.

    Args:
        folder: the run's folder.
        write: whether results will be added; without, the file must be there and is left alone.

    Raises:
        FileNotFoundError: nothing to read there.
        ValueError: not a ledger, or one of a later format.
    """

    def __init__(self, folder: Path, *, write: bool = False) -> None:
        self.path = Path(folder) / NAME
        new = write and not self.path.exists()
        if new:
            Path(folder).mkdir(parents=True, exist_ok=True)
            known = read_record(Path(folder))
            run = known.run if known is not None else secrets.token_hex(8)
            write_record(Path(folder), Owned(run, COMMAND, known.files if known is not None else ()))
        self.connection = connected(self.path, write=write)
        self.sealed = format_of(self.connection) > 1
        """Whether rows have digests; a ledger of format 1 gets them when it is opened to be written."""
        self.compared = new
        """Whether all results have been compared with their digests since the ledger was opened."""
        if new:
            self.keep(run=run, files=[])
        elif write:
            self._prepare()

    def _prepare(self) -> None:
        """Bring an old ledger to the present format, and see that the folder's record is that of this ledger."""
        folder = self.path.parent
        if not self.sealed:
            there = [name for name in MADE if (folder / name).is_file()]
            with self.together() as db:
                convert(db)
                own = {"run": secrets.token_hex(8), "files": there}
                db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)",
                               [(name, json.dumps(value)) for name, value in own.items()])  # fmt: skip
                seal_all(db)
            self.sealed = True
        if self.meta("run") is None:
            self.keep(run=secrets.token_hex(8))
        run, known = str(self.meta("run")), read_record(folder)
        if known is None or (known.run, known.command) != (run, COMMAND):
            write_record(folder, Owned(run, COMMAND, ()))

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    @contextmanager
    def together(self) -> Iterator[sqlite3.Connection]:
        """What is written inside is there as a whole, or not at all."""
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            yield self.connection

    def meta(self, name: str) -> Any:
        """A value that was kept under a name; None without."""
        row = self.connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        try:
            return None if row is None else json.loads(row[0])
        except ValueError:  # damaged: comparing with its digest tells
            return None

    def keep(self, **values: Any) -> None:
        """Keep values (what JSON can hold) under names."""
        rows = [(name, json.dumps(value, allow_nan=False)) for name, value in values.items()]
        with self.together() as db:
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
            for name, value in rows:
                seal(db, f"meta/{name}", name, value)

    def tell(self, at: str, text: str) -> None:
        """Keep a sentence about the run."""
        with self.together() as db:
            number = db.execute("INSERT INTO event VALUES (?, ?)", (at, text)).lastrowid
            seal(db, f"event/{number}", at, text)

    def told(self) -> list[tuple[str, str]]:
        """The sentences about the run: when, what."""
        return list(self.connection.execute("SELECT at, text FROM event ORDER BY rowid"))

    def add_data(self, digest: str, about: Mapping[str, Any]) -> None:
        """Keep what is known about a data set."""
        text = json.dumps(dict(about))
        with self.together() as db:
            db.execute("INSERT OR REPLACE INTO data VALUES (?, ?)", (digest, text))
            seal(db, f"data/{digest}", digest, text)

    def data(self) -> dict[str, dict[str, Any]]:
        """The data sets by digest."""
        return {digest: json.loads(about) for digest, about in self.connection.execute("SELECT * FROM data")}

    def enter(self, key: str, data: str, n: int, fields: Mapping[str, str], name: str, stages: Sequence[str]) -> int:
        """The number of a cell, which is entered if it is new."""
        about = json.dumps({"name": name, "stages": list(stages)})
        with self.together() as db:
            db.execute("INSERT OR IGNORE INTO cell(key, data, n, fields, about) VALUES (?, ?, ?, ?, ?)",
                       (key, data, n, json.dumps(dict(fields), sort_keys=True), about))  # fmt: skip
            asked = "SELECT id, key, data, n, fields, about FROM cell WHERE key = ?"
            found, *rest = db.execute(asked, (key,)).fetchone()
            seal(db, f"cell/{found}", found, *rest)
        return int(found)

    def arrange(self, cells: Iterable[tuple[int, Words]]) -> None:
        """Say which cells the run now consists of, in order, and what they are called."""
        rows = [(i, cell, json.dumps(asdict(words))) for i, (cell, words) in enumerate(cells)]
        with self.together() as db:
            db.execute("DELETE FROM plan")
            db.executemany("INSERT INTO plan VALUES (?, ?, ?)", rows)
            seal_plan(db)

    def plan(self) -> list[tuple[Entry, Words]]:
        """The cells that the run consists of, in order."""
        entries = {entry.id: entry for entry in self.cells()}
        found = self.connection.execute("SELECT cell, words FROM plan ORDER BY place").fetchall()
        missing = sorted({cell for cell, _ in found} - set(entries))
        if missing:
            expected = "a ledger with all cells of its plan (the run's own command makes them again)"
            reject("run", expected, described(f"none of number {', '.join(map(str, missing))} in {self.path}"))
        try:
            return [(entries[cell], Words(**json.loads(words))) for cell, words in found]
        except (TypeError, ValueError) as error:
            return reject("run", f"a ledger written by assay at {self.path}", described(f"a damaged plan: {error}"))

    def cells(self) -> list[Entry]:
        """Every cell, also those of earlier plans."""
        found = []
        for number, key, data, n, fields, about in self.connection.execute("SELECT * FROM cell ORDER BY id"):
            told = json.loads(about)
            found.append(Entry(number, key, data, n, json.loads(fields), told["name"], tuple(told["stages"])))
        return found

    def add(self, cell: int, part: Part, columns: Columns, errors: Mapping[int, str] | None = None) -> None:
        """Add the results of some samples, all or none.

        Args:
            cell: as returned by `enter`.
            part: which samples.
            columns: their numbers, one array a column.
            errors: messages by sample of the data set.
        """
        told = errors or {}
        numbers = range(part.first, part.first + part.count)
        lists = [_plain(columns[name], kind) for name, kind in COLUMNS.items()]
        rows = zip([cell] * part.count, numbers, *lists, [told.get(i) for i in numbers], strict=True)
        marks = ", ".join("?" * (len(COLUMNS) + 3))
        with self.together() as db:
            db.executemany(f"INSERT OR REPLACE INTO sample VALUES ({marks})", rows)  # noqa: S608 (only marks)
            db.execute("INSERT OR REPLACE INTO shard VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                       (cell, part.first, part.count, part.seconds, part.worker, part.images, part.sha256,
                        json.dumps(part.events), part.keep))  # fmt: skip
            seal_shard(db, cell, part.first)

    def drop(self, cell: int, first: int) -> None:
        """Take a part out again: its images are lost or damaged."""
        with self.together() as db:
            row = db.execute("SELECT count FROM shard WHERE cell = ? AND first = ?", (cell, first)).fetchone()
            if row is not None:
                db.execute("DELETE FROM sample WHERE cell = ? AND sample >= ? AND sample < ?",
                           (cell, first, first + row[0]))  # fmt: skip
                db.execute("DELETE FROM shard WHERE cell = ? AND first = ?", (cell, first))
            unseal(db, f"shard/{cell}/{first}")

    def parts(self, cell: int | None = None) -> dict[int, list[Part]]:
        """The parts that are there, by cell."""
        where, values = ("", ()) if cell is None else ("WHERE cell = ?", (cell,))
        found: dict[int, list[Part]] = {}
        asked = self.connection.execute(f"SELECT * FROM shard {where} ORDER BY cell, first", values)  # noqa: S608
        for number, first, count, seconds, worker, images, sha256, events, *keep in asked:
            part = Part(first, count, seconds, worker, images, sha256, tuple(json.loads(events)), *keep)
            found.setdefault(number, []).append(part)
        return found

    def columns(self, entry: Entry, names: Sequence[str] = tuple(COLUMNS)) -> dict[str, Any]:
        """The numbers of a cell, one array a column, samples that are not there as not run."""
        blank = not_run(entry.n)
        chosen = ", ".join(name for name in COLUMNS if name in names)
        kept = tuple(name for name in COLUMNS if name in names)
        asked = f"SELECT sample, {chosen} FROM sample WHERE cell = ? AND sample >= 0 AND sample < ?"  # noqa: S608
        rows = self.connection.execute(asked, (entry.id, entry.n)).fetchall()
        if not rows:
            return {name: blank[name] for name in kept}
        at, *values = zip(*rows, strict=True)
        index = np.array(at)
        for name, column in zip(kept, values, strict=True):
            blank[name][index] = np.array(column, dtype=np.float64 if COLUMNS[name] is float else np.int64)
        return {name: blank[name] for name in kept}

    def counts(self) -> dict[int, dict[int, int]]:
        """How many samples of each cell have ended in which status, by cell and code."""
        found: dict[int, dict[int, int]] = {}
        asked = "SELECT cell, status, count(*) FROM sample GROUP BY cell, status"
        for cell, status, count in self.connection.execute(asked):
            found.setdefault(cell, {})[status] = count
        return found

    def faults(self) -> list[str]:
        """What is wrong with the file's structure, as sentences; nothing where it is whole."""
        return [str(row[0]) for row in self.connection.execute("PRAGMA integrity_check") if row[0] != "ok"]

    def damage(self, *tables: str) -> Damage:
        """What is not as it was written; nothing can be said of a ledger of format 1.

        Args:
            tables: what is compared; by default everything.
        """
        if not self.sealed:
            return Damage()
        return damage(self.connection, tables) if tables else damage(self.connection)

    def require_rows(self) -> None:
        """Refuse a ledger whose results are not as they were written; each ledger that is opened is compared once.

        Raises:
            ValueError: one row at least has changed.
        """
        if self.compared:
            return
        damage = self.damage()
        wrong = [text for name, text in zip(damage.names, damage.texts, strict=True) if self._counts(name)]
        if wrong:
            expected = "results as they were written (assay verify lists the damage; the run's own command repairs it)"
            reject("run", expected, described(f"{len(wrong)} changed parts in {self.path}, the first: {wrong[0]}"))
        self.compared = True

    def _counts(self, name: str) -> bool:
        """Whether readers would show something else because of a damaged row: not of a cell or shard that is gone."""
        table, *key = name.split("/")
        if table not in ("cell", "shard") or not all(part.isdecimal() for part in key) or not key:
            return table != "event"
        if len(key) < (2 if table == "shard" else 1):
            return True
        asked = "SELECT 1 FROM cell WHERE id = ?"
        if table == "shard":
            asked = "SELECT 1 FROM shard WHERE cell = ? AND first = ?"
        return self.connection.execute(asked, tuple(map(int, key))).fetchone() is not None

    def errors(self, entry: Entry) -> dict[int, str]:
        """Messages by sample of a cell."""
        asked = "SELECT sample, error FROM sample WHERE cell = ? AND sample < ? AND error IS NOT NULL"
        return dict(self.connection.execute(asked, (entry.id, entry.n)))

    def error_texts(self, cell: int) -> list[str]:
        """Messages of the samples of a cell that raised an error, in order."""
        asked = "SELECT coalesce(error, 'no message') FROM sample WHERE cell = ? AND status = ? ORDER BY sample"
        return [row[0] for row in self.connection.execute(asked, (cell, int(Status.ERROR)))]

    def answer(self, key: str) -> Any:
        """What was kept under a key: the answer of a diagnostic, the result of a check; None without."""
        row = self.connection.execute("SELECT content FROM answer WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def add_answer(self, key: str, kind: str, content: Any) -> None:
        """Keep an answer."""
        text = json.dumps(content, allow_nan=False)
        with self.together() as db:
            db.execute("INSERT OR REPLACE INTO answer VALUES (?, ?, ?)", (key, kind, text))
            seal(db, f"answer/{key}", key, kind, text)


def _plain(values: Any, kind: type) -> list[Any]:
    """An array as SQLite takes it: what is no number becomes NULL."""
    if kind is int:
        found: list[Any] = values.tolist()
        return found
    return [None if v != v else v for v in values.tolist()]
