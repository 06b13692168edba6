"""Studies from the first sample to the manifest: what is kept, what is made again, and why."""

import csv
import json
import os
import shutil
import sqlite3

import pytest
import torch

from assay.attacks.plan import plan
from assay.cli import main
from assay.core.outcome import Status
from assay.data import Dataset, load
from assay.models import build
from assay.runs import Question, Reporter, Settings, evaluate
from assay.runs.executors import Inline, Local
from assay.runs.tasks import AttackTask
from assay.store import lock, sqlite
from assay.store.cell_key import FIELD_LABELS
from assay.store.columns import COLUMNS
from assay.store.integrity.verify import verify
from assay.store.ledger import Ledger
from assay.store.model_source import ModelSource
from assay.store.sqlite import NAME
from assay.study.run import run_study
from runs.builders import STUDY, made_by_other_code, study


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: its folder, and the file of its study."""
    folder = tmp_path_factory.mktemp("whole")
    file = folder / "study.yaml"
    file.write_text(STUDY)
    assert main(["run", str(file), "-o", str(folder / "run"), "--quiet"]) == 0
    return folder / "run", file


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of the run that may be damaged."""
    shutil.copytree(whole[0], tmp_path / "run")
    return tmp_path / "run", whole[1]


def table(folder):
    return (folder / "samples.csv").read_bytes()


def rows_of(folder):
    with (folder / "samples.csv").open() as file:
        return list(csv.DictReader(file))


def test_everything_is_there(whole):
    folder, _ = whole
    names = {path.name for path in folder.iterdir()}
    assert {"samples.csv", "samples.parquet", "summary.json", "report.html", "manifest.json", NAME} <= names
    assert not [name for name in names if name.endswith((".part", "-wal", "-shm"))]
    rows = rows_of(folder)
    assert len(rows) == 2 * 2 * 24
    assert {row["model"] for row in rows} == {"clean", "other"}
    summary = json.loads((folder / "summary.json").read_text())
    assert [entry["n"] for entry in summary["models"]] == [24, 24]
    from pyarrow import parquet

    columns = parquet.read_table(folder / "samples.parquet").to_pylist()
    assert [r["sample"] for r in columns] == [int(row["sample"]) for row in rows]
    assert [r["status"] for r in columns] == [row["status"] for row in rows]


def test_the_same_command_keeps_everything(whole, capsys):
    folder, file = whole
    before, images = table(folder), {p.name: p.stat().st_mtime_ns for p in (folder / "images").iterdir()}
    assert main(["run", str(file), "-o", str(folder)]) == 0
    assert capsys.readouterr().err.count("stored result") == 4
    assert table(folder) == before
    assert {p.name: p.stat().st_mtime_ns for p in (folder / "images").iterdir()} == images


def test_claims_are_in_the_summary(copy):
    folder, file = copy
    claiming = file.with_name("claiming.yaml")
    claiming.write_text(STUDY + "claims:\n  - {says: It is right., source: here, ours: {clean: clean}, least: 2}\n")
    assert main(["run", str(claiming), "-o", str(folder), "--quiet"]) == 0
    (claim,) = json.loads((folder / "summary.json").read_text())["claims"]
    assert claim["says"] == "It is right."
    assert claim["ours"].endswith("%")
    assert (claim["verdict"], claim["threshold"]) == (
        "does not hold",
        "at least 200.0\N{NO-BREAK SPACE}% (our threshold)",
    )


@pytest.mark.parametrize("how", ["two workers", "other slots", "other shards", "no images"])
def test_the_verdicts_do_not_depend_on_how_it_is_run(whole, tmp_path, how):
    words = {
        "two workers": ["--workers", "2"],
        "other slots": ["--set", "run.slots=3"],
        "other shards": ["--set", "run.shard=24"],
        "no images": ["--set", "run.images=none"],
    }[how]
    assert main(["run", str(whole[1]), "-o", str(tmp_path), "--quiet", *words]) == 0
    mine, theirs = rows_of(tmp_path), rows_of(whole[0])
    for a, b in zip(mine, theirs, strict=True):
        assert {name: a[name] for name in a if name not in ("margin", "size", "linf", "l2", "l1")} == {
            name: b[name] for name in b if name not in ("margin", "size", "linf", "l2", "l1")
        }
    assert (not (tmp_path / "images").exists()) == (how == "no images")


CHANGES = {
    "seeds=[1]": "the seed",
    "run.stop=never": "when a sample ends",
    "run.search=bfloat16": "the precision",
    "run.max_forwards=7": "the most forward passes",
    "attacks=['pgd:steps=6']": "the attack or its parameters",
    "budgets=[{eps: 7/255}]": "the attack or its parameters",
    "data.scenes.limit=20": "images, labels, classes or masks",
    "models.clean.train.epochs=2": "the model's structure or weights",
    "models.clean.defence='bits:bits=2'": "the model's structure",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_decides_a_verdict_is_part_of_the_identity(copy, change, capsys):
    folder, file = copy
    assert main(["run", str(file), "-o", str(folder), "--explain", "--set", change]) == 0
    told = capsys.readouterr().out
    assert CHANGES[change] in told
    assert "changed: " in told


@pytest.mark.parametrize(
    "change", ["run.slots=5", "run.shard=4", "run.images=none", "run.errors=raise", "title=Other", "about=words"]
)
def test_what_decides_no_verdict_is_not(copy, change, capsys):
    folder, file = copy
    assert main(["run", str(file), "-o", str(folder), "--explain", "--set", change]) == 0
    assert capsys.readouterr().out.count("kept") == 4


def test_weights_that_change_under_the_same_name_are_another_model(tmp_path, capsys):
    """In one process, where models are kept between orders: the new weights are attacked, not the old ones."""
    from assay.models import build, save

    recipe = {"arch": "tiny-cnn", "channels": 3, "classes": 8, "size": 16, "normalize": "half"}
    told = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        save(build(**recipe), tmp_path / "m.safetensors", recipe)
        words = ["evaluate", "--model", str(tmp_path / "m.safetensors"), "--data", "scenes:size=16,count=40", "--quiet"]
        assert main([*words, "-o", str(tmp_path / f"run{seed}"), "--attack", "pgd:steps=2", "--checks", "none"]) == 0
        told.append([row["predicted_clean"] for row in rows_of(tmp_path / f"run{seed}")])
        fresh = build(**recipe)
        fresh.load_state_dict(ModelSource(str(tmp_path / "m.safetensors")).load().state_dict())
        data = load("scenes:size=16,count=40")
        with torch.no_grad():
            assert told[-1] == [str(c) for c in fresh.eval()(data.images()).argmax(1).tolist()]
    assert told[0] != told[1]


def test_what_is_asked_for_twice_is_done_once(copy, capsys):
    """The claimed attack is on the curve, too."""
    folder, file = copy
    curve = file.with_name("curve.yaml")
    curve.write_text(STUDY.replace('"pgd:steps=5", ', '"pgd:steps=20", ') + "curve: {eps: [4/255]}\n")
    assert main(["run", str(curve), "-o", str(folder)]) == 0
    assert capsys.readouterr().err.count("PGD-20 linf 8/255: robust accuracy") == 2
    names = [row["attack"] for row in rows_of(folder) if row["sample"] == "0"]
    assert names.count("PGD-20 linf 8/255") == 4
    with Ledger(folder) as ledger:
        assert all(sum(part.count for part in parts) == 24 for parts in ledger.shards().values())


def test_a_moved_run_goes_on(tmp_path, capsys):
    file = tmp_path / "study.yaml"
    file.write_text(STUDY.replace("seed: 1}}", "seed: 1, start: clean}}"))
    assert main(["run", str(file), "-o", str(tmp_path / "here"), "--quiet", "--set", "run.checks=none"]) == 0
    (tmp_path / "here").rename(tmp_path / "there")
    capsys.readouterr()
    assert main(["run", str(file), "-o", str(tmp_path / "there"), "--set", "run.checks=none"]) == 0
    assert capsys.readouterr().err.count("stored result") == 4


def test_a_question_that_could_not_be_answered_is_asked_again(copy, monkeypatch, capsys):
    folder, file = copy
    asking = file.with_name("asking.yaml")
    asking.write_text(STUDY + "diagnostics:\n  - {ask: [gradients], limit: 4}\n")
    from assay.study import diagnostics as questions

    def missing(name, case):
        raise ImportError("captum is not installed")

    with monkeypatch.context() as patch:
        patch.setattr(questions, "run_diagnostic", missing)
        assert main(["run", str(asking), "-o", str(folder)]) == 1
    assert "gradients: Could not run: captum" in capsys.readouterr().err
    assert main(["run", str(asking), "-o", str(folder)]) == 0
    assert "gradients: Of the gradient" in capsys.readouterr().err
    assert main(["run", str(asking), "-o", str(folder)]) == 0
    assert "(stored result)" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "status"])
def test_a_ledger_that_is_none(tmp_path, command, capsys):
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / NAME).write_bytes(bytes(range(256)) * 20)
    words = ["run", str(file), "-o", str(tmp_path / "run")] if command == "run" else ["status", str(tmp_path / "run")]
    assert main(words) == 2
    assert "run: expected a ledger written by assay" in capsys.readouterr().err


def test_budgets_that_look_alike_are_three():
    from assay.util.parse import format_budget
    from assay.util.text import levels

    near = (8 / 255, 0.031, 0.03137)
    assert len({repr(plan("pgd", eps=eps).attack) for eps in near}) == 3
    assert len({format_budget(eps) for eps in near}) == len({levels(eps) for eps in near}) == 3


FORWARD = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)
    def forward(self, x):
        return self.layer({x}.flatten(1))
"""


def test_another_forward_is_another_model(tmp_path, monkeypatch):
    """The same weights and the same words for the structure."""
    import importlib
    import sys

    from assay.models import digest

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    found = []
    for body in ("x", "x / 255", "x"):
        (tmp_path / "net_of_mine.py").write_text(FORWARD.replace("{x}", f"({body})"))
        sys.modules.pop("net_of_mine", None)
        importlib.invalidate_caches()
        torch.manual_seed(0)
        found.append(digest(importlib.import_module("net_of_mine").Net()))
    assert found[0] == found[2] != found[1]
    sys.modules.pop("net_of_mine")


@pytest.mark.parametrize(("kind", "network"), [("nfs4", True), ("ext4", False), ("fuse.sshfs", True)])
def test_disks_of_other_machines_are_known(tmp_path, monkeypatch, kind, network):
    lines = f"/dev/a / ext4 rw 0 0\nserver:/b {tmp_path} {kind} rw 0 0\n"
    real = sqlite.Path.read_text
    monkeypatch.setattr(
        sqlite.Path, "read_text", lambda path, **how: lines if str(path) == "/proc/mounts" else real(path, **how)
    )
    assert sqlite.on_network(tmp_path) is network
    assert not sqlite.on_network(tmp_path.parent)


def test_a_model_that_cannot_be_checked_loses_nothing(tmp_path, monkeypatch, capsys):
    from assay.runs import checks

    def raising(*_):
        raise KeyError("odd")

    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    monkeypatch.setattr(checks, "build_context", raising)
    assert main(["run", str(file), "-o", str(tmp_path / "run")]) == 0
    assert "cannot be checked: KeyError" in capsys.readouterr().err
    assert main(["run", str(file), "-o", str(tmp_path / "run"), "--require", "weak"]) == 3
    assert "evidence none, required weak" in capsys.readouterr().err
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_renamed_model_is_the_same(copy, capsys):
    folder, file = copy
    renamed = file.with_name("renamed.yaml")
    renamed.write_text(STUDY.replace("  other:", "  another:"))
    assert main(["run", str(renamed), "-o", str(folder)]) == 0
    assert capsys.readouterr().err.count("stored result") == 4
    assert b",another," in table(folder)


def test_results_of_other_code_are_kept_only_where_that_is_asked_for(copy, capsys):
    folder, file = copy
    made_by_other_code(folder, "of last year")
    assert main(["run", str(file), "-o", str(folder), "--explain"]) == 0
    assert capsys.readouterr().out.count(f"changed: {FIELD_LABELS['code']}") == 4
    assert main(["run", str(file), "-o", str(folder), "--explain", "--accept-stale"]) == 0
    assert "changed" not in capsys.readouterr().out
    assert main(["run", str(file), "-o", str(folder), "--accept-stale"]) == 0
    told = capsys.readouterr().err
    assert told.count("a result is kept that was made before assay's own code changed") == 4
    assert told.count("stored result") == 4
    assert "made before assay&#39;s own code changed" in (folder / "report.html").read_text()


def test_results_of_other_code_are_not_passed_over_in_silence(copy, capsys):
    folder, file = copy
    made_by_other_code(folder, "of last year")
    assert main(["run", str(file), "-o", str(folder)]) == 0
    told = capsys.readouterr().err
    assert "4 results in this folder were made before assay's own code changed: attacked again" in told
    assert "stored result" not in told


def test_a_plan_tells_what_it_costs(whole, capsys):
    assert main(["run", str(whole[1]), "-o", str(whole[0]), "--plan", "--set", "seeds=[0, 9]"]) == 0
    told = capsys.readouterr().out
    assert "8 cells, 4 to be done, about" in told


def test_a_dry_run_goes_the_whole_way_and_leaves_nothing(whole, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(whole[1]), "--dry-run"]) == 0
    assert "dry run: everything works" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_cell_that_fails_does_not_stop_the_others(tmp_path, capsys):
    file = tmp_path / "s.yaml"
    file.write_text(STUDY.replace('"square:queries=20"', '"pgd:steps=3"').replace("pgd:steps=5", "patch:side=40"))
    assert main(["run", str(file), "-o", str(tmp_path / "run")]) == 1
    told = capsys.readouterr()
    assert "failed: clean: Patch" in told.err
    assert "report:" in told.out
    assert "PGD-3" in (tmp_path / "run" / "samples.csv").read_text()


class Failing:
    """An executor whose workers are lost as often as asked."""

    capacity = 3

    def __init__(self, losses):
        self.inner, self.losses, self.seen = Inline(), losses, {}

    def submit(self, ticket, order, before):
        self.inner.submit(ticket, order, before)

    def next(self):
        ticket, order, *_ = self.inner.waiting[0]
        what = order.first if isinstance(order, AttackTask) else order.request.check
        key = (what, str(getattr(order, "planned", "")), str(order.model))
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] <= self.losses.get(what, 0):
            self.inner.waiting.popleft()
            return ticket, None
        return self.inner.next()

    def close(self, *, now=False):
        pass


def test_lost_workers_are_replaced(whole, tmp_path):
    found = run_study(study(), tmp_path / "run", executor=Failing({8: 2}))
    assert not found.session.failures
    assert table(tmp_path / "run") == table(whole[0])
    with Ledger(tmp_path / "run") as ledger:
        assert len([text for _, text in ledger.events() if "the worker was lost" in text]) == 2 * 4


def test_what_always_loses_its_worker_is_told_and_the_rest_goes_on(tmp_path):
    found = run_study(study(), tmp_path / "run", executor=Failing({16: 9}))
    assert len(found.session.failures) == 4
    assert "the worker process ended 3 times" in str(found.session.failures[0].error)
    rows = rows_of(tmp_path / "run")
    assert {row["status"] for row in rows if int(row["sample"]) >= 16} == {"not run"}
    assert "not run" not in {row["status"] for row in rows if int(row["sample"]) < 16}


class Deadly(torch.nn.Module):
    """Ends its process on a bright image."""

    def forward(self, x):
        if bool((x.detach().mean((1, 2, 3)) > 0.99).any()):
            os._exit(9)
        return x.flatten(1)[:, :3]


def test_a_real_worker_that_dies(tmp_path):
    """The order that kills its worker is told after three times; all others are done."""
    x = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    x[9] = 1.0
    data = Dataset(x, x.flatten(1)[:, :3].argmax(1), ("a", "b", "c"), name="made")
    question = Question("Deadly", data, [plan("pgd:steps=2", eps=0.1)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.runs.plan.inspect", lambda *_: ())  # it would look at the image here
        with pytest.raises(RuntimeError, match="the worker process ended 3 times on deadly: PGD-2"):
            evaluate(
                {"deadly": Deadly()},
                question,
                tmp_path,
                settings=Settings(shard=4),
                executor=Local(1),
                sources={"deadly": ModelSource("study.test_run:Deadly")},
            )
    with Ledger(tmp_path) as ledger:
        assert [part.first for parts in ledger.shards().values() for part in parts] == [0, 4]


def test_two_processes_do_not_write_to_one_run(copy, capsys):
    folder, file = copy
    with lock.hold_run(folder):
        assert main(["run", str(file), "-o", str(folder)]) == 2
        told = capsys.readouterr()
        assert (
            f"out: expected a folder that no other process is writing to (assay status only reads), got {folder}"
            in told.err
        )
        assert f"process {os.getpid()}" in told.err
        assert main(["status", str(folder)]) == 0
        assert "running (process" in capsys.readouterr().out
    assert main(["status", str(folder)]) == 0
    assert "finished, 96 of 96 records" in capsys.readouterr().out


def test_a_run_that_can_only_be_read(copy, capsys):
    """status, verify and compare need no room to write."""
    folder, _ = copy
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        for command in ("status", "verify", "compare"):
            assert main([command, str(folder)]) == 0
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
    assert "nothing is wrong" in capsys.readouterr().out


def test_a_broken_report_loses_nothing(copy, monkeypatch, capsys):
    folder, _ = copy
    before = table(folder)

    def fails(*_, **__):
        raise RuntimeError("no report today")

    with monkeypatch.context() as patch:
        patch.setattr("assay.runs.publish.write_report", fails)
        assert main(["report", str(folder)]) == 1
        assert "no report today" in capsys.readouterr().err
        assert not (folder / "manifest.json").exists()
    assert main(["report", str(folder)]) == 0
    assert table(folder) == before
    assert verify(folder).faults == ()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device"), "no space is left: free some, and repeat the same command"),
        (OSError(30, "Read-only file system"), "Read-only file system"),
    ],
)
def test_a_full_disk_is_a_sentence_and_loses_nothing(tmp_path, whole, monkeypatch, error, sentence, capsys):
    writes = {"n": 0}
    from assay.runs import scheduler as module

    real = module.write_images

    def full(*given):
        writes["n"] += 1
        if writes["n"] == 5:
            raise error
        return real(*given)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_images", full)
        assert main(["run", str(whole[1]), "-o", str(out), "--quiet"]) == 1
    told = capsys.readouterr().err
    assert sentence in told
    assert "Traceback" not in told
    assert main(["run", str(whole[1]), "-o", str(out), "--quiet"]) == 0
    assert table(out) == table(whole[0])


def test_the_ledger_may_be_full(tmp_path, whole, capsys, monkeypatch):
    out = tmp_path / "run"
    real = Ledger.add_shard

    def full(self, *given):
        if given[1].first == 16:
            raise sqlite3.OperationalError("database or disk is full")
        real(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add_shard", full)
        assert main(["run", str(whole[1]), "-o", str(out), "--quiet"]) == 1
    assert "full" in capsys.readouterr().err
    assert main(["run", str(whole[1]), "-o", str(out), "--quiet"]) == 0
    assert table(out) == table(whole[0])


def damage(folder, what):
    image = sorted((folder / "images").iterdir())[0]
    if what == "an image's bytes":
        raw = bytearray(image.read_bytes())
        raw[-7] ^= 255
        image.write_bytes(raw)
    elif what == "an image gone":
        image.unlink()
    elif what == "the table":
        (folder / "samples.csv").write_text((folder / "samples.csv").read_text().replace("broken", "survived", 1))
    elif what == "a number of the ledger":
        with sqlite3.connect(folder / NAME) as db:
            db.execute("UPDATE sample SET l2 = l2 * 2 WHERE status = 1")
    elif what == "a verdict":
        with sqlite3.connect(folder / NAME) as db:
            db.execute("UPDATE sample SET margin = 5, status = 1 WHERE status = 2")
    elif what == "a row gone":
        with sqlite3.connect(folder / NAME) as db:
            db.execute("DELETE FROM sample WHERE sample = 3")
    elif what == "labels":
        with sqlite3.connect(folder / NAME) as db:
            db.execute("UPDATE sample SET y = (y + 1) % 8")
    else:
        (folder / "manifest.json").write_text("{")


@pytest.mark.parametrize(
    "what",
    [
        "an image's bytes",
        "an image gone",
        "the table",
        "a number of the ledger",
        "a verdict",
        "a row gone",
        "labels",
        "the manifest",
    ],
)
def test_verify_finds_damage(copy, what, capsys):
    folder, _ = copy
    assert main(["verify", str(folder)]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    damage(folder, what)
    assert main(["verify", str(folder)]) == 3
    assert "wrong: " in capsys.readouterr().out


def test_verify_without_models(copy, capsys):
    folder, _ = copy
    for model in (folder / "models").rglob("model.safetensors"):
        model.unlink()
    assert main(["verify", str(folder)]) == 0
    assert "cannot be loaded" in capsys.readouterr().err
    assert main(["verify", str(folder), "--no-models", "--json"]) == 0


def test_the_report_is_a_function_of_the_folder(copy, tmp_path):
    """Moved, with its models and the original data gone, a run makes the same page."""
    folder, _ = copy
    page = (folder / "report.html").read_text()
    shutil.rmtree(folder / "models")
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    assert main(["report", str(moved)]) == 0
    assert (moved / "report.html").read_text() == page


def test_comparing(whole, copy, tmp_path, capsys):
    assert main(["compare", str(whole[0]), str(copy[0]), "--json"]) == 0
    pairs = json.loads(capsys.readouterr().out)
    assert [(p["only_a"], p["only_b"], p["p"], p["same_attacks"]) for p in pairs] == [(0, 0, 1.0, True)] * 2
    assert main(["compare", str(whole[0])]) == 0
    assert "McNemar" in capsys.readouterr().out
    out = tmp_path / "other"
    assert main(["run", str(whole[1]), "-o", str(out), "--quiet", "--set", "data.scenes.seed=5"]) == 0
    capsys.readouterr()
    assert main(["compare", str(whole[0]), str(out)]) == 2
    assert "compare: expected the same samples on both sides, got 24 and 24, of which" in capsys.readouterr().err
    assert main(["compare", str(whole[0]), "--model", "clena"]) == 2
    assert "did you mean 'clean'?" in capsys.readouterr().err


def test_exporting_a_card(whole, capsys):
    folder, _ = whole
    assert main(["export", str(folder)]) == 0
    text = (folder / "cards" / "clean.md").read_text()
    import yaml

    head = yaml.safe_load(text.split("---")[1])
    assert head["model-index"][0]["results"][0]["metrics"][0]["name"] == "clean accuracy"
    assert "# Robustness of clean" in text
    assert main(["export", str(folder), "--to", "paper"]) == 2
    assert main(["export", str(folder), "--model", "nobody"]) == 2
    shutil.rmtree(folder / "cards")


@pytest.mark.parametrize("command", ["status", "verify", "compare", "export", "report"])
def test_no_run_there(command, tmp_path, capsys):
    assert main([command, str(tmp_path)]) == 2
    assert "run: expected a run's folder, but there is no ledger.sqlite" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_every_column_is_in_the_table(whole):
    head = (whole[0] / "samples.csv").read_text().splitlines()[0].split(",")
    assert set(COLUMNS) - {"stage"} <= set(head)
    assert not [name for name in head if "second" in name or "time" in name]


@pytest.mark.parametrize("executor", [None, "apart"])
def test_progress_counts_what_is_broken_over_all_shards(tmp_path, executor):
    """Shards are small: what was found in earlier ones, and by an interrupted call, is counted, too."""
    data = load("scenes:size=16,count=120", limit=24)
    model, seen = build("tiny-cnn", channels=3, classes=8, size=16).eval(), []
    question = Question("Counted", data, [plan("pgd:steps=2", eps=0.3)])
    how = {
        "settings": Settings(checks="none", shard=8),
        "reporter": Reporter(samples=seen.append),
        "executor": None if executor is None else Failing({}),
    }
    outcome = evaluate({"m": model}, question, tmp_path, **how).study.cells[0].outcome
    last = seen[-1]
    assert (last.done, last.total) == (24, 24)
    assert last.broken == outcome.count(Status.BROKEN)
    assert last.passes == int(outcome.forwards.sum() + outcome.backwards.sum())
    assert [now.done for now in seen] == sorted(now.done for now in seen)
