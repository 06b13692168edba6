"""A study is gone through whole on a few images, before hours are spent on it."""

from dataclasses import replace
from pathlib import Path

import pytest

from assay.cli import main
from assay.diagnostics.registry import DIAGNOSTICS
from assay.study.dry_run import IMAGES, shrink_study
from assay.study.parse import read_study

SMALL = sorted((Path(__file__).parents[2] / "studies" / "small").glob("*.yaml"))


@pytest.mark.parametrize("path", SMALL, ids=lambda p: p.stem)
def test_it_asks_the_same_of_less(path):
    config = read_study(path)
    small = shrink_study(config)
    assert (small.models.keys(), small.attacks, small.claims) == (config.models.keys(), config.attacks, config.claims)
    assert [q.ask for q in small.diagnostics] == [q.ask for q in config.diagnostics]
    assert all(data.limit <= IMAGES for data in small.data.values())
    assert all(model.train.epochs <= 1 for model in small.models.values())
    assert (small.signatures is None) == (config.signatures is None)


def test_randomised_defences_draw_little_and_keep_their_other_options():
    config = read_study(SMALL[0].parent / "dual-perturbation.yaml")
    assert "draws=16" in config.models["smoothed"].defence
    assert shrink_study(config).models["smoothed"].defence == "smoothing:sigma=0.25,draws=2,attack_draws=2"


def test_defences_that_a_study_trains_search_little():
    fit = shrink_study(read_study(SMALL[0].parent / "survey.yaml")).models["Defense-GAN"].fit
    assert (fit.epochs, fit.options) == (1, "steps=2,restarts=2,unrolled=2")


def test_curves_keep_their_first_budget_and_those_of_claims():
    config = read_study(SMALL[0].parent / "dual-perturbation.yaml")
    assert config.curve.eps == (2 / 255, 6 / 255, 8 / 255)
    assert config.curve.background == (0, 8 / 255, 32 / 255)
    curve = shrink_study(config).curve
    assert curve.eps == (2 / 255, 6 / 255, 8 / 255)  # claims name the last two
    assert curve.background == (0, 8 / 255)  # a claim names 8/255, if of another curve


STUDY = """
title: Small
models: {clean: {train: {epochs: 1, arch: tiny-cnn}}}
data: {scenes: {load: "scenes:size=16,count=60", limit: 8}}
attacks: [fgsm]
budgets: [{eps: 8/255}]
diagnostics: [{ask: [gradients], limit: 4}]
"""


def test_a_question_without_an_answer_is_named_at_the_end(tmp_path, monkeypatch, capsys):
    def refuse(context):
        raise ValueError("images: expected some that it is right about")

    entry = replace(DIAGNOSTICS["gradients"], ask=refuse)
    monkeypatch.setattr("assay.runs.diagnose.DIAGNOSTICS", {**DIAGNOSTICS, "gradients": entry})
    (tmp_path / "study.yaml").write_text(STUDY)
    assert main(["run", str(tmp_path / "study.yaml"), "--dry-run"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        "dry run: everything works, but without an answer, for want of images or for the reason above: gradients"
    )


@pytest.mark.slow
@pytest.mark.parametrize("path", SMALL, ids=lambda p: p.stem)
def test_the_studies_of_the_repository_go_through(path, capsys):
    assert main(["run", str(path), "--dry-run"]) == 0
    told = capsys.readouterr()
    assert "everything works" in told.out
    assert "Not answered" not in told.err
