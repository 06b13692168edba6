"""Edits that repair the digests, too: what can be computed anew gives them away; and readers compare every row."""

import shutil
import sqlite3
from contextlib import closing

import pytest
import torch

from assay.attacks.plan import plan
from assay.cli import main
from assay.data import load
from assay.models import build, save
from assay.runs import Question, Settings, evaluate
from assay.store.digests import write_all_digests
from assay.store.integrity.verify import verify
from assay.store.model_source import ModelSource

RECIPE = {"arch": "tiny-cnn", "channels": 3, "classes": 8, "size": 16}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forged")
    data = load("scenes:size=16,count=40", limit=24)
    model = build(**RECIPE).eval()
    save(model, folder / "m.safetensors", RECIPE)
    answers = model(data.images()).argmax(1)
    data.y[:16] = answers[:16].detach()  # right on most of them
    question = Question("Forged", data, [plan("pgd:steps=5", eps=0.3)])
    source = {"m": ModelSource(str(folder / "m.safetensors"))}
    evaluate({"m": model}, question, folder / "run", settings=Settings(checks="none"), sources=source)
    assert verify(folder / "run").faults == ()
    return folder / "run"


@pytest.fixture
def run(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def edit(run, sql, *, repair):
    with closing(sqlite3.connect(run / "ledger.sqlite")) as ledger:
        ledger.executescript(sql)
        if repair:
            write_all_digests(ledger)
        ledger.commit()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE plan SET words = replace(words, '0.3', '0.6')",
        "UPDATE meta SET value = replace(value, 'Forged', 'Honest') WHERE name = 'title' OR name = 'told'",
        "UPDATE data SET about = replace(about, '24', '25')",
    ],
)
@pytest.mark.parametrize("command", ["report", "export"])
def test_readers_compare_every_row(run, sql, command, capsys):
    edit(run, sql, repair=False)
    assert main([command, str(run)]) == 2
    assert "expected results as they were written" in capsys.readouterr().err


BROKEN = "status = 1"
FORGED = {
    "broken is called an error": f"UPDATE sample SET status = 4, error = 'x' WHERE {BROKEN}",
    "broken is called invalid": f"UPDATE sample SET status = 3 WHERE {BROKEN}",
    "broken is called not run": f"UPDATE sample SET status = 5 WHERE {BROKEN}",
    "misclassified is called not run": "UPDATE sample SET status = 5 WHERE status = 0",
    "misclassified is called invalid": "UPDATE sample SET status = 3 WHERE status = 0",
    "images are disowned": "UPDATE shard SET images = NULL, sha256 = NULL, keep = 'none'; UPDATE sample SET "
    f"status = 2, predicted = y, margin = -0.5, stage = -1, restart = -1 WHERE {BROKEN}",
    "another seed": """UPDATE plan SET words = replace(words, '"seed": 0', '"seed": 5')""",
}


@pytest.mark.parametrize("name", FORGED)
def test_repaired_digests_hide_nothing_that_can_be_computed(run, name):
    edit(run, FORGED[name], repair=True)
    main(["report", str(run)])
    assert verify(run).faults


def test_what_could_not_be_checked_is_said_beside_the_result(run, capsys):
    (run.parent / "m.safetensors").unlink(missing_ok=True)
    edit(
        run,
        "UPDATE meta SET value = replace(value, 'm.safetensors', 'gone.safetensors') WHERE name = 'sources'",
        repair=True,
    )
    main(["report", str(run)])
    capsys.readouterr()
    assert main(["verify", str(run)]) == 0
    assert "nothing is wrong in what was checked; 1 thing could not be checked" in capsys.readouterr().out


ENDING = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(768, 8)
    def forward(self, x):
        {line}
        return self.layer(x.flatten(1))
def net():
    torch.manual_seed(0)
    return Net()
"""


def test_a_model_that_ends_the_program_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ending.py").write_text(ENDING.format(line="raise SystemExit(0)"))
    words = ["evaluate", "--model", "ending:net", "--data", "scenes:size=16,count=40", "--limit", "8", "-o", "run"]
    assert main(words) == 2
    assert "the model tried to end the program" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_model_that_raises_on_some_images_is_no_wrong_input(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = "if (x.mean((1, 2, 3)) > 0.5).any(): raise ValueError('too bright')"
    (tmp_path / "sometimes.py").write_text(ENDING.format(line=line))
    words = [
        "evaluate",
        "--model",
        "sometimes:net",
        "--data",
        "scenes:size=16,count=40",
        "--limit",
        "16",
        "--attack",
        "pgd:steps=2",
        "--checks",
        "none",
        "-o",
        "run",
    ]
    assert main(words) == 1
    assert "(ValueError: too bright); run the same command to try" in capsys.readouterr().err


def test_images_that_never_fool_a_random_model_are_a_fault(tmp_path):
    """No image fools it for sure, so none is judged alone; images of survivors that are called broken fool it never."""
    data, recipe = load("scenes:size=16,count=40", limit=24), {**RECIPE, "arch": "tiny-cnn+noise"}
    model = build(**recipe).eval()
    with torch.no_grad():  # one class wins by more than all noise
        list(model.parameters())[-1][1] += 20
    save(model, tmp_path / "m.safetensors", recipe)
    data.y[:] = 1
    question = Question("Forged", data, [plan("pgd:steps=1", eps=1e-5)])
    evaluate(
        {"m": model},
        question,
        tmp_path / "run",
        settings=Settings(checks="none"),
        sources={"m": ModelSource(str(tmp_path / "m.safetensors"))},
    )
    assert not any("random" in text for text in verify(tmp_path / "run").faults)
    edit(
        tmp_path / "run",
        "UPDATE sample SET status = 1, margin = 0.5, predicted = (y + 1) % 8, stage = 0 WHERE status = 2",
        repair=True,
    )
    assert any("the model is random" in text for text in verify(tmp_path / "run").faults)
