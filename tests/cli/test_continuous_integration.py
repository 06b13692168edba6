"""What a pipeline asks for: exit codes, JUnit, Markdown, a schema, and a workflow whose commands exist."""

import json
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

from assay.cli import main
from assay.cli.main import COMMANDS, app
from assay.models import build, save
from assay.store.summary_schema import StudySummary

SIZE = {"arch": "tiny-cnn", "channels": 1, "classes": 10, "size": 8}
WORKFLOW = Path(__file__).parents[2] / "examples" / "ci" / "robustness.yml"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two evaluations of one model on the same images: the second under a larger budget of the same words."""
    folder = tmp_path_factory.mktemp("runs")
    from assay.data import load
    from assay.training import Recipe, train

    model = train(load("digits", split="train", limit=600), Recipe(arch="tiny-cnn", epochs=3), folder / "t").model
    save(model, folder / "good.safetensors", SIZE)
    save(build(**SIZE), folder / "bad.safetensors", SIZE)
    common = ["--data", "digits", "--limit", "32", "--eps", "1/16", "--attack", "pgd:steps=5", "--quiet"]
    for name in ("good", "bad"):
        model = ["--model", f"m={folder / name}.safetensors", "--checks", "fast", "-o", str(folder / name)]
        assert main(["evaluate", *common, *model]) == 0
    certified = ["--certify", "ibp", "--checks", "none", "-o", str(folder / "ends")]
    assert main(["evaluate", *common, "--model", f"m={folder / 'good.safetensors'}", *certified]) == 0
    return folder


def test_a_drop_ends_with_3_and_a_sentence(runs, capsys):
    good, bad = str(runs / "good"), str(runs / "bad")
    assert main(["compare", good, bad, "--fail-on-drop", "2"]) == 3
    assert re.search(r"bad: m is \d+\.\d points less robust than good: m, at most 2 allowed", capsys.readouterr().err)
    assert main(["compare", bad, good, "--fail-on-drop", "2"]) == 0
    assert main(["compare", good, bad, "--fail-on-drop", "100", "--json"]) == 0
    assert main(["compare", good, bad, "--fail-on-drop", "-1"]) == 2


def test_a_robust_accuracy_that_is_too_low_ends_with_3(runs, capsys):
    again = ["evaluate", "--data", "digits", "--limit", "32", "--eps", "1/16", "--attack", "pgd:steps=5", "--quiet"]
    again += ["--model", f"m={runs / 'good.safetensors'}", "--checks", "fast", "-o", str(runs / "good")]
    assert main([*again, "--fail-under", "1"]) == 0
    assert main([*again, "--fail-under", "99.9"]) == 3
    assert re.search(r"m: robust accuracy \d+\.\d %, required 99.9 %", capsys.readouterr().err)
    assert main([*again, "--fail-under", "101"]) == 2


def test_junit_counts_what_it_holds(runs, capsys):
    assert main(["export", str(runs / "bad"), "--to", "junit"]) == 0
    (suite,) = ET.fromstring(capsys.readouterr().out)
    assert int(suite.get("tests")) == len(suite) > 20
    failed = {case.get("name") for case in suite if case.find("failure") is not None}
    assert len(failed) == int(suite.get("failures")) > 0  # an untrained network: labels out of order
    assert any(name.startswith("A11 ") for name in failed)
    assert "evidence" in failed


def test_markdown_has_verdict_and_bracket(runs, capsys):
    assert main(["report", str(runs / "ends"), "--format", "md"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("### ")
    assert re.search(r"\| m \| [\d.]+ % \| \*\*[\d.]+ %\*\* \|", text)
    assert "| model | budget | certified | attacked | open |" in text


def test_every_summary_is_of_the_schema(runs, capsys):
    for name in ("good", "bad", "ends"):
        StudySummary.model_validate(json.loads((runs / name / "summary.json").read_text()), strict=True)
    assert main(["report", "--json-schema"]) == 0
    assert json.loads(capsys.readouterr().out)["additionalProperties"] is False
    assert main(["report"]) == 2


def test_the_workflow_calls_commands_and_options_that_exist():
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["evaluate"]["steps"]
    script = "\n".join(step["run"] for step in steps if "run" in step).replace("\\\n", " ")
    calls = [shlex.split(line) for line in script.splitlines() if line.strip().startswith("assay ")]
    assert {call[1] for call in calls} == {"evaluate", "compare", "export", "report"}
    for call in calls:
        assert call[1] in {command.name for command in COMMANDS}
        text = app(call[1])[call[1]].generate_docs(output_format="markdown")
        options = [word for word in call if re.fullmatch(r"--[a-z-]+", word)]
        assert all(option in text for option in options), (call, options)
