"""The command: answers kept as they come, one page, and errors as sentences."""

import json
from dataclasses import replace

import pytest

from assay.cli.main import main
from assay.data import load
from assay.diagnostics import Trail, plots
from assay.diagnostics.context import DiagnosticContext
from assay.diagnostics.registry import DIAGNOSTICS, select_diagnostics
from assay.report import svg
from assay.report.page import read_template
from assay.training import Recipe, train

DATA = "scenes:size=16,count=200"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(load(DATA, split="train"), Recipe(epochs=2, rate=3e-3, batch=32), folder, trail=(0, 1, 2))
    return folder


def ask(run, out, *more):
    return main(["diagnose", str(run), "--data", DATA, "--limit", "24", "--train-limit", "48", "-o", str(out), *more])


def test_a_trail_is_diagnosed_and_answers_are_kept(run, tmp_path, capsys):
    which = ["--which", "learning,stability,transfer"]
    assert ask(run, tmp_path, *which) == 0
    first = capsys.readouterr()
    assert "diagnosis.html" in first.out
    assert "stored result" not in first.err
    page = (tmp_path / "diagnosis.html").read_text()
    for name in ("learning", "stability", "transfer"):
        kept = json.loads((tmp_path / f"{name}.json").read_text())
        assert kept["frame"]
        assert DIAGNOSTICS[name].title in page
    assert "<script" not in page
    assert f"assay diagnose {run} --data {DATA} " in page
    assert "--which learning,stability,transfer" in page
    assert "<image" in page  # the profiles' shades stand in the page
    assert "http://" not in page.replace("http://www.w3.org", "")
    (tmp_path / "stability.json").write_text("{")  # damaged: asked again
    assert ask(run, tmp_path, *which) == 0
    told = capsys.readouterr().err
    assert told.count("stored result") == 2
    assert (tmp_path / "diagnosis.html").read_text().count("<svg") == page.count("<svg")
    assert ask(run, tmp_path, "--which", "learning", "--eps", "1/255") == 0
    assert "stored result" not in capsys.readouterr().err


def test_figures_are_drawn_in_the_colours_that_the_page_replaces():
    assert (plots.INK, plots.RULE, plots.SERIES) == (svg._LIGHT_INK, svg._LIGHT_RULE, svg._LIGHT)
    style = read_template("report.css")
    assert all(f"--s{i}: {colour};" in style for i, colour in enumerate(plots.SERIES))


def test_models_without_a_trail(run, tmp_path, capsys):
    files = [f"{name}={run / 'trail' / f'epoch-000{e}.safetensors'}" for name, e in (("a", 1), ("b", 2))]
    which = ["--which", "transfer,budgets,suspicion"]
    assert main(["diagnose", *files, "--data", DATA, "--limit", "16", *which, "-o", str(tmp_path)]) == 0
    assert "transfer: " in capsys.readouterr().err
    assert main(["diagnose", *files, "--data", DATA, "--which", "stability", "-o", str(tmp_path)]) == 2
    assert "which: expected diagnostics of single models" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--which", "stabilty"], "did you mean 'stability'"),
        (["--eps", "four"], "eps: expected a number or a fraction"),
    ],
)
def test_bad_input(words, message, run, tmp_path, capsys):
    assert ask(run, tmp_path, *words) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_a_trail(tmp_path, capsys):
    assert main(["diagnose", str(tmp_path), "--data", DATA]) == 2
    assert "assay train --trail all" in capsys.readouterr().err


def test_a_question_without_an_answer_stops_no_other(run, tmp_path, capsys):
    files = [f"a={run / 'trail' / 'epoch-0002.safetensors'}", "--eps", "0", "--limit", "16", "-o", str(tmp_path)]
    which = ["--which", "interpretability,gradients"]
    from assay.diagnostics import registry

    def refuse(case):
        raise ValueError("attacks: expected at least one image")

    entry = replace(registry.DIAGNOSTICS["interpretability"], ask=refuse)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.runs.diagnose.DIAGNOSTICS", {**registry.DIAGNOSTICS, "interpretability": entry})
        assert main(["diagnose", *files, *which, "--data", DATA]) == 0
        assert main(["diagnose", *files, "--which", "interpretability", "--data", DATA]) == 2
    assert "interpretability: Could not run: attacks: expected" in capsys.readouterr().err
    assert not (tmp_path / "interpretability.json").exists()
    assert (tmp_path / "gradients.json").exists()


def test_what_cannot_be_asked_is_left_out_or_refused():
    assert "suspicion" in select_diagnostics(None, trail=False)
    assert "suspicion" not in select_diagnostics(None, trail=True, masks=False)
    assert "stability" not in select_diagnostics(None, trail=False)
    with pytest.raises(ValueError, match="need no foreground masks"):
        select_diagnostics("suspicion", trail=True, masks=False)


@pytest.mark.parametrize("name", DIAGNOSTICS)
def test_every_diagnostic_by_name(name, run):
    trail = Trail({e: run / "trail" / f"epoch-000{e}.safetensors" for e in (0, 2)})
    part = load(DATA, split="train").take(slice(0, 40))
    case = DiagnosticContext(
        trail, {}, train=part, test=part.take(slice(0, 12)), eps=4 / 255, updates=1, search_steps=20
    )
    answer = DIAGNOSTICS[name].ask(case)
    assert answer.frame()
    assert answer.verdict().endswith(".")
    assert name in select_diagnostics(None, trail=True)
