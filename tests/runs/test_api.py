"""One call from Python: every form of data and model, and what is said where it cannot be."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import assay
from assay.data import as_dataset
from assay.models import build, save
from assay.runs import Settings
from models_for_tests import images, mlp, predicted

FAST = Settings(checks="none")


@pytest.fixture(scope="module")
def case():
    model, x = mlp(channels=3), images(24, channels=3)
    return model, x, predicted(model, x)


def test_every_form_of_the_same_data_is_the_same_data(case):
    _, x, y = case
    forms = [
        (x, y),
        [x, y.tolist()],
        (x.numpy(), y.numpy()),
        (x.permute(0, 2, 3, 1).numpy(), y.int()),
        (x.double(), y),
        TensorDataset(x, y),
        DataLoader(TensorDataset(x, y), batch_size=7),
    ]
    sets = [as_dataset(form) for form in forms]
    assert all(torch.equal(own.x, x) and torch.equal(own.y, y) for own in sets)
    assert len({own.digest for own in sets}) == 1
    assert as_dataset(sets[0]) is sets[0]
    assert as_dataset("digits").name == "digits (test part, 359 of 1797, holdout=0.2)/test"
    assert as_dataset((x, y), classes="abcd").classes == ("a", "b", "c", "d")
    eight = as_dataset(((255 * x).to(torch.uint8), y))
    assert eight.x.dtype == torch.uint8


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (5, "data: expected a pair"),
        ((torch.rand(4, 8, 8, 3), torch.zeros(4)), "y: expected one whole number for each image"),
        ((torch.rand(4, 8, 8, 3), torch.zeros(4).long()), r"x\.permute\(0, 3, 1, 2\)"),
        ((255 * torch.rand(4, 3, 8, 8), torch.zeros(4).long()), "have to be uint8, or divided by 255"),
        ((np.random.rand(4, 5, 5, 5), np.zeros(4, int)), "x: expected"),
        (DataLoader(TensorDataset(torch.rand(4, 3, 8, 8))), "pairs of images and labels"),
        (DataLoader([]), "at least one image"),
    ],
)
def test_data_of_no_known_form_is_refused(data, message):
    with pytest.raises((TypeError, ValueError), match=message):
        as_dataset(data)


def test_one_call_ends_in_a_report_and_is_resumed_by_the_same_call(case, tmp_path):
    model, x, y = case
    result = assay.evaluate(model, (x, y), eps="2/255", out=tmp_path / "run", settings=FAST, quiet=True)
    by_hand = assay.attack(model, x, y, assay.PGD(2 / 255))
    outcome = result.outcomes["model", "PGD-40 linf 2/255"]
    assert torch.equal(outcome.status, by_hand.status)
    assert 0 < result.robust_accuracy <= by_hand.robust_accuracy
    assert result.report.read_text().startswith("<!doctype html>")
    again = assay.evaluate(model, (x, y), eps=2 / 255, out=tmp_path / "run", settings=FAST, quiet=True)
    assert again.reused == 2
    assert str(result.report) in str(again)
    assert again._repr_html_().count("<tr>") == 3
    assert "under all attacks" in str(again)


def test_attacks_may_be_suites_specs_and_attacks(case, tmp_path):
    model, x, y = case
    attacks = ["quick", "pgd:steps=3", assay.AutoAttack("1/255", steps=3, queries=5)]
    result = assay.evaluate(
        {"a": model, "b": mlp(channels=3, seed=1)}, (x, y), attacks=attacks, out=tmp_path, settings=FAST, quiet=True
    )
    assert {name for _, name in result.outcomes} == {
        "FGSM linf 8/255",
        "PGD-40 linf 8/255",
        "PGD-3 linf 8/255",
        "standard linf 1/255",
    }
    with pytest.raises(ValueError, match="one model"):
        result.robust_accuracy  # noqa: B018
    assert {"a", "b"} == set(result.verdicts)


def test_a_model_by_its_file_and_masks_where_an_attack_needs_them(tmp_path):
    recipe = {"arch": "tiny-cnn", "channels": 1, "classes": 10, "size": 8}
    save(build(**recipe), tmp_path / "net.safetensors", recipe)
    given = {"attacks": "dual:steps=2", "limit": 6, "out": tmp_path / "run", "settings": FAST, "quiet": True}
    result = assay.evaluate(str(tmp_path / "net.safetensors"), "digits", **given)
    ((model, _),) = result.outcomes
    assert model == "net"
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eps": 8}, r"did you mean 8/255"),
        ({"eps": "8/0"}, "eps: expected a number, or a fraction"),
        ({"norm": "Linf"}, "did you mean 'linf'"),
        ({"attacks": []}, "attacks: expected at least one"),
        ({"attacks": "pdg"}, "did you mean 'pgd'"),
        ({"attacks": assay.PGD}, "call it"),
        ({"limit": 0}, "limit: expected"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_written(case, changes, message, tmp_path):
    model, x, y = case
    with pytest.raises((TypeError, ValueError), match=message):
        assay.evaluate(model, (x, y), out=tmp_path / "run", quiet=True, **changes)
    assert not (tmp_path / "run").exists()


def test_images_of_other_channels_are_named(case, tmp_path):
    _, x, y = case
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 4))
    with pytest.raises(ValueError, match="whose first convolution takes 1 channels"):
        assay.evaluate(model, (x, y), out=tmp_path / "run", quiet=True)
