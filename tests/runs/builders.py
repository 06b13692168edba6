"""Small studies for the tests of runs."""

import json
import sqlite3
from contextlib import closing

import numpy as np

from assay.core.outcome import Status
from assay.store.cell_key import key_of
from assay.store.columns import COLUMNS, Shard
from assay.store.digests import write_all_digests
from assay.store.sqlite import NAME
from assay.study.parse import parse_study

STUDY = """
title: Small
models:
  clean: {train: {epochs: 1, arch: tiny-cnn}}
  other: {train: {epochs: 1, arch: tiny-cnn, seed: 1}}
data:
  scenes: {load: "scenes:size=16,count=120", limit: 24}
attacks: ["pgd:steps=5", "square:queries=20"]
budgets: [{eps: 8/255}]
run: {shard: 8}
"""


def study(*changes, text=STUDY):
    return parse_study(text, changes)


def columns(count, seed=0):
    """Numbers as an attack might leave them, some of them NaN."""
    draw = np.random.default_rng(seed)
    found = {}
    for name, kind in COLUMNS.items():
        if kind is int:
            found[name] = draw.integers(-1, 50, count)
        else:
            found[name] = np.where(draw.random(count) < 0.2, np.nan, draw.random(count))
    found["status"] = draw.integers(0, len(Status), count)
    return found


def part(first, count, images=None, digest=None):
    return Shard(first, count, 0.5, "here:1", images, digest, ("odd",))


def resealed(folder):
    """Digests of a ledger written anew: what somebody would do who changes it on purpose."""
    with closing(sqlite3.connect(folder / NAME, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("DELETE FROM seal")
        write_all_digests(db)
        db.execute("COMMIT")


def made_by_other_code(folder, code):
    """Cells of a ledger as another version of assay would have made them."""
    with closing(sqlite3.connect(folder / NAME)) as db, db:
        for number, fields in db.execute("SELECT id, fields FROM cell").fetchall():
            other = {**json.loads(fields), "code": code}
            db.execute(
                "UPDATE cell SET fields = ?, key = ? WHERE id = ?",
                (json.dumps(other, sort_keys=True), key_of(other), number),
            )
    resealed(folder)
