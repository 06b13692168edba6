"""A plan of a study before anything of it is there, and after."""

import json
import math
from pathlib import Path

import pytest

from assay.cli import main
from assay.study.forecast import UNTRAINED, forecast
from assay.study.parse import parse_study, read_study

PAPER = sorted((Path(__file__).parents[2] / "studies" / "paper").glob("*.yaml"))
SMALL = """
title: Planned
models:
  clean: {train: {arch: tiny-cnn, epochs: 2, limit: 60, batch: 20, trail: true}}
  robust: {train: {start: clean, objective: pgd-at, arch: tiny-cnn, eps: 8/255, attack_steps: 3, epochs: 1, limit: 60}}
  noisy: {train: {arch: tiny-cnn, epochs: 1, limit: 60}, defence: "smoothing:sigma=0.25,draws=8,attack_draws=4"}
data:
  made: {load: "LOAD", limit: 6, expects: {size: 16, classes: 4, train: 100, test: 10}}
attacks: ["pgd:steps=4", "square:queries=9", "jsma:eps=4"]
budgets: [{eps: 8/255}]
run: {device: DEVICE, checks: none}
diagnostics:
  - {ask: [transfer, gradients], models: [clean, robust], limit: 6}
  - {over: clean, ask: [stability], limit: 6}
"""


def planned(tmp_path, load="npz:nowhere.npz", device="cpu", **options):
    config = parse_study(SMALL.replace("LOAD", load).replace("DEVICE", device))
    return forecast(config, tmp_path / "run", costs=True, **options)


@pytest.fixture(scope="module")
def absent(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("absent"), device="cuda:77")


def test_nothing_needs_to_be_there_and_nothing_is_written(absent, tmp_path):
    assert len(absent.cells) == 3 * 3
    assert {cell.state for cell in absent.cells} == {UNTRAINED}
    assert {cell.n for cell in absent.cells} == {6}
    assert any("cuda:77 is not here" in text for text in absent.notes)
    assert any("nowhere.npz is not there" in text for text in absent.notes)
    assert absent.device == "cpu"
    planned(tmp_path)
    assert not (tmp_path / "run").exists()


def test_attacks_cost_what_their_steps_say(absent):
    passes = {(cell.names.model, cell.names.attack.partition(" ")[0]): cell.passes for cell in absent.cells}
    assert passes["clean", "PGD-4"] == pytest.approx(
        6 * (5 + 5), rel=0.3
    )  # 4 steps and a last look, forward and backward
    assert passes["clean", "Square-9"] == 6 * 10
    assert passes["clean", "JSMA"] == pytest.approx(6 * 2 * 3, rel=0.4)
    assert passes["noisy", "PGD-4"] == 4 * passes["clean", "PGD-4"]  # of four draws


def test_trainings_and_questions_have_a_price(absent):
    parts = {part.name: part for part in absent.parts}
    assert parts["clean"].passes == 2 * 60 * 2  # epochs, images, forward and backward
    assert parts["robust"].passes == pytest.approx(60 * 2 * 4, rel=0.3)  # three steps of the attack, and the update
    assert parts["stability over clean"].passes > 3 * 6 * 3
    assert parts["transfer"].passes > parts["gradients"].passes > 0
    assert all(part.state == "to be done" and part.seconds > 0 for part in absent.parts)


def test_what_is_there_is_known(tmp_path, capsys):
    file, out = tmp_path / "s.yaml", tmp_path / "run"
    load = "patterns:size=16,classes=4,count=60"
    file.write_text(SMALL.replace("LOAD", load).replace("DEVICE", "cpu"))
    assert main(["run", str(file), "-o", str(out), "--quiet"]) == 0
    capsys.readouterr()
    assert main(["run", str(file), "-o", str(out), "--plan", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {cell["state"] for cell in told["cells"]} == {"kept"}
    assert {part["state"] for part in told["parts"]} == {"kept"}
    assert {part["kind"] for part in told["parts"]} == {"diagnostic"}  # nothing is to be trained any more
    after = planned(tmp_path, load)
    assert after.seconds == 0


def test_images_are_held_against_what_is_expected_of_them(tmp_path, capsys):
    file = tmp_path / "s.yaml"
    file.write_text(SMALL.replace("LOAD", "digits").replace("DEVICE", "cpu"))
    assert main(["run", str(file), "-o", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert "data.made.load: expected images of 3×16×16 in 4 classes, as `expects` says, got 1×8×8 in 10 classes" in told
    assert not (tmp_path / "run" / "models").exists()


def test_without_data_and_without_a_word_about_them_there_is_no_plan(tmp_path, capsys):
    file = tmp_path / "s.yaml"
    text = SMALL.replace(", expects: {size: 16, classes: 4, train: 100, test: 10}", "")
    file.write_text(text.replace("LOAD", "npz:nowhere.npz").replace("DEVICE", "cpu"))
    assert main(["run", str(file), "-o", str(tmp_path / "run"), "--plan"]) == 2
    assert "npz path: expected a file, got 'nowhere.npz'" in capsys.readouterr().err


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_studies_of_the_papers_say_what_they_expect(path):
    config = read_study(path)
    assert all(source.expects is not None for source in config.data.values())
    planned = forecast(config, "runs/nowhere", costs=False)
    assert planned.cells
    assert all(cell.n for cell in planned.cells)


@pytest.mark.slow
@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_studies_of_the_papers_go_through_on_made_images(path, capsys):
    assert main(["run", str(path), "--dry-run"]) == 0
    told = capsys.readouterr()
    assert "everything works" in told.out
    assert "tried on patterns:" in told.err


CERTIFIED = """
title: certified
models:
  trained: {train: {arch: conv-small, normalize: none, objective: ibp, epochs: 1, eps: 4/255}}
  squeezed: {train: {arch: conv-small, normalize: none, epochs: 1}, defence: "bits:bits=4"}
data: {d: {load: "patterns:size=16,classes=4,count=60", limit: 6}}
attacks: ["pgd:steps=2"]
budgets: [{eps: 4/255}]
certify: [ibp, "branch-and-bound:seconds=3"]
run: {checks: none}
"""


def test_certificates_have_a_price_and_are_kept(tmp_path, capsys):
    def parts():
        found = forecast(parse_study(CERTIFIED), out, costs=True).parts
        return {(part.kind, part.name): part for part in found if part.kind == "certificates"}

    out, file = tmp_path / "run", tmp_path / "s.yaml"
    before = parts()
    assert before["certificates", "trained, linf 4/255"].seconds > 6 * 3
    assert math.isnan(before["certificates", "squeezed, linf 4/255"].seconds)
    file.write_text(CERTIFIED.replace("seconds=3", "seconds=1"))
    assert main(["run", str(file), "-o", str(out), "--quiet"]) == 0
    capsys.readouterr()
    assert parts()["certificates", "trained, linf 4/255"].seconds > 6 * 3  # other seconds are another question
    file.write_text(CERTIFIED)
    assert main(["run", str(file), "-o", str(out), "--quiet"]) == 0
    after = parts()
    assert (
        after["certificates", "trained, linf 4/255"].state,
        after["certificates", "trained, linf 4/255"].seconds,
    ) == ("kept", 0.0)
    assert "not possible" in after["certificates", "squeezed, linf 4/255"].state
