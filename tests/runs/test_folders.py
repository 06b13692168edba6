"""The folder that a command writes to: empty, new or its own; nothing of others is deleted or replaced."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from safetensors.torch import load_file, save_file

from assay.cli import main
from assay.store.integrity.verify import verify
from assay.store.ledger import Ledger
from assay.store.sqlite import NAME
from assay.util.files import DIGESTS, RECORD, atomic_write, digests_of, run_of, sweep
from assay.util.output_folder import claim, locked, out_folder
from runs.builders import STUDY

DATA = ["--data", "scenes:size=16,count=96", "--limit", "16"]
FOREIGN = (
    "notes.txt",
    "report.html",
    "samples.csv",
    "summary.json",
    "images/mine.safetensors",
    ".x.part",
    "model.safetensors",
    "identifier.safetensors",
    "checkpoint.pt",
    "corruptions.csv",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "m"
    assert main(["train", *DATA, "--epochs", "1", "--quiet", "-o", str(out)]) == 0
    return out / "model.safetensors"


def commands(model):
    return {
        "train": ["train", *DATA, "--epochs", "1"],
        "evaluate": ["evaluate", "--model", str(model), *DATA, "--attack", "fgsm", "--checks", "none"],
        "check": ["check", str(model), *DATA, "--attack", "fgsm"],
        "fit": ["fit", "magnet", *DATA, "--epochs", "1"],
        "diagnose": ["diagnose", str(model), *DATA, "--train-limit", "16", "--which", "parameters"],
        "corruptions": ["corruptions", "--model", str(model), *DATA, "--only", "fog"],
        "signatures": [
            "signatures",
            str(model),
            *DATA,
            "--test-limit",
            "8",
            "--epochs",
            "1",
            "--warmup",
            "0",
            "--arch",
            "tiny-cnn",
            "--kinds",
            "pgd,patch",
            "--steps",
            "2",
            "--columns",
            "image",
        ],
    }


COMMANDS = tuple(commands("m"))


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_with_other_files_is_refused_before_anything_is_written(model, tmp_path, command, name, capsys):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_bytes(b"of somebody else")
    assert main([*commands(model)[command], "-o", str(out)]) == 2
    told = capsys.readouterr().err
    assert "out: expected a new or empty folder" in told
    assert name.partition("/")[0] in told
    assert content(out) == {name: b"of somebody else"}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_name_is_no_folder(model, tmp_path, monkeypatch, command, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*commands(model)[command], "-o", ""]) == 2
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="out: expected a folder"):
        out_folder(" ")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_command_twice_is_its_own_folder_and_other_commands_are_refused(model, tmp_path, command, capsys):
    out = tmp_path / "out"
    words = [*commands(model)[command], "-o", str(out)]
    code = main(words)
    assert code in (0, 3)
    (out / "notes.txt").write_text("mine")
    (out / ".x.part").write_text("mine")
    before = {name: data for name, data in content(out).items() if name in ("notes.txt", ".x.part")}
    assert main(words) == code
    assert before.items() <= content(out).items()
    other = "train" if command != "train" else "fit"
    assert main([*commands(model)[other], "-o", str(out)]) == 2
    assert "out: expected a new or empty folder, or" in capsys.readouterr().err


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    (folder / "study.yaml").write_text(STUDY)
    words = ["run", str(folder / "study.yaml"), "--quiet", "--set", "run.checks=none"]
    assert main([*words, "-o", str(folder / "run")]) == 0
    return folder, words


@pytest.fixture
def copy(finished, tmp_path):
    folder, words = finished
    shutil.copytree(folder / "run", tmp_path / "run")
    return tmp_path / "run", [*words, "-o", str(tmp_path / "run")]


def test_a_run_leaves_alone_what_its_ledger_does_not_name(copy, capsys):
    run, words = copy
    mine = {
        "images/mine.safetensors": b"mine",
        ".report.html.abc.part": b"mine",
        "images/.x.part": b"mine",
        "data/mine.safetensors": b"mine",
        "notes.csv": b"mine",
        "cards/other.md": b"mine",
    }
    for name, data in mine.items():
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_bytes(data)
    first = next((run / "images").glob("*-0.safetensors"))
    shutil.copy(first, run / "images" / "copied.safetensors")  # of this very run, and named by nothing
    first.write_bytes(b"damaged")
    assert main(words) == 0
    assert mine.items() <= content(run).items()
    assert not (run / "images" / "copied.safetensors").exists()
    assert verify(run).faults == ()
    assert "notes.csv" not in (run / "manifest.json").read_text()


@pytest.mark.parametrize("name", ["report.html", "samples.csv", "summary.json", "samples.parquet", "study.json"])
def test_a_file_of_a_name_that_a_run_writes_is_not_replaced(finished, tmp_path, name, capsys):
    """An interrupted run has not written it: it is somebody else's."""
    _, words = finished
    run = tmp_path / "run"
    with Ledger(run, write=True) as ledger:
        ledger.set_meta(ended=False)
    (run / name).write_bytes(b"mine")
    before = content(run)
    assert main([*words, "-o", str(run)]) == 2
    expected = (
        "out: expected no other files of the names that a run writes (move them, or choose another folder with -o)"
    )
    assert f"{expected}, got {name}" in capsys.readouterr().err
    assert (run / name).read_bytes() == b"mine"
    assert set(content(run)) - {".holder", ".lock"} == set(before)


def test_a_ledger_of_another_program_is_left_alone_and_nothing_put_beside_it(finished, tmp_path, capsys):
    _, words = finished
    with closing(sqlite3.connect(tmp_path / NAME)) as db, db:
        db.execute("CREATE TABLE money(spent)")
    before = content(tmp_path)
    assert main([*words, "-o", str(tmp_path)]) == 2
    assert "got another SQLite file" in capsys.readouterr().err
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", [".assay.json", ".holder", ".digests", ".lock"])
@pytest.mark.parametrize("command", ["train", "evaluate", "fit"])
def test_files_of_others_with_our_names_are_theirs(model, tmp_path, name, command, capsys):
    (tmp_path / name).write_text('{"my": "settings"}')
    assert main([*commands(model)[command], "-o", str(tmp_path)]) == 2
    assert f"in which there is {name}" in capsys.readouterr().err
    assert content(tmp_path) == {name: b'{"my": "settings"}'}


def test_the_folder_of_a_run_is_not_written_to_by_another(model, tmp_path, capsys):
    """In a folder of images of ours, that is: models and signatures have folders of their own in a study's."""
    assert main([*commands(model)["train"], "-o", str(tmp_path / "images"), "--quiet"]) == 0
    before = content(tmp_path)
    assert main([*commands(model)["evaluate"], "-o", str(tmp_path)]) == 2
    assert "in which there is images" in capsys.readouterr().err
    assert content(tmp_path) == before


def test_a_card_that_was_written_on_is_kept(copy, capsys):
    run, _ = copy
    assert main(["export", str(run)]) == 0
    card = run / "cards" / "clean.md"
    card.write_text(card.read_text() + "MY OWN NOTES")
    assert main(["export", str(run)]) == 2
    assert "MY OWN NOTES" in card.read_text()


def test_a_digest_cut_short_costs_no_other(tmp_path):
    claim(tmp_path, "train", ("a", "b"))
    atomic_write(tmp_path / "a", "first")
    with (tmp_path / DIGESTS).open("a") as file:
        file.write('{"name": "chec')
    atomic_write(tmp_path / "b", "second")
    assert set(digests_of(tmp_path)) == {"a", "b"}


def test_another_evaluation_in_the_same_folder_says_what_becomes_of_the_report(model, tmp_path, capsys):
    words = ["evaluate", "--model", str(model), *DATA, "--checks", "none", "-o", str(tmp_path), "--quiet"]
    assert main([*words, "--attack", "fgsm", "--attack", "fgsm"]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("FGSM") == 1  # the same attack twice is one row
    assert "becomes that of this evaluation" not in printed.err
    assert main([*words, "--attack", "pgd:steps=2"]) == 0
    assert "becomes that of this evaluation; the results of the earlier one are kept: assay evaluate" in (
        capsys.readouterr().err
    )


def test_a_card_does_not_replace_another_file(copy, capsys):
    run, _ = copy
    assert main(["export", str(run)]) == 0
    assert main(["export", str(run)]) == 0
    (run / "cards" / "clean.md").write_text("mine")
    assert main(["export", str(run)]) == 2
    assert "expected no other file of the name of a card, cards/clean.md" in capsys.readouterr().err
    assert (run / "cards" / "clean.md").read_text() == "mine"


def test_images_of_another_run_are_not_replaced(copy, capsys):
    run, words = copy
    image = next((run / "images").glob("*-8.safetensors"))
    with closing(sqlite3.connect(run / NAME)) as db, db:
        db.execute("DELETE FROM sample WHERE sample >= 8 AND sample < 16")
        db.execute("DELETE FROM shard WHERE first = 8")
        db.execute("DELETE FROM seal WHERE name LIKE 'shard/%/8'")
    image.write_bytes(b"mine")
    assert main(words) != 0
    assert f"expected no file images/{image.name} of another run" in capsys.readouterr().err
    assert image.read_bytes() == b"mine"


def test_folders_with_runs_of_their_own_are_no_obstacle(model, tmp_path, capsys):
    """As in the demo: the models of a run are trained in folders inside its own."""
    out = tmp_path / "out"
    assert main([*commands(model)["train"], "-o", str(out / "net"), "--quiet"]) == 0
    assert main([*commands(model)["evaluate"], "-o", str(out)]) == 0
    assert (out / "net" / "model.safetensors").is_file()


def test_a_plan_and_then_the_run(tmp_path, capsys):
    """Models are trained for a plan, as they decide what the cells are: the folder is the run's already."""
    (tmp_path / "study.yaml").write_text(STUDY)
    words = ["run", str(tmp_path / "study.yaml"), "-o", str(tmp_path / "run"), "--quiet", "--set", "run.checks=none"]
    assert main([*words, "--explain"]) == 0
    assert main([*words, "--explain"]) == 0
    assert main(words) == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    for more in ([], ["--plan"], ["--explain"]):
        assert main([*words, "-o", str(tmp_path / "other"), *more]) == 2
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["mine.txt"]


def test_only_the_runs_own_leftovers_are_swept(tmp_path):
    owned = claim(tmp_path, "train", ("a",))
    for name in (f".a.{owned.run}-x.part", ".a.x.part", ".a.0123456789abcdef-x.part"):
        (tmp_path / name).write_text("left")
    assert run_of(tmp_path / "deep" / "er") == owned.run
    assert sweep(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.glob(".*.part")) == [".a.0123456789abcdef-x.part", ".a.x.part"]


def test_temporary_files_carry_the_number_of_the_run(tmp_path, monkeypatch):
    owned = claim(tmp_path, "train", ("a",))
    seen = []
    real = os.fsync
    monkeypatch.setattr("assay.util.files.os.fsync", lambda f: (seen.extend(tmp_path.glob(".*.part")), real(f)))
    atomic_write(tmp_path / "a", "text")
    assert {path.name.startswith(f".a.{owned.run}-") for path in seen} == {True}


def test_a_run_of_the_first_version_goes_on(finished, tmp_path, capsys):
    """Its ledger has no digests, no number and no list of files; its folder has no record."""
    folder, words = finished
    run = tmp_path / "run"
    shutil.copytree(folder / "run", run)
    for path in run.rglob(RECORD):
        path.unlink()
    with closing(sqlite3.connect(run / NAME)) as db, db:
        db.execute("DROP TABLE seal")
        db.execute("ALTER TABLE shard DROP COLUMN keep")
        db.execute("DELETE FROM meta WHERE name IN ('run', 'files', 'trained')")
        db.execute("DELETE FROM sample WHERE cell = 4 AND sample >= 16")
        db.execute("DELETE FROM shard WHERE cell = 4 AND first >= 16")
        db.execute("PRAGMA user_version = 1")
        named = {row[0] for row in db.execute("SELECT images FROM shard")}
    for path in (run / "images").iterdir():
        if f"images/{path.name}" not in named:  # left by a kill; the first version wrote no numbers of runs
            save_file(load_file(path), path, {"assay-images": '{"count": 1}'})
    assert main(["status", str(run)]) == 0
    assert "digests of rows: a ledger of the first version has none" in " ".join(verify(run).skipped)
    assert main([*words, "-o", str(run)]) == 0
    assert (run / "samples.csv").read_bytes() == (folder / "run" / "samples.csv").read_bytes()
    assert verify(run).faults == ()
    assert verify(run).skipped == ()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ("evaluate", "check")])
def test_a_folder_of_the_first_version_goes_on(model, tmp_path, command, capsys):
    out = tmp_path / "out"
    words = [*commands(model)[command], "-o", str(out)]
    assert main(words) == 0
    for name in (RECORD, ".digests", ".lock"):
        (out / name).unlink()
    assert main(words) == 0
    assert (out / RECORD).is_file()


@pytest.mark.parametrize("command", ["train", "fit", "signatures", "diagnose", "corruptions"])
def test_two_of_one_command_in_one_folder(model, tmp_path, command, capsys):
    out = tmp_path / "out"
    with locked(out):
        assert main([*commands(model)[command], "-o", str(out)]) == 2
    assert "out: expected a folder that no other process is writing to" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [".lock"]


def test_a_lock_goes_with_its_process(tmp_path):
    code = (
        "from assay.util.output_folder import locked\nfrom pathlib import Path\nimport os, sys\n"
        "with locked(Path(sys.argv[1])):\n    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 9
    with locked(tmp_path):
        pass


DAMAGED = {
    "train": "checkpoint.pt",
    "fit": "checkpoint.pt",
    "signatures": "recogniser-image.pt",
    "corruptions": "model.json",
}


@pytest.mark.parametrize("how", ["a byte", "cut"])
@pytest.mark.parametrize("command", DAMAGED)
def test_no_command_goes_on_with_a_damaged_file(model, tmp_path, command, how, capsys):
    out = tmp_path / "out"
    words = [*commands(model)[command], "-o", str(out)]
    assert main(words) == 0
    path = out / DAMAGED[command]
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 255
    path.write_bytes(raw if how == "a byte" else raw[: len(raw) // 2])
    capsys.readouterr()
    assert main(words) == 2
    told = capsys.readouterr().err
    assert DAMAGED[command] in told
    assert "as it was written" in told
    path.unlink()
    assert main(words) == 0


def test_a_kill_between_a_file_and_its_digest_is_no_damage(tmp_path):
    claim(tmp_path, "fit", ("a",))
    atomic_write(tmp_path / "a", "first")
    atomic_write(tmp_path / "a", "second")
    (tmp_path / "a").write_text("first")  # the digest of the second is noted, its file has not taken the name
    with (tmp_path / ".digests").open("a") as file:
        file.write('{"name": "a", "sha')
    claim(tmp_path, "fit", ("a",))
    (tmp_path / "a").write_text("third")
    with pytest.raises(ValueError, match="a as it was written"):
        claim(tmp_path, "fit", ("a",))
