"""Trainings with adversarial images of another model."""

import json

import pytest
import torch

import assay
from assay.cli import main
from assay.data import Dataset
from assay.study.added_images import with_added
from assay.study.training_schema import Added
from models_for_tests import mlp, predicted

STUDY = """
title: Retrained
models:
  net: {train: {arch: tiny-cnn, epochs: 1, limit: 60, batch: 20}}
  again:
    train: {arch: tiny-cnn, start: net, epochs: 1, limit: 60, batch: 20,
            add: {model: net, attack: "ATTACK", limit: 20, targets: 2}}
data: {digits: {load: digits, limit: 8}}
attacks: ["fgsm"]
budgets: [{eps: 0.3}]
run: {checks: none}
"""


def data(n=20):
    x = torch.randint(0, 256, (n, 2, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Dataset(x, predicted(mlp(), x.float() / 255), tuple("abcd"))


@pytest.mark.parametrize("targets", [0, 2])
def test_broken_images_come_behind_the_others_with_their_labels(targets):
    own = data()
    joined = with_added(
        own, mlp(), assay.PGD(0.3, steps=10), Added(model="m", attack="pgd", limit=8, targets=targets), 0
    )
    assert torch.equal(joined.x[: len(own)], own.x)
    more, labels = joined.images(slice(len(own), None)), joined.y[len(own) :]
    assert 0 < len(more) <= 8 * max(targets, 1)
    assert float((predicted(mlp(), more) != labels).float().mean()) > 0.9  # but for what rounding takes back
    again = with_added(
        own, mlp(), assay.PGD(0.3, steps=10), Added(model="m", attack="pgd", limit=8, targets=targets), 0
    )
    assert torch.equal(again.x, joined.x)


def test_a_study_trains_with_them(tmp_path, capsys):
    file = tmp_path / "s.yaml"
    file.write_text(STUDY.replace("ATTACK", "pgd:steps=3"))
    assert main(["run", str(file), "-o", str(tmp_path / "run"), "--plan", "--json"]) == 0
    parts = {part["name"]: part for part in json.loads(capsys.readouterr().out)["parts"]}
    assert parts["again"]["passes"] > parts["net"]["passes"]
    assert main(["run", str(file), "-o", str(tmp_path / "run")]) == 0
    assert "again: with adversarial images of 20 of them by pgd:steps=3" in capsys.readouterr().err
    assert len(list((tmp_path / "run" / "models").iterdir())) == 2
    assert main(["run", str(file), "-o", str(tmp_path / "run")]) == 0
    assert "with adversarial images" not in capsys.readouterr().err
    file.write_text(STUDY.replace("ATTACK", "pgd:steps=4"))
    assert main(["run", str(file), "-o", str(tmp_path / "run")]) == 0
    assert len(list((tmp_path / "run" / "models").iterdir())) == 3  # another attack makes another model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("model: net, attack", "model: again, attack"),
            "models.again.train.add.model: expected a model trained before",
        ),
        (("ATTACK", "pdg"), "expected one of"),
        (("ATTACK", "patch"), "models.again.train.add.attack: patch:side: expected a value"),
    ],
)
def test_what_cannot_be_made_is_told(tmp_path, capsys, change, message):
    file = tmp_path / "s.yaml"
    file.write_text(STUDY.replace(*change).replace("ATTACK", "pgd"))
    assert main(["run", str(file), "-o", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
