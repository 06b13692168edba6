"""Errors: of models, of diagnostics, of signatures; told, ending with 1, and tried again by the same command."""

import csv
import json
from dataclasses import replace

import pytest
import torch

import assay
from assay.attacks.plan import plan
from assay.cli import main
from assay.data import load
from assay.models import build
from assay.runs import Question, Settings, evaluate
from assay.store.integrity.verify import verify
from assay.store.ledger import Ledger
from runs.builders import STUDY

DATA = load("scenes:size=16,count=120", limit=20)


class Condition:
    """What a machine is like meanwhile, which is no part of a model: it fails on some images; and what was asked."""

    digest = "a machine"

    def __init__(self):
        self.fail, self.calls = lambda x: False, []


CONDITION = Condition()


class Moody(torch.nn.Module):
    """A network that raises an error on images that its global condition names."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = build("tiny-cnn", channels=3, classes=8, size=16).eval()

    def forward(self, x):
        if len(x) and CONDITION.fail(x):
            raise MemoryError("no room (planted)")
        CONDITION.calls.append(len(x))
        return self.net(x)


def moody():
    return Moody().eval()


@pytest.fixture(autouse=True)
def _calm():
    CONDITION.fail = lambda x: False
    CONDITION.calls.clear()


def dark(x):
    """Whether an image of the darker half is among some."""
    means = DATA.images().mean((1, 2, 3))
    return bool((x.mean((1, 2, 3)) < means.median()).any())


def ask(out, *, attacks=("pgd:steps=3", "square:queries=10"), model=None, **settings):
    model = model or moody()
    data = replace(DATA, y=model.net(DATA.images()).argmax(1))
    question = Question("t", data, [plan(name, eps=8 / 255) for name in attacks])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.runs.plan.inspect", lambda *_: ())  # what fails before the attack fails the command
        return evaluate({"m": model}, question, out, settings=Settings(checks="none", shard=8, **settings))


def statuses(out):
    with Ledger(out) as ledger:
        return [ledger.columns(entry)["status"].tolist() for entry, _ in ledger.plan()]


def verdicts(out):
    """What was found of each sample; how often a failing model was called is another matter."""
    with (out / "samples.csv").open(newline="") as file:
        columns = ("attack", "sample", "status", "predicted_clean", "predicted", "steps", "linf", "broken_by", "error")
        return [[row[name] for name in columns] for row in csv.DictReader(file)]


@pytest.mark.parametrize("keep", ["all", "broken"])
def test_samples_that_raised_an_error_are_tried_again_and_only_these(tmp_path, keep):
    whole = ask(tmp_path / "whole", images=keep)
    CONDITION.fail = dark
    first = ask(tmp_path / "run", images=keep)
    assert first.errors == sum(row.count(4) for row in statuses(tmp_path / "run")) > 0
    assert "no room (planted)" in first.first_error
    assert first.summary["errors"]["samples"] == first.errors
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["errors"]["first"] == first.first_error
    assert verify(tmp_path / "run").faults == ()
    CONDITION.fail = lambda x: False
    tried = []
    real = assay.runs.tasks.AttackTask.run_task

    def carried(self, progress=None):
        tried.append((self.first, self.only))
        return real(self, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.runs.tasks.AttackTask.run_task", carried)
        second = ask(tmp_path / "run", images=keep)
    assert sum(len(only) for _, only in tried) == first.errors
    assert second.errors == 0
    assert "errors" not in second.summary
    assert verdicts(tmp_path / "run") == verdicts(tmp_path / "whole")
    assert whole.summary["models"][0]["counts"] == second.summary["models"][0]["counts"]
    assert verify(tmp_path / "run").faults == ()
    images = {path.name for path in (tmp_path / "run" / "images").glob("*")}
    with Ledger(tmp_path / "run") as ledger:
        assert images == {
            part.images.partition("/")[2] for parts in ledger.shards().values() for part in parts if part.images
        }


def test_an_error_that_stays_is_tried_once_a_command_and_told_again(tmp_path):
    CONDITION.fail = dark
    first, second = ask(tmp_path / "run"), ask(tmp_path / "run")
    assert first.errors == second.errors > 0
    assert second.first_error == first.first_error


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raising.py").write_text(
        "import torch\n"
        "from assay.models import build as make\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        torch.manual_seed(0)\n"
        "        self.net = make('tiny-cnn', channels=3, classes=8, size=16)\n"
        "        self.calls = 0\n"
        "    def forward(self, x):\n"
        "        if x.requires_grad:\n"
        "            raise ValueError('no gradients today')\n"
        "        return self.net(x) * 0 + torch.arange(8)\n"  # always the last class, which the data have
        "def net():\n"
        "    return Net()\n"
    )
    return tmp_path


def test_evaluate_ends_with_one_and_no_number_is_told(files, capsys):
    words = [
        "evaluate",
        "--model",
        "raising:net",
        "--data",
        "scenes:size=16,count=120",
        "--limit",
        "8",
        "--attack",
        "pgd:steps=2",
        "--checks",
        "none",
        "-o",
        "run",
    ]
    for _ in range(2):
        code = main(words)
        told = capsys.readouterr()
        rows = statuses(files / "run")[0]
        assert 4 in rows  # it is right about some image
        assert code == 1
        assert "samples have no result" in told.err or "sample has no result" in told.err
        assert "no gradients today" in told.err
        assert "run the same command to try them again" in told.err
        assert "nan %" not in told.out + told.err
    assert main([*words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["errors"]["samples"] == rows.count(4)


def test_a_query_model_in_a_run(tmp_path):
    asked = []

    def bright(x):
        asked.append(len(x))
        return x.mean((1, 2, 3)) > 0.4

    data = replace(DATA, y=(DATA.images().mean((1, 2, 3)) > 0.4).long())
    model = assay.QueryModel(bright, gives="labels", classes=2)
    question = Question("q", data, [plan("hopskipjump", eps=8 / 255)])
    found = evaluate({"box": model}, question, tmp_path, settings=Settings(checks="none", max_forwards=30))
    assert found.complete
    assert found.errors == 0
    assert sum(sum(cell.outcome.counts.values()) for cell in found.study.cells) == 20
    asked.clear()
    again = evaluate({"box": model}, question, tmp_path, settings=Settings(checks="none", max_forwards=30))
    assert again.reused == 1
    assert sum(asked) < 250
    with pytest.raises(TypeError, match=r"models\['box'\]: expected a torch.nn.Module, or a callable"):
        evaluate({"box": 3}, question, tmp_path / "other")


QUESTIONS = (
    STUDY
    + """
diagnostics:
  - {ask: [parameters, gradients], limit: 8, train_limit: 16}
signatures: {victims: [clean], limit: 8, test_limit: 8, kinds: [pgd, patch], steps: 2, epochs: 1, warmup: 0,
             columns: [image], sides: [4]}
"""
)


@pytest.mark.parametrize("error", [RuntimeError("planted"), ValueError("planted"), ZeroDivisionError("planted")])
def test_a_question_that_raises_costs_its_own_section(tmp_path, monkeypatch, capsys, error):
    from assay.study import diagnostics as questions

    def refuse(*_, **__):
        raise error

    (tmp_path / "study.yaml").write_text(QUESTIONS)
    words = ["run", str(tmp_path / "study.yaml"), "-o", str(tmp_path / "run"), "--set", "run.checks=none"]
    with monkeypatch.context() as patch:
        entry = replace(questions.DIAGNOSTICS["gradients"], ask=refuse)
        changed = {**questions.DIAGNOSTICS, "gradients": entry}
        patch.setattr("assay.study.diagnostics.DIAGNOSTICS", changed)
        patch.setattr("assay.runs.diagnose.DIAGNOSTICS", changed)
        patch.setattr("assay.study.diagnostics.learn_answers", refuse)
        assert main(words) == 1
    told = capsys.readouterr()
    assert "failed: gradients" in told.err
    assert "failed: signatures" in told.err
    assert "report: " in told.out
    page = (tmp_path / "run" / "report.html").read_text()
    assert "planted" in page
    assert "Could not run: planted" not in told.err.split("parameters: ")[1].split("\n")[0]
    assert main(words) == 0
    told = capsys.readouterr().err
    assert "parameters: " in told
    assert "failed" not in told
    assert "planted" not in (tmp_path / "run" / "report.html").read_text()


def test_a_dry_run_that_is_interrupted_says_so(tmp_path, monkeypatch, capsys):
    from assay.cli import run as command
    from assay.runs.session import SessionResult
    from assay.study.run import StudyResult

    (tmp_path / "study.yaml").write_text(STUDY)
    monkeypatch.setattr(command, "run_study", lambda *_, **__: StudyResult(None, SessionResult(False, 0, (), 2), {}))
    assert main(["run", str(tmp_path / "study.yaml"), "--dry-run"]) == 130
    told = capsys.readouterr().out
    assert "interrupted" in told
    assert "works" not in told


def test_the_device_of_a_study_reaches_training_questions_and_signatures(tmp_path, monkeypatch, capsys):
    """Seen by what each is called with: this machine may have one device alone."""
    from assay.study import diagnostics as questions
    from assay.study import models as trained

    (tmp_path / "study.yaml").write_text(QUESTIONS.replace("run: {", "run: {checks: none, device: 'cuda:1', "))
    asked, seen = [], {}

    def device_of(name):
        asked.append(name)
        return "cpu"

    monkeypatch.setattr("assay.runs.settings.device_of", device_of)
    real, moved = trained.run_training, []

    def training(*given, device=None, **more):
        seen["training"] = device
        return real(*given, device=device, **more)

    def learned(lesson, *_, **__):
        seen["signatures"] = lesson.device
        return []

    real_case = questions.DiagnosticContext

    def case(trail, models, **more):
        seen["diagnostics"] = list(moved)
        return real_case(trail, models, **more)

    real_to = torch.nn.Module.to

    def to(self, *given, **more):
        moved.extend(given)
        return real_to(self, *given, **more)

    monkeypatch.setattr(trained, "run_training", training)
    monkeypatch.setattr(questions, "learn_answers", learned)
    monkeypatch.setattr(questions, "DiagnosticContext", case)
    monkeypatch.setattr(torch.nn.Module, "to", to)
    assert main(["run", str(tmp_path / "study.yaml"), "-o", str(tmp_path / "run"), "--quiet"]) == 0
    assert set(asked) == {"cuda:1"}
    assert seen["training"] == seen["signatures"] == "cpu"
    assert "cpu" in seen["diagnostics"]
