"""Defences that are trained first: fitted, kept in a file, named on the command line, attacked as they declare."""

import json

import pytest
import torch

import assay
from assay.cli.main import main
from assay.data import load
from assay.defences import DEFENCES, Guarded, Projection, Transformed, adaptation_of, defend
from assay.defences.checkpoint import load_part, save_part
from assay.defences.fitted import FITTINGS, fit_defence
from assay.defences.purifiers import Autoencoder, Generator
from assay.models import build, digest
from assay.training import Recipe, train
from models_for_tests import mlp, predicted

DATA = load("scenes:size=16,count=160", split="train")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    recipe = Recipe(arch="tiny-cnn", epochs=4, rate=3e-3)
    return train(DATA, recipe, tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def files(classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    attack = assay.FGSM(0.1)
    return {
        name: fit_defence(name, DATA, folder / name, model=classifier.model, attack=attack, epochs=1, refuse=0.1)
        for name in FITTINGS
    }


def spec_of(name, files):
    needed = {"smoothing": ":sigma=0.1", "defense-gan": ",steps=6,restarts=2,unrolled=3"}
    return name + (f":path={files[name]}" if name in files else "") + needed.get(name, "")


@pytest.mark.parametrize("name", DEFENCES)
def test_defences_by_name(name, classifier, files):
    model, x, y = classifier.model, DATA.images(slice(0, 4)), DATA.y[:4]
    defended = defend(model, spec_of(name, files))
    adaptation = adaptation_of(defended)
    assert adaptation.how
    attack = adaptation.adapt(assay.PGD(0.1, steps=3))
    found = assay.attack(defended, x, y, attack, surrogate=adaptation.surrogate, test=adaptation.test, preflight=False)
    assert found.images.shape == x.shape
    assert float((found.images - x).abs().max()) <= 0.1 + 1e-6
    with torch.no_grad():
        logits = defended(x)
        assert torch.equal(logits, defended(x))  # the same draws again
        assert logits.shape == (4, len(DATA.classes) + isinstance(defended, Guarded))


@pytest.mark.parametrize("name", FITTINGS)
def test_a_fit_is_the_same_when_it_is_interrupted(name, classifier, tmp_path):
    given = {"model": classifier.model, "attack": assay.FGSM(0.1)}
    data = DATA.take(slice(0, 40))
    whole = fit_defence(name, data, tmp_path / "whole", epochs=2, **given)
    fit_defence(name, data, tmp_path / "parts", epochs=1, **given)
    parts = fit_defence(name, data, tmp_path / "parts", epochs=2, **given)
    assert whole.read_bytes() == parts.read_bytes()
    with pytest.raises(ValueError, match="seed differs"):
        fit_defence(name, data, tmp_path / "parts", epochs=2, seed=1, **given)


def test_a_fit_takes_an_empty_folder_or_its_own(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"out: expected a new or empty folder, .* in which there is thesis\.txt"):
        fit_defence("magnet", DATA.take(slice(0, 40)), tmp_path, epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["magnet", "detector"])
def test_thresholds_let_clean_images_through(name, classifier, tmp_path):
    data = load("scenes:size=16,count=1500", split="train")  # 120 images aside
    path = fit_defence(name, data, tmp_path, model=classifier.model, attack=assay.FGSM(0.1), epochs=1, refuse=0.1)
    refused = defend(classifier.model, f"{name}:path={path}")(data.images()).argmax(1) == len(data.classes)
    assert 0.02 < float(refused.float().mean()) < 0.2


def test_the_gradient_through_a_projection():
    """It is that of the unrolled steps: against finite differences where all of them are unrolled."""
    torch.manual_seed(0)
    generator = Generator(1, 8, latent=4, width=4).double().eval()
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    change = Projection(generator, steps=4, restarts=1, rate=0.5, unrolled=4)
    keys = change._start(x)  # the vectors belong to the pixels, so a moved pixel has others: hold them
    change._start = lambda z: (keys[0], keys[1], z.detach())
    probe = torch.randn(x.shape, dtype=torch.float64)
    moved = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad((change(moved) * probe).sum(), moved)
    way = torch.randn(x.shape, dtype=torch.float64)
    with torch.no_grad():
        numeric = ((change(x + 1e-5 * way) - change(x - 1e-5 * way)) * probe).sum() / 2e-5
    assert float((slope * way).sum()) == pytest.approx(float(numeric), rel=1e-4)
    assert not change(x).requires_grad


def test_descent_comes_nearer():
    torch.manual_seed(1)
    generator = Generator(1, 8, latent=8, width=8).eval()
    with torch.no_grad():
        x = generator(2 * torch.randn(4, 8))
    errors = [float((Projection(generator, steps=s, rate=20.0)(x) - x).square().mean()) for s in (0, 10, 100)]
    assert errors[0] > errors[1] > errors[2]


def test_files_of_parts(tmp_path):
    net = Autoencoder(1)
    path = tmp_path / "a.safetensors"
    save_part(net, path, "autoencoder", {"channels": 1}, threshold=0.5)
    again, facts = load_part(path, "autoencoder")
    assert facts == {"threshold": 0.5}
    assert digest(again) == digest(net)
    with pytest.raises(ValueError, match="weights of its cleaner, as assay fit writes them"):
        load_part(path, "cleaner")
    with pytest.raises(FileNotFoundError, match="assay fit"):
        load_part(tmp_path / "b.safetensors", "cleaner")
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="a safetensors file"):
        load_part(path, "autoencoder")
    with pytest.raises(ValueError, match=r"magnet:path: expected a value, as in magnet:path=runs/d/defence"):
        defend(mlp(), "magnet")


def test_what_a_fit_needs(tmp_path):
    with pytest.raises(ValueError, match="defence: expected"):
        fit_defence("magnets", DATA, tmp_path)
    with pytest.raises(ValueError, match="model: expected one"):
        fit_defence("ape-gan", DATA, tmp_path)
    with pytest.raises(ValueError, match="data: expected at least 10 images"):
        fit_defence("magnet", DATA.take(slice(0, 5)), tmp_path)


def test_fit_and_evaluate_on_the_command_line(classifier, tmp_path, capsys):
    data = "scenes:size=16,count=160"
    fitted = tmp_path / "detector"
    words = ["fit", "detector", "--data", data, "-o", str(fitted), "--epochs", "1", "--limit", "60"]
    assert main(words) == 2
    assert "model: expected one" in capsys.readouterr().err
    assert main([*words, "--model", str(classifier.path), "--eps", "0.1", "--json"]) == 0
    path = json.loads(capsys.readouterr().out)["path"]
    assert (
        main(
            [
                "evaluate",
                "--model",
                str(classifier.path),
                "--data",
                data,
                "--limit",
                "8",
                "--eps",
                "0.1",
                "--attack",
                "pgd:steps=3",
                "--defence",
                f"detector:path={path}",
                "-o",
                str(tmp_path / "run"),
                "--quiet",
            ]
        )
        == 0
    )
    assert "joint attack" in capsys.readouterr().err


def test_noise_layers_by_name():
    noisy = build("tiny-cnn+noise", channels=1, classes=3, size=8).eval()
    x = torch.rand(2, 1, 8, 8)
    assert not torch.equal(noisy(x), noisy(x))
    defended = defend(noisy, "rse")
    assert isinstance(defended, torch.nn.Module)
    assert predicted(defended, x).shape == (2,)
    with pytest.raises(ValueError, match="arch: expected nothing or"):
        build("tiny-cnn+nose", channels=1, classes=3, size=8)
    with pytest.raises(ValueError, match=r"did you mean 'tiny-cnn'\?"):
        build("tiny-cn", channels=1, classes=3, size=8)
    assert isinstance(defend(noisy, "bits"), Transformed)
