"""Single changes to a run's folder: verify reports each, and no run goes on with what is damaged."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest
import torch

from assay.cli import main
from assay.store.integrity.verify import verify
from assay.store.sqlite import NAME
from assay.util.files import sha256
from assay.util.tensors import read_tensors, write_tensors
from runs.builders import STUDY, resealed

BROKEN, SURVIVED = 1, 2
WORDS = ["--quiet", "--set", "run.checks=none", "--set", "budgets[0].eps=2/255"]


def run(file, out, *more):
    return main(["run", str(file), "-o", str(out), *WORDS, *more])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run with all images, one with those of broken samples, and an unfinished one; their study."""
    folder = tmp_path_factory.mktemp("damage")
    file = folder / "study.yaml"
    file.write_text(STUDY.replace("epochs: 1", "epochs: 6"))
    assert run(file, folder / "all") == 0
    shutil.copytree(folder / "all" / "models", folder / "broken" / "models")
    shutil.copy(folder / "all" / ".assay.json", folder / "broken" / ".assay.json")
    record = json.loads((folder / "broken" / ".assay.json").read_text())
    (folder / "broken" / ".assay.json").write_text(json.dumps({**record, "files": ["models/*"]}))
    assert run(file, folder / "broken", "--set", "run.images=broken") == 0
    shutil.copytree(folder / "all", folder / "unfinished")
    with closing(sqlite3.connect(folder / "unfinished" / NAME)) as db, db:
        db.execute("DELETE FROM sample WHERE cell = 4 AND sample >= 8")
        db.execute("DELETE FROM shard WHERE cell = 4 AND first >= 8")
        db.execute("DELETE FROM seal WHERE name LIKE 'shard/4/%' AND name != 'shard/4/0'")
        db.execute("UPDATE meta SET value = 'false' WHERE name = 'ended'")
    resealed(folder / "unfinished")
    (folder / "unfinished" / "manifest.json").unlink()
    statuses = {row[0] for row in rows(folder / "all", "SELECT DISTINCT status FROM sample")}
    assert {BROKEN, SURVIVED} <= statuses
    return folder


def rows(folder, statement):
    with closing(sqlite3.connect(folder / NAME)) as db:
        return db.execute(statement).fetchall()


def sql(*statements):
    """A change of the ledger by SQL."""

    def change(folder):
        with closing(sqlite3.connect(folder / NAME)) as db, db:
            for statement in statements:
                db.execute(statement)
        assert rows(folder, "PRAGMA quick_check") == [("ok",)]

    return change


def forged(*statements):
    """A change of the ledger with digests, tables and manifest made to fit."""

    def change(folder):
        sql(*statements)(folder)
        resealed(folder)
        main(["report", str(folder)])
        with closing(sqlite3.connect(folder / NAME)) as db, db:
            db.execute("UPDATE meta SET value = 'true' WHERE name = 'ended'")
        resealed(folder)

    return change


def flipped(pattern, place=-9, which=0):
    """One byte of a file."""

    def change(folder):
        path = sorted(folder.glob(pattern))[which]
        raw = bytearray(path.read_bytes())
        raw[place] ^= 255
        path.write_bytes(raw)

    return change


def cut(pattern, size):
    """A file with its end cut off."""

    def change(folder):
        path = sorted(folder.glob(pattern))[0]
        path.write_bytes(path.read_bytes()[:size])

    return change


def gone(pattern):
    def change(folder):
        path = sorted(folder.glob(pattern))[0]
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def text(name, old, new):
    def change(folder):
        before = (folder / name).read_text()
        assert old in before
        (folder / name).write_text(before.replace(old, new, 1))

    return change


def other_file(pattern):
    """A valid file of the same kind in the place of another."""

    def change(folder):
        first, second = sorted(folder.glob(pattern))[:2]
        shutil.copy(second, first)

    return change


def rewritten(pattern, key, edit):
    """A valid file with other content and its own digest."""

    def change(folder):
        path = sorted(folder.glob(pattern))[0]
        about, tensors = read_tensors(path, key, "file")
        edit(tensors)
        write_tensors(path, tensors, key, about)

    return change


def replaced(pattern, old, new):
    """Some bytes of a file."""

    def change(folder):
        path = sorted(folder.glob(pattern))[0]
        assert old in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(old, new, 1))

    return change


def swap_images(folder):
    """The images of a file in another order."""
    path = max((folder / "images").iterdir(), key=lambda file: file.stat().st_size)
    about, tensors = read_tensors(path, "assay-images", "file")
    tensors["images"] = tensors["images"].flip(0).contiguous()
    write_tensors(path, tensors, "assay-images", about)
    return path


FIRST_BROKEN = "(cell, sample) = (SELECT cell, sample FROM sample WHERE status = 1 ORDER BY margin DESC LIMIT 1)"
FIRST_SURVIVED = "(cell, sample) = (SELECT cell, sample FROM sample WHERE status = 2 LIMIT 1)"
LOST = "UPDATE sample SET status = {} WHERE " + FIRST_BROKEN
COLUMNS = {
    "y": "(y + 1) % 8",
    "target": "0",
    "predicted_clean": "(predicted_clean + 1) % 8",
    "predicted": "7 - predicted",
    "margin": "-margin",
    "size": "size / 2 + 0.01",
    "linf": "linf / 2 + 0.01",
    "l2": "l2 / 2 + 0.01",
    "l1": "l1 / 2 + 0.01",
    "l0": "l0 + 1",
    "pixels": "pixels + 1",
    "steps": "steps + 1",
    "forwards": "forwards + 1",
    "backwards": "backwards + 1",
    "checks": "checks + 1",
    "restart": "restart + 1",
    "stage": "stage + 1",
}
LEDGER = {
    "broken to survived": sql(LOST.format(2)),
    "survived to broken": sql(f"UPDATE sample SET status = 1 WHERE {FIRST_SURVIVED}"),
    "all broken to survived": sql("UPDATE sample SET status = 2 WHERE status = 1"),
    "broken to misclassified": sql(LOST.format(0)),
    "broken to invalid": sql(LOST.format(3)),
    "broken to error": sql(LOST.format(4)),
    "broken to not run": sql(LOST.format(5)),
    "a status that there is not": sql(LOST.format(77)),
    "a negative status": sql(LOST.format(-1)),
    **{
        f"column {name}": sql(f"UPDATE sample SET {name} = {new} WHERE {FIRST_BROKEN}") for name, new in COLUMNS.items()
    },
    "an error's text": sql(f"UPDATE sample SET error = 'no' WHERE {FIRST_BROKEN}"),
    "a row deleted": sql("DELETE FROM sample WHERE cell = 1 AND sample = 3"),
    "a row added": sql("UPDATE sample SET sample = 99 WHERE cell = 1 AND sample = 5"),
    "rows of two samples exchanged": sql(
        "UPDATE sample SET sample = 1000 WHERE cell = 1 AND sample = 0",
        "UPDATE sample SET sample = 0 WHERE cell = 1 AND sample = 1",
        "UPDATE sample SET sample = 1 WHERE cell = 1 AND sample = 1000",
    ),
    "a shard's row deleted": sql("DELETE FROM shard WHERE cell = 1 AND first = 8"),
    "a shard deleted": sql(
        "DELETE FROM shard WHERE cell = 1 AND first = 8",
        "DELETE FROM sample WHERE cell = 1 AND sample >= 8 AND sample < 16",
    ),
    "a shard moved": sql("UPDATE shard SET first = first + 1 WHERE cell = 1 AND first = 16"),
    "a shard shortened": sql("UPDATE shard SET count = count - 1 WHERE cell = 1 AND first = 8"),
    "images no longer named": sql("UPDATE shard SET images = NULL, sha256 = NULL"),
    "another digest of images": sql("UPDATE shard SET sha256 = 'a' WHERE images IS NOT NULL"),
    "images no longer to be kept": sql("UPDATE shard SET keep = 'none'"),
    "an emptied plan": sql("DELETE FROM plan"),
    "a cell out of the plan": sql("DELETE FROM plan WHERE place = 0"),
    "a model's name in the plan": sql("""UPDATE plan SET words = replace(words, '"other"', '"clean"')"""),
    "a budget in the plan": sql("UPDATE plan SET words = replace(words, '2/255', '8/255')"),
    "a cell deleted": sql("DELETE FROM cell WHERE id = 2"),
    "a cell's size": sql("UPDATE cell SET n = n - 1 WHERE id = 1"),
    "a cell's fields": sql("""UPDATE cell SET fields = replace(fields, '"seed": "0"', '"seed": "1"')"""),
    "a cell's stages": sql("UPDATE cell SET about = replace(about, 'PGD', 'FGSM')"),
    "the data's file": sql("UPDATE data SET about = replace(about, 'data/', 'images/')"),
    "the data's row deleted": sql("DELETE FROM data"),
    "the headline": sql("UPDATE meta SET value = replace(value, '2/255', '8/255') WHERE name = 'told'"),
    "the list of files deleted": sql("DELETE FROM meta WHERE name = 'files'"),
    "digests deleted": sql("DELETE FROM seal"),
    "another format": sql("PRAGMA user_version = 1"),
    "a digest of nothing": sql("INSERT INTO seal VALUES ('shard/1/p', 'x'), ('shard/1', 'x'), ('meta', 'x')"),
    "text that is none": sql("UPDATE meta SET value = CAST(x'22ff22' AS TEXT) WHERE name = 'told'"),
    "the run's number": sql("UPDATE meta SET value = 'x' WHERE name = 'run'"),
    "what a plan says": sql("UPDATE plan SET words = 'x'"),
    "what a cell is": sql("UPDATE cell SET fields = 'x'"),
    "what a data set is": sql("UPDATE data SET about = '{}'"),
    "a very large cell": sql("UPDATE cell SET n = 100000000000"),
    "events that are none": sql("UPDATE shard SET events = 'x'"),
    "images outside": sql("UPDATE shard SET images = '../../x' WHERE images IS NOT NULL"),
    "a table dropped: plan": sql("DROP TABLE plan"),
    "a table dropped: sample": sql("DROP TABLE sample"),
    "a table dropped: seal": sql("DROP TABLE seal"),
    "a table dropped: answer": sql("DROP TABLE answer"),
}
FILES = {
    "a byte of an image": flipped("images/*"),
    "an image's file cut": cut("images/*", 500),
    "an image's file gone": gone("images/*"),
    "all images gone": gone("images"),
    "another shard's images": other_file("images/*"),
    "images exchanged between samples": swap_images,
    "other images of the same form": rewritten("images/*", "assay-images", lambda t: t["images"].mul_(0.5)),
    "a byte of the data": flipped("data/*"),
    "the data cut": cut("data/*", 2000),
    "the data gone": gone("data/*"),
    "another label in the data": rewritten("data/*", "assay-data", lambda t: t["y"].copy_((t["y"] + 1) % 8)),
    "other pixels in the data": rewritten("data/*", "assay-data", lambda t: t["x"].copy_(t["x"].flip(-1))),
    "a byte of a model": flipped("models/*/model.safetensors"),
    "another model": other_file("models/*/model.safetensors"),
    "a weight of a model": rewritten("models/*/model.safetensors", "assay", lambda t: next(iter(t.values())).add_(0.1)),
    "a byte of the ledger's header": flipped(NAME, 5),
    "a byte of the ledger's schema": replaced(NAME, b"CREATE TABLE shard", b"CREATE TABLX shard"),
    "the ledger cut": cut(NAME, 9000),
    "the ledger emptied": cut(NAME, 0),
    "a verdict in the table": text("samples.csv", ",broken,", ",survived,"),
    "a number in the summary": text("summary.json", '"robust_accuracy": 0', '"robust_accuracy": 1'),
    "the summary gone": gone("summary.json"),
    "a byte of the parquet table": flipped("samples.parquet", 200),
    "the report": text("report.html", "Small", "Large"),
    "a digest in the manifest": text("manifest.json", '"sha256": "', '"sha256": "0'),
    "the manifest gone": gone("manifest.json"),
    "the manifest cut": cut("manifest.json", 50),
}
CHANGES = {**LEDGER, **FILES}
REFUSED = (
    "another format",
    "a byte of the data",
    "the data cut",
    "another label in the data",
    "other pixels in the data",
    "a byte of the ledger's header",
    "a byte of the ledger's schema",
    "the ledger cut",
    "the ledger emptied",
    *(name for name in CHANGES if "dropped" in name),
)
"""Changes after which the command refuses to go on; after the others it does again what is damaged."""


@pytest.fixture
def copied(whole, tmp_path):
    def copy(which="all"):
        shutil.copytree(whole / which, tmp_path / "run", symlinks=True)
        return tmp_path / "run"

    return copy


def test_there_are_enough_changes():
    assert len(CHANGES) >= 60


@pytest.mark.parametrize("which", ["all", "broken", "unfinished"])
def test_what_is_whole_is_without_faults(copied, which):
    assert verify(copied(which)).faults == ()


@pytest.mark.parametrize("change", CHANGES)
def test_verify_reports_a_single_change(copied, change, capsys):
    folder = copied()
    CHANGES[change](folder)
    assert main(["verify", str(folder)]) in (2, 3)
    told = capsys.readouterr()
    assert "wrong: " in told.out or "assay: run: expected a ledger" in told.err
    assert "Traceback" not in told.err


@pytest.mark.parametrize("change", CHANGES)
def test_no_run_goes_on_with_damage(whole, copied, change, capsys):
    """It refuses in a sentence, or does again exactly what is damaged."""
    folder = copied()
    CHANGES[change](folder)
    code = run(whole / "study.yaml", folder)
    assert code == (2 if change in REFUSED else 0), capsys.readouterr().err
    if code == 2:
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert "expected" in told
    else:
        assert (folder / "samples.csv").read_bytes() == (whole / "all" / "samples.csv").read_bytes()
        assert verify(folder).faults == ()


@pytest.mark.parametrize("change", [name for i, name in enumerate(CHANGES) if i % 4 == 0 and "manifest" not in name])
def test_an_unfinished_run_goes_on_to_the_same_table(whole, copied, change, capsys):
    folder = copied("unfinished")
    CHANGES[change](folder)
    code = run(whole / "study.yaml", folder)
    assert code in (0, 2)
    if code == 0:
        assert (folder / "samples.csv").read_bytes() == (whole / "all" / "samples.csv").read_bytes()


NOW_BROKEN = "UPDATE sample SET status = 1, stage = 0, margin = 5, predicted = (y + 1) % 8 WHERE " + FIRST_SURVIVED
FORGED = {
    "broken to survived, with an image that fools": ("all", LOST.format(2)),
    "the same without its stage": (
        "all",
        "UPDATE sample SET status = 2, stage = -1, restart = -1, margin = -margin WHERE " + FIRST_BROKEN,
    ),
    "survived to broken, with an image that does not fool": ("all", NOW_BROKEN),
    "survived to broken, without an image": ("broken", NOW_BROKEN),
    "broken to misclassified": (
        "all",
        "UPDATE sample SET status = 0, predicted_clean = (y + 1) % 8 WHERE " + FIRST_BROKEN,
    ),
    "misclassified to survived": (
        "broken",
        "UPDATE sample SET status = 2, predicted_clean = y, stage = -1 WHERE (cell, sample) = "
        "(SELECT cell, sample FROM sample WHERE status = 0 LIMIT 1)",
    ),
    "broken to not run": ("all", LOST.format(5)),
    "a smaller norm": ("all", "UPDATE sample SET l2 = l2 / 2 WHERE " + FIRST_BROKEN),
    "another predicted class": (
        "all",
        "UPDATE sample SET predicted = (CASE WHEN (predicted + 1) % 8 = y THEN "
        "(predicted + 2) % 8 ELSE (predicted + 1) % 8 END) WHERE " + FIRST_BROKEN,
    ),
    "a label": ("all", "UPDATE sample SET y = (y + 1) % 8 WHERE cell = 1 AND sample = 0"),
    "a target": ("all", "UPDATE sample SET target = 3 WHERE cell = 1 AND sample = 0"),
    "a status that there is not": ("all", LOST.format(77)),
    "a finished cell without some samples": ("all", "DELETE FROM shard WHERE cell = 1 AND first = 8"),
}


@pytest.mark.parametrize("name", FORGED)
def test_verify_computes_verdicts_anew(copied, name, capsys):
    """A change whose digests, tables and manifest were made to fit is found where a verdict can be computed again."""
    which, statement = FORGED[name]
    folder = copied(which)
    more = ["DELETE FROM sample WHERE cell = 1 AND sample >= 8 AND sample < 16"] if "without some" in name else []
    forged(statement, *more)(folder)
    faults = verify(folder).faults
    assert faults
    assert not any("changed since written" in fault for fault in faults)


def test_verify_finds_exchanged_images_whose_digest_was_made_to_fit(copied):
    folder = copied()
    path = swap_images(folder)
    sql(f"UPDATE shard SET sha256 = '{sha256(path)}' WHERE images = 'images/{path.name}'")(folder)
    resealed(folder)
    assert any("norm of sample" in fault for fault in verify(folder).faults)


def test_workers_refuse_a_damaged_copy_of_the_data(whole, copied, capsys):
    folder = copied("unfinished")
    flipped("data/*", -40)(folder)
    before = (folder / "samples.csv").read_bytes()
    assert run(whole / "study.yaml", folder, "--workers", "2") == 2
    assert "data: expected the data that the run was made with" in capsys.readouterr().err
    assert (folder / "samples.csv").read_bytes() == before


def test_a_worker_compares_the_data_that_it_reads(whole, tmp_path):
    from assay.runs.tasks import clear_caches, task_data

    path = next((whole / "all" / "data").iterdir())
    shutil.copy(path, tmp_path / path.name)
    about, tensors = read_tensors(path, "assay-data", "data")
    assert len(task_data(tmp_path / path.name)) == len(tensors["y"])
    clear_caches()
    tensors["y"] = torch.zeros_like(tensors["y"])
    write_tensors(tmp_path / path.name, tensors, "assay-data", about)
    with pytest.raises(ValueError, match="other images, labels, classes or masks"):
        task_data(tmp_path / path.name)
