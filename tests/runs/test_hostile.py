"""Runs that somebody else made: nothing in them is executed, nothing outside them is read or shown."""

import json
import pickle
import sqlite3

import pytest

from assay.cli import main
from assay.store.digests import write_all_digests
from assay.store.sqlite import NAME
from report.hostile import PAYLOADS
from runs.builders import STUDY

RAN = []


def factory():
    """Code that a ledger may name."""
    RAN.append(1)
    raise AssertionError("code from a ledger was run")


@pytest.fixture
def run(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    assert main(["run", str(file), "-o", str(tmp_path / "run"), "--quiet", "--set", "run.checks=none"]) == 0
    return tmp_path / "run"


def change(run, statement, *values):
    with sqlite3.connect(run / NAME) as db:
        db.execute(statement, values)
        write_all_digests(db)  # whoever forges a ledger repairs its digests
    db.close()


def test_code_that_a_ledger_names_is_not_run(run, capsys):
    with sqlite3.connect(run / NAME) as db:
        (text,) = db.execute("SELECT value FROM meta WHERE name = 'sources'").fetchone()
        sources = {
            name: {**told, "spec": "runs.test_hostile:factory", "inside": False}
            for name, told in json.loads(text).items()
        }
        db.execute("UPDATE meta SET value = ? WHERE name = 'sources'", (json.dumps(sources),))
    db.close()
    assert main(["verify", str(run)]) == 3
    told = capsys.readouterr()
    assert "ledger: the value sources changed since written" in told.out
    assert "runs code or downloads a model; add --trust" in told.err
    assert RAN == []
    assert main(["verify", str(run), "--trust"]) == 3
    assert "code from a ledger was run" in capsys.readouterr().err


def test_code_that_a_study_names_is_not_run(tmp_path, capsys):
    file = tmp_path / "study.yaml"
    file.write_text(
        STUDY.replace("clean: {train: {epochs: 1, arch: tiny-cnn}}", "clean: {load: 'runs.test_hostile:factory'}")
    )
    for more in ([], ["--plan"], ["--dry-run"], ["--explain"]):
        assert main(["run", str(file), "-o", str(tmp_path / "run"), *more]) == 2
        assert "models.clean.load: expected a weights file or a hub, or --trust" in capsys.readouterr().err
    assert RAN == []
    assert main(["run", str(file), "-o", str(tmp_path / "run"), "--trust"]) == 2
    assert "code from a ledger was run" in capsys.readouterr().err


FIGURES = {
    "<svg><path d='M0 0'/><script>alert(1)</script></svg>": False,
    "<svg onload='alert(1)'><path d='M0 0'/></svg>": False,
    "<svg><a href='https://example.org'><path d='M0 0'/></a></svg>": False,
    "<svg><use href='https://example.org/x.svg#a'/></svg>": False,
    "<svg><rect fill='url(https://example.org/x)'/></svg>": False,
    "<svg><rect style='background: url(x)'/></svg>": False,
    "<svg><foreignObject><p>text</p></foreignObject></svg>": False,
    "<meta http-equiv='refresh' content='0;url=https://example.org'/>": False,
    "<!DOCTYPE svg [<!ENTITY a 'aaaa'>]><svg>&a;</svg>": False,
    "<svg></svg><p>more</p>": False,
    "<svg><path d='M0 0 L1 1' stroke='currentColor'/><text x='1'>a</text></svg>": True,
}


@pytest.mark.parametrize("figure", FIGURES, ids=range(len(FIGURES)))
def test_only_drawings_are_drawn(run, figure, capsys):
    answer = {"name": "x", "title": "x", "question": "x", "verdict": "x", "figures": [figure], "frame": []}
    change(run, "INSERT INTO answer VALUES ('key', 'diagnostic', ?)", json.dumps(answer))
    change(run, "INSERT OR REPLACE INTO meta VALUES ('answers', '[\"key\"]')")
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert (figure in page) == FIGURES[figure]
    assert "example.org" not in page


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "images/../../outside.safetensors"])
@pytest.mark.parametrize("command", ["report", "verify", "compare", "export"])
def test_names_that_lead_outside_are_refused(run, name, command, capsys):
    (run.parent / "outside.safetensors").write_bytes(next((run / "data").iterdir()).read_bytes())
    with sqlite3.connect(run / NAME) as db:
        digest, about = db.execute("SELECT digest, about FROM data").fetchone()
        db.execute(
            "UPDATE data SET about = ? WHERE digest = ?", (json.dumps({**json.loads(about), "file": name}), digest)
        )
        write_all_digests(db)
    db.close()
    assert main([command, str(run)]) == (3 if command == "verify" else 2)
    told = capsys.readouterr()
    assert "run: expected files inside the run's folder" in told.out + told.err


def test_an_image_outside_is_a_fault(run, capsys):
    change(run, "UPDATE shard SET images = '../../outside'")
    assert main(["verify", str(run)]) in (2, 3)
    told = capsys.readouterr()
    assert "outside the run's folder" in told.out + told.err or "inside the run's folder" in told.out + told.err


def test_a_pickle_in_place_of_images_is_not_loaded(run, capsys):
    class Evil:
        def __reduce__(self):
            return (RAN.append, (1,))

    for path in (run / "images").iterdir():
        path.write_bytes(pickle.dumps(Evil()))
    assert main(["verify", str(run)]) in (2, 3)
    assert main(["report", str(run)]) in (0, 2)
    assert RAN == []
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("payload", PAYLOADS[:10])
def test_names_from_a_ledger_are_text(run, payload, capsys):
    with sqlite3.connect(run / NAME) as db:
        for place, words in db.execute("SELECT place, words FROM plan").fetchall():
            told = {**json.loads(words), "model": f"m{place}{payload}", "attack": f"a{place}{payload}"}
            db.execute("UPDATE plan SET words = ? WHERE place = ?", (json.dumps(told), place))
        (told,) = db.execute("SELECT value FROM meta WHERE name = 'told'").fetchone()
        changed = {**json.loads(told), "title": payload, "command": payload, "notes": [payload]}
        db.execute("UPDATE meta SET value = ? WHERE name = 'told'", (json.dumps(changed),))
        write_all_digests(db)
    db.close()
    before = (run / "report.html").read_text()
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert page.count("<script") == before.count("<script") == 2
    assert page.count("<iframe") == page.count("<object") == 0
    assert main(["status", str(run)]) == 0
    assert main(["export", str(run)]) == 0
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    first = (run / "samples.csv").read_text().splitlines()[1]
    assert not first.split(",")[1].startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("name", ["../../evil", "a/b", "..", "nul\x01l", "x" * 200, "con", "-rf"])
def test_names_of_models_do_not_make_paths(tmp_path, name, capsys):
    file = tmp_path / "s.yaml"
    file.write_text(
        json.dumps(
            {
                "title": "t",
                "models": {name: {"train": {"epochs": 0}}},
                "data": {"d": {"load": "scenes:size=16,count=40", "limit": 8}},
                "attacks": ["pgd:steps=1"],
                "run": {"checks": "none"},
            }
        )
    )
    out = tmp_path / "deep" / "er" / "run"
    code = main(["run", str(file), "-o", str(out), "--quiet"])
    assert code in (0, 2)
    capsys.readouterr()
    if code == 0:
        assert main(["export", str(out)]) == 0
    made = [p for p in tmp_path.rglob("*") if p.is_file() and not p.is_relative_to(out) and p != file]
    assert made == []
