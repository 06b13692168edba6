"""Saliency models by name, and one that learns from masks."""

import pytest
import torch

import assay
from assay.attacks.registry import make
from assay.cli.main import main
from assay.core.fingerprint import fingerprint
from assay.data import load
from assay.defences.fitted import fit_defence
from assay.masks import SpectralResidual, foreground_score, load_saliency
from assay.masks.learned_saliency import SaliencyNetwork, fixation_loss
from models_for_tests import mlp

DATA = load("scenes:size=16,count=400", split="train")
TEST = load("scenes:size=16,count=64", split="test")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return fit_defence("saliency", DATA, tmp_path_factory.mktemp("saliency"), epochs=25)


def test_it_looks_at_foregrounds_that_it_has_not_learned(file):
    learned, masks = load_saliency(file), TEST.masks.float()
    density = learned(TEST.images())
    assert density.shape == masks.shape
    assert torch.allclose(density.flatten(1).sum(1), torch.ones(len(TEST)), atol=1e-5)
    score = foreground_score(learned, TEST.images(), masks).mean()
    assert score > 0.6
    assert score > foreground_score(SpectralResidual(), TEST.images(), masks).mean() + 0.2


def test_an_attack_takes_it_by_its_file(file):
    x, y, mask = TEST.images(slice(0, 8)), TEST.y[:8], TEST.masks[:8].float()
    model, learned = mlp(size=16, channels=3, classes=8), load_saliency(file)
    plain, quiet = (
        assay.perturb(model, x, y, make(f"dual:steps=10,lam={lam},saliency={file}", eps=0.05), mask=mask)
        for lam in (0, 100)
    )
    assert foreground_score(learned, quiet, mask).mean() > foreground_score(learned, plain, mask).mean()


def test_attacks_with_other_saliency_are_other_attacks(file):
    specs = ("dual:lam=1", f"dual:lam=1,saliency={file}", "dual:lam=1,saliency=spectral-residual")
    default, learned, named = (fingerprint(make(spec, eps=0.05)).text for spec in specs)
    assert default == named
    assert default != learned


def test_names_that_are_none(file, tmp_path):
    with pytest.raises(ValueError, match="saliency: expected spectral-residual, or a file that assay fit saliency"):
        load_saliency("deepgaze")
    other = fit_defence("magnet", DATA.take(slice(0, 40)), tmp_path, epochs=1)
    with pytest.raises(ValueError, match="saliency: expected a file that assay fit saliency wrote, got other weights"):
        load_saliency(other)


def test_images_without_masks_are_refused(tmp_path):
    digits = load("digits", split="train", limit=20)
    with pytest.raises(ValueError, match="data: expected images with foreground masks"):
        fit_defence("saliency", digits, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_loss_is_least_on_the_mask_and_takes_an_empty_one_for_everything():
    mask = torch.zeros(1, 1, 2, 2)
    mask[..., 0, :] = 1
    best = fixation_loss(torch.where(mask > 0, 20.0, -20.0), mask)
    assert best == pytest.approx(torch.tensor(2.0).log().item(), abs=1e-5)
    assert fixation_loss(torch.where(mask > 0, -20.0, 20.0), mask) > 10
    even = fixation_loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    assert even == pytest.approx(torch.tensor(4.0).log().item(), abs=1e-5)


def test_its_arguments_build_it_again():
    network = SaliencyNetwork(1, width=5)
    again = SaliencyNetwork(**network.arguments())
    assert [p.shape for p in again.parameters()] == [p.shape for p in network.parameters()]


def test_from_the_command_line(tmp_path, capsys):
    out = tmp_path / "s"
    assert main(["fit", "saliency", "--data", "scenes:size=16,count=40", "-o", str(out), "--epochs", "1"]) == 0
    assert capsys.readouterr().out.strip() == f"saliency: {out}/saliency.safetensors"
    assert main(["fit", "saliency", "--data", "digits", "-o", str(tmp_path / "t"), "--epochs", "1"]) == 2
    assert "images with foreground masks" in capsys.readouterr().err
