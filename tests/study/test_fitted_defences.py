"""Defences that a study trains and puts around its models."""

import json
import shutil

import pytest

from assay.cli import main
from assay.store.model_source import ModelSource

STUDY = """
title: Fitted
models:
  net: {train: {arch: tiny-cnn, epochs: 1, limit: 60, batch: 20}}
  cleaned: {train: {start: net, epochs: 0, limit: 60}, fit: {defence: magnet, epochs: 1, limit: 60}}
  cleaned, plain:
    train: {start: net, epochs: 0, limit: 60}
    fit: {defence: magnet, epochs: 1, limit: 60}
    adaptive: false
  plain:
    train: {start: net, epochs: 0, limit: 60}
    fit: {defence: ape-gan, epochs: 1, limit: 60, attack: "pgd:steps=2"}
    adaptive: false
data: {digits: {load: digits, limit: 6}}
attacks: [fgsm]
budgets: [{eps: 0.2}]
run: {checks: none}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run and its file."""
    folder = tmp_path_factory.mktemp("fitted")
    file = folder / "s.yaml"
    file.write_text(STUDY)
    assert main(["run", str(file), "-o", str(folder / "run"), "--plan", "--json"]) == 0
    assert main(["run", str(file), "-o", str(folder / "run"), "--quiet"]) == 0
    return file, folder / "run"


def test_each_model_has_its_defence(run, capsys):
    _, folder = run
    names = sorted(path.name.rpartition("-")[0] for path in (folder / "models").iterdir())
    assert names == ["ape-gan", "cleaned", "cleaned-plain", "magnet", "net", "plain"]  # one defence for two rows
    cells = {row["model"]: row for row in json.loads((folder / "summary.json").read_text())["models"]}
    assert set(cells) == {"net", "cleaned", "cleaned, plain", "plain"}
    report = (folder / "report.html").read_text()
    assert "cleaned: attacked adaptively" in report
    assert "plain: not attacked adaptively" in report


def test_the_same_command_trains_nothing_again(run, capsys):
    file, folder = run
    assert main(["run", str(file), "-o", str(folder)]) == 0
    output = capsys.readouterr().err
    assert "training" not in output
    assert output.count("stored result") == 4


def test_a_moved_run_is_verified(run, tmp_path, capsys):
    shutil.copytree(run[1], tmp_path / "moved")
    assert main(["verify", str(tmp_path / "moved")]) == 0


def test_a_record_names_no_folder(tmp_path):
    inside = ModelSource(str(tmp_path / "m.safetensors"), (), f"magnet:path={tmp_path}/models/a/defence.safetensors")
    output = inside.to_json(tmp_path)
    assert str(tmp_path) not in json.dumps(output["defence"])
    other = ModelSource.from_json({**output, "inside": False}, tmp_path / "other")
    assert other.defence == f"magnet:path={tmp_path}/other/models/a/defence.safetensors"
    outside = ModelSource("m.safetensors", (), "magnet:path=/elsewhere/defence.safetensors")
    assert ModelSource.from_json(outside.to_json(tmp_path), tmp_path).defence == outside.defence


def test_a_plan_knows_what_is_to_be_trained(run, tmp_path, capsys):
    file, folder = run
    assert main(["run", str(file), "-o", str(tmp_path / "other"), "--plan", "--json"]) == 0
    names = {part["name"] for part in json.loads(capsys.readouterr().out)["parts"]}
    defended = {"magnet of cleaned", "magnet of cleaned, plain", "ape-gan of plain"}
    assert {"net", "cleaned", "cleaned, plain", "plain"} | defended == names
    assert main(["run", str(file), "-o", str(folder), "--plan", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["parts"] == []
    assert {cell["state"] for cell in output["cells"]} == {"kept"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("defence: magnet", "defence: magnets"), "models.cleaned.fit.defence: expected one of magnet, ape-gan"),
        (("fit: {defence: magnet", "defence: jpeg, fit: {defence: magnet"), "expected either defence or fit, not both"),
        (('attack: "pgd:steps=2"', 'attack: "pdg"'), "expected one of"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, capsys, change, message):
    file = tmp_path / "s.yaml"
    file.write_text(STUDY.replace(*change, 1))
    assert main(["run", str(file), "-o", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_with_a_comma_is_refused_before_anything_is_trained(tmp_path, capsys):
    file = tmp_path / "s.yaml"
    file.write_text(STUDY)
    assert main(["run", str(file), "-o", str(tmp_path / "a,b")]) == 2
    assert "out: expected a folder without a comma in its name" in capsys.readouterr().err
    assert not (tmp_path / "a,b" / "models").exists()
