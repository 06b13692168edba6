"""Bad arguments are refused in one sentence, before a folder is made or work is done."""

import socket

import pytest

from assay.cli import main
from assay.defences import defend
from assay.models import build
from assay.util.validate import name_argument

DATA = "scenes:size=16,count=60"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("late")
    words = ["--data", DATA, "--limit", "20", "--epochs", "1", "--trail", "0,1", "--quiet"]
    assert main(["train", *words, "-o", str(out)]) == 0
    return out


def refused(words, out, capsys):
    """What a command says that is refused and leaves no folder."""
    capsys.readouterr()
    assert main([*words, "-o", str(out)]) == 2
    assert not out.exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--epochs", "-1"], "epochs: expected a whole number that is at least 1, got -1"),
        (["--epochs", "0"], "epochs: expected a whole number that is at least 1, got 0"),
        (["--refuse", "2"], "refuse: expected a finite number that is at least 0 and at most 1, got 2.0"),
        (["--seed", "-1"], "seed: expected a whole number that is at least 0, got -1"),
        (["--limit", "5"], "data: expected at least 10 images, got 5"),
    ],
)
def test_fit(more, message, tmp_path, capsys):
    assert message in refused(["fit", "magnet", "--data", DATA, *more], tmp_path / "run", capsys)


def test_fit_checks_the_side_of_images(tmp_path, capsys):
    words = ["fit", "defense-gan", "--data", "scenes:size=18,count=60"]
    assert "a multiple of 4, got '18 pixels'" in refused(words, tmp_path / "run", capsys)


def test_corruptions_name_their_parameters(trained, tmp_path, capsys):
    words = ["corruptions", "--model", str(trained / "model.safetensors"), "--data", DATA, "--parameters", "zz"]
    said = refused(words, tmp_path / "run", capsys)
    assert "parameters: expected one of 'auto', 'imagenet', 'cifar', got 'zz'" in said


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--layer", "99"], "layer: expected a convolution between 1 and "),
        (["--layer", "0"], "layer: expected a whole number that is at least 1, got 0"),
        (["--layer", "99", "--columns", "image,B"], "layer: expected a convolution between 1 and "),
        (["--refused", "3"], "refused: expected a finite number that is at least 0 and at most 0.5, got 3.0"),
        (["--width", "0"], "width: expected a whole number that is at least 1, got 0"),
        (["--blocks", "-1"], "blocks: expected a whole number that is at least 0, got -1"),
        (["--epochs", "0"], "epochs: expected a whole number that is at least 1, got 0"),
        (["--warmup", "-1"], "warmup: expected a whole number that is at least 0, got -1"),
        (["--rate", "0"], "rate: expected a finite number above 0, got 0.0"),
        (["--steps", "0"], "steps: expected a whole number that is at least 1, got 0"),
        (["--arch", "zz"], "arch: expected one of "),
        (["--seed", "-1"], "seed: expected a whole number that is at least 0, got -1"),
    ],
)
def test_signatures(trained, more, message, tmp_path, capsys):
    words = ["signatures", str(trained / "model.safetensors"), "--data", DATA, *more]
    assert message in refused(words, tmp_path / "run", capsys)


def test_signatures_need_images_that_their_architecture_takes(trained, tmp_path, capsys):
    words = ["train", "--data", "digits", "--limit", "40", "--epochs", "1", "--quiet", "-o", str(tmp_path / "grey")]
    assert main(words) == 0
    words = ["signatures", str(tmp_path / "grey" / "model.safetensors"), "--data", "digits", "--arch", "strattack-cnn"]
    said = refused(words, tmp_path / "run", capsys)
    assert "arch: expected an architecture for images of 8 pixels, got strattack-cnn" in said


@pytest.mark.parametrize("trail", ["99", "-1", "0,2,3"])
def test_train_keeps_epochs_that_there_are(trail, tmp_path, capsys):
    words = ["train", "--data", DATA, "--epochs", "2", f"--trail={trail}"]
    said = refused(words, tmp_path / "run", capsys)
    assert f"trail: expected epochs from 0 to 2 (--epochs), or all, got {trail.rpartition(',')[2]}" in said


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("/nonexist", "start: expected a .safetensors or .pt file"),
        ("/nonexist.pt", "start: expected a weights file, but there is none at /nonexist.pt"),
    ],
)
def test_train_names_its_start(start, message, tmp_path, capsys):
    words = ["train", "--data", DATA, "--limit", "20", "--start", start]
    assert message in refused(words, tmp_path / "run", capsys)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--epochs", "0"], "epochs: expected a whole number that is at least 1, got 0"),
        (["--eps", "-1"], "eps: expected a number that is at least 0, got -1"),
    ],
)
def test_diagnose(trained, more, message, tmp_path, capsys):
    assert message in refused(["diagnose", str(trained), "--data", DATA, *more], tmp_path / "run", capsys)


def test_serve_says_that_the_port_is_taken(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", str(tmp_path), "--port", str(port)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"port: expected a free port (--port 0 finds one), got {port}, on which another program listens" in said
    assert "Errno" not in said


def test_identify_names_by(tmp_path, capsys):
    assert main(["identify", str(tmp_path / "a.png"), "--by", "nope"]) == 2
    assert "by: expected a file that assay signatures made, but there is no nope" in capsys.readouterr().err


def test_evaluate_names_the_defence(trained, tmp_path, capsys):
    words = ["evaluate", "--model", str(trained / "model.safetensors"), "--data", DATA, "--limit", "5"]
    said = refused([*words, "--defence", "jpeg:quality=500"], tmp_path / "run", capsys)
    assert "defence jpeg:quality=500: quality: expected " in said
    with pytest.raises(ValueError, match=r"^defence bits:bits=0: bits: "):
        defend(build("tiny-cnn", channels=3, classes=2, size=16), "bits:bits=0")


def test_errors_of_the_system_keep_their_file(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, name_argument("start"):
        (tmp_path / "none").read_bytes()
    assert caught.value.filename == str(tmp_path / "none")
    with pytest.raises(ValueError, match=r"^start: wrong$"), name_argument("start"):
        raise ValueError("start: wrong")
