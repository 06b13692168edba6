"""A study trains the saliency model that its question is about."""

import pytest

from assay.cli import main
from assay.store.ledger import Ledger

STUDY = """
title: Saliency
models:
  net: {train: {arch: tiny-cnn, epochs: 1, limit: 60, batch: 20}}
data: {scenes: {load: "scenes:size=16,count=200", limit: 16, foreground: data}}
attacks: [fgsm]
budgets: [{eps: 0.02}]
run: {checks: none}
diagnostics:
  - {ask: [suspicion], limit: 16, lambdas: [0, 10], saliency: SALIENCY, saliency_epochs: 3}
"""


def run(folder, saliency, *more):
    file = folder / "s.yaml"
    file.write_text(STUDY.replace("SALIENCY", saliency))
    return main(["run", str(file), "-o", str(folder / "run"), *more])


def answers(folder):
    with Ledger(folder / "run") as ledger:
        (answer,) = [ledger.answer(key) for key in ledger.meta("answers")]
    return answer["frame"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned")
    assert run(folder, "learned", "--quiet") == 0
    return folder


def test_it_is_trained_once(folder, capsys):
    (kept,) = (folder / "run" / "models").glob("saliency-*/saliency.safetensors")
    before = kept.stat().st_mtime_ns
    assert run(folder, "learned") == 0
    assert "stored result" in capsys.readouterr().err
    assert kept.stat().st_mtime_ns == before


def test_another_saliency_model_is_another_answer(folder, tmp_path, capsys):
    (learned,) = (folder / "run" / "models").glob("saliency-*/saliency.safetensors")
    assert run(tmp_path, str(learned), "--quiet") == 0
    same = answers(tmp_path)
    (tmp_path / "other").mkdir()
    assert run(tmp_path / "other", "spectral-residual", "--quiet") == 0
    assert same == answers(folder)
    assert answers(tmp_path / "other") != same


def test_a_plan_names_the_training(tmp_path, capsys):
    assert run(tmp_path, "learned", "--plan") == 0
    assert "a saliency model" in capsys.readouterr().out


def test_a_wrong_name_is_refused_before_anything_is_trained(tmp_path, capsys):
    assert run(tmp_path, "learnt", "--quiet") == 2
    assert "expected one of spectral-residual, learned, got 'learnt'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_missing_file_is_refused_before_anything_is_trained(tmp_path, capsys):
    assert run(tmp_path, str(tmp_path / "none.safetensors"), "--quiet") == 2
    assert "saliency: expected spectral-residual, or a file that assay fit saliency wrote" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
