"""The ledger: what is put in comes out, whole or not at all, also after a crash."""

import sqlite3

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from assay.runs.scheduler import missing_shards
from assay.store.columns import COLUMNS, Cell, CellNames
from assay.store.ledger import Ledger
from assay.store.sqlite import FORMAT, NAME
from runs.builders import columns, part

ENTRY = Cell(1, "k", "d", 40, {"model": "m"}, "PGD", ("PGD",))


def enter(ledger, n=40):
    return ledger.add_cell("k", "d", n, {"model": "m"}, "PGD", ("PGD",))


def test_numbers_come_back_as_they_went(tmp_path):
    given = columns(10)
    with Ledger(tmp_path, write=True) as ledger:
        cell = enter(ledger)
        ledger.add_shard(cell, part(20, 10), given, {21: "RuntimeError: no"})
        ledger.set_plan([(cell, CellNames("m", "d", "PGD", "PGD", "8/255", 8 / 255, None, 3))])
    with Ledger(tmp_path) as ledger:
        (entry, words), *_ = ledger.plan()
        assert (entry.fields, entry.stages, words.seed) == ({"model": "m"}, ("PGD",), 3)
        found = ledger.columns(entry)
        for name in COLUMNS:
            np.testing.assert_array_equal(found[name][20:30], given[name])
        assert set(found["status"][:20].tolist()) == {5}
        assert ledger.errors(entry) == {21: "RuntimeError: no"}
        assert ledger.shards()[cell][0].events == ("odd",)
        assert ledger.integrity_errors() == []


def test_a_part_is_there_or_not(tmp_path):
    """An error in the middle of writing a part leaves nothing of it."""
    with Ledger(tmp_path, write=True) as ledger:
        cell = enter(ledger)
        ledger.add_shard(cell, part(0, 10), columns(10))
        broken = columns(10, seed=1)
        broken["y"] = [*range(9), "no number"]
        broken["y"] = np.array(broken["y"], dtype=object)
        with pytest.raises(sqlite3.IntegrityError):
            ledger.add_shard(cell, part(10, 10), broken)
        assert len(ledger.shards()[cell]) == 1
        assert int((ledger.columns(ENTRY)["status"] != 5).sum()) <= 10
        assert ledger.integrity_errors() == []


def test_what_was_not_committed_is_not_there(tmp_path):
    with Ledger(tmp_path, write=True) as ledger:
        cell = enter(ledger)
        ledger.add_shard(cell, part(0, 10), columns(10))
        ledger.connection.execute("BEGIN IMMEDIATE")
        ledger.connection.execute("DELETE FROM sample")
        with Ledger(tmp_path) as other:  # a reader beside a writer
            assert len(other.shards()[cell]) == 1
            assert other.integrity_errors() == []


@pytest.mark.parametrize("what", ["text", "sqlite", "later", "half", "empty"])
def test_another_file_is_refused_in_a_sentence(tmp_path, what):
    path = tmp_path / NAME
    if what == "text":
        path.write_text("hello " * 1000)
    elif what == "empty":
        path.write_bytes(b"")
    elif what == "half":
        with Ledger(tmp_path, write=True) as ledger:
            enter(ledger)
        path.write_bytes(path.read_bytes()[:5000])
    else:
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE a(b)")
        if what == "later":
            db.execute(f"PRAGMA user_version = {FORMAT + 1}")
        db.commit()
        db.close()
    with pytest.raises((ValueError, sqlite3.DatabaseError), match=r"run: expected a ledger|malformed"):
        whole_ledger(tmp_path)


def whole_ledger(folder):
    """Open it and look at all of it."""
    with Ledger(folder) as ledger:
        ledger.plan()
        if ledger.integrity_errors():
            raise ValueError("run: expected a ledger without faults")


def test_no_run_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="run: expected a run's folder"):
        Ledger(tmp_path)


@given(st.integers(1, 60), st.integers(1, 20), st.sets(st.integers(0, 59)))
@settings(max_examples=100, deadline=None)
def test_what_is_missing_is_asked_for_once_and_in_whole_shards(n, size, there):
    entry = Cell(1, "", "", n, {}, "", ())
    there = {i for i in there if i < n}
    asked = list(missing_shards(entry, [part(i, 1) for i in sorted(there)], size))
    samples = [i for first, count in asked for i in range(first, first + count)]
    assert samples == [i for i in range(n) if i not in there]
    assert all(first // size == (first + count - 1) // size for first, count in asked)
    if not there:
        assert all(first % size == 0 for first, _ in asked)


class Reopened(RuleBasedStateMachine):
    """Adding, dropping, asking and crashing in any order is the same as a plain dictionary."""

    @initialize(folder=st.builds(object))
    def begin(self, folder):
        import tempfile
        from pathlib import Path

        self.folder = Path(tempfile.mkdtemp())
        self.ledger = Ledger(self.folder, write=True)
        self.cell = enter(self.ledger)
        self.expected = {}

    @rule(first=st.integers(0, 4), seed=st.integers(0, 99))
    def add(self, first, seed):
        given = columns(8, seed)
        self.ledger.add_shard(self.cell, part(8 * first, 8), given)
        self.expected[8 * first] = given

    @rule(first=st.integers(0, 4))
    def drop(self, first):
        self.ledger.drop_shard(self.cell, 8 * first)
        self.expected.pop(8 * first, None)

    @rule()
    def crash(self):
        """Whatever was open is gone; the file is opened anew."""
        self.ledger.connection.execute("BEGIN IMMEDIATE")
        self.ledger.connection.execute("DELETE FROM sample")
        self.ledger.connection.close()
        self.ledger = Ledger(self.folder, write=True)

    @invariant()
    def same(self):
        if not hasattr(self, "ledger"):
            return
        found = self.ledger.columns(ENTRY)
        for first in range(0, 40, 8):
            if first in self.expected:
                for name in COLUMNS:
                    np.testing.assert_array_equal(found[name][first : first + 8], self.expected[first][name])
            else:
                assert set(found["status"][first : first + 8].tolist()) == {5}
        assert {p.first for p in self.ledger.shards().get(self.cell, [])} == set(self.expected)

    def teardown(self):
        if hasattr(self, "ledger"):
            self.ledger.connection.close()


TestReopened = Reopened.TestCase
TestReopened.settings = settings(
    max_examples=10, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
