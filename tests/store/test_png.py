"""Images at 8 bits: each exported file fools the model as anybody reads it, within the budget."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

import assay
from assay.attacks.eight_bit import eight_bit
from models_for_tests import images, mlp, predicted

SIZE = 6


@pytest.fixture(scope="module")
def case():
    model, x = mlp(channels=3), (images(96, channels=3) * 255).round() / 255
    return model, x, predicted(model, x)


ATTACKS = {
    "pgd": assay.PGD(6 / 255),
    "pgd-l2": assay.PGD(0.2, norm="l2"),
    "fmn-l2": assay.FMN(norm="l2", eps=0.25),
    "deepfool-linf": assay.DeepFool(norm="linf", eps=8 / 255),
    "square": assay.Square(10 / 255, queries=200),
    "sigma-zero": assay.SigmaZero(60, eps=8),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_every_file_fools_the_model_as_it_is_read(case, name, tmp_path):
    model, x, y = case
    attack = ATTACKS[name]
    outcome = assay.attack(model, x, y, attack)
    exported = assay.export_png(model, outcome, tmp_path / "png", attack)
    rows = list(csv.DictReader((tmp_path / "png" / "images.csv").read_text().splitlines()))
    assert len(rows) == len(exported.files) == len(list((tmp_path / "png").glob("*.png")))
    assert len(rows) + len(exported.images.lost) == outcome.counts["broken"]
    for row in rows:
        array = np.array(Image.open(tmp_path / "png" / row["file"]))
        image = torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255
        sample = int(row["sample"])
        assert int(model(image).argmax()) == int(row["predicted"]) != int(y[sample]) == int(row["label"])
        norm = {"fmn-l2": 2, "pgd-l2": 2, "sigma-zero": 0}.get(name, np.inf)
        size = np.linalg.norm((image - x[sample]).flatten().numpy(), norm)
        assert size <= {"sigma-zero": 8}.get(name, getattr(attack.geometry, "eps", 0)) * (1 + 1e-4)
    assert exported.images.robust_accuracy <= outcome.robust_accuracy + 0.02
    assert len(exported.images.lost) <= 2


def test_an_image_that_rounding_brings_back_is_searched_for_on_the_grid(case):
    """The least perturbations lie on the boundary: the nearest levels are on the wrong side half of the time."""
    model, x, y = case
    outcome = assay.attack(model, x, y, assay.FMN(norm="linf"))
    rounded = (outcome.images * 255).round() / 255
    assert 0.1 < (predicted(model, rounded) == y).float().mean() < 0.9
    images = eight_bit(model, outcome, assay.Ball("linf", 0.5))
    assert not len(images.lost)
    assert images.robust_accuracy == 0


def test_targets_and_masks_hold_for_8_bit_images_too(case):
    model, x, y = case
    target = (y + 1) % 4
    outcome = assay.attack(model, x, y, assay.PGD(0.08), target=target)
    images = eight_bit(model, outcome, assay.Ball("linf", 0.08))
    assert torch.equal(images.predicted, target[images.index])
    mask = (torch.arange(SIZE) < 3).float().expand(len(x), 1, SIZE, SIZE)
    dual = assay.DualPerturbation(0.02, 0.06)
    outcome = assay.attack(model, x, y, dual, mask=mask)
    images = eight_bit(model, outcome, dual, mask=mask)
    moved = (images.images.float() / 255 - x[images.index]).abs()
    assert moved[..., :3].max() <= 0.02 * (1 + 1e-4)
    assert 0.03 < moved[..., 3:].max() <= 0.06 * (1 + 1e-4)
    with pytest.raises(ValueError, match="mask: expected the foreground masks"):
        eight_bit(model, outcome, dual)


def test_nothing_is_written_over_and_bad_arguments_are_named(case, tmp_path):
    model, x, y = case
    outcome = assay.attack(model, x, y, assay.PGD(0.03))
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="folder: expected a new or empty folder"):
        assay.export_png(model, outcome, tmp_path, assay.Ball("linf", 0.03))
    with pytest.raises(ValueError, match=r"budget: expected a set, such as assay.Ball"):
        assay.export_png(model, outcome, tmp_path / "a", assay.DeepFool())
    wide = assay.attack(mlp(channels=2), images(8), predicted(mlp(channels=2), images(8)), assay.PGD(0.03))
    with pytest.raises(ValueError, match="images of 1, 3 or 4 channels"):
        assay.export_png(mlp(channels=2), wide, tmp_path / "b", assay.Ball("linf", 0.03))


def test_a_model_behind_an_address_needs_no_gradient(case, tmp_path):
    model, x, _ = case
    box = assay.QueryModel(lambda a: model(torch.as_tensor(a)).detach().numpy(), gives="logits", classes=4)
    y = box(x).argmax(1)
    attack = assay.Square(0.05, queries=100)
    exported = assay.export_png(box, assay.attack(box, x, y, attack), tmp_path / "png", attack)
    assert len(exported.files) > 5


def test_outcomes_of_an_evaluation_have_their_images(case, tmp_path):
    model, x, y = case
    settings = assay.runs.Settings(checks="none")
    result = assay.evaluate(model, (x, y), eps="8/255", attacks="pgd", out=tmp_path, settings=settings, quiet=True)
    (outcome,) = result.outcomes.values()
    broken = outcome.status == 1
    assert (predicted(model, outcome.images)[broken] != y[broken]).all()
    assert outcome.norm("linf")[broken].max() == pytest.approx(8 / 255, abs=1e-6)
