"""``assay signatures`` and ``assay identify``."""

import json

import pytest
from PIL import Image

from assay.cli.main import main
from assay.data import load

DATA = "scenes:size=16,count=60"


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    out = tmp_path_factory.mktemp("signatures")
    assert main(["train", "--data", DATA, "-o", str(out / "model"), "--epochs", "2", "--quiet"]) == 0
    words = [
        str(out / "model" / "model.safetensors"),
        "--data",
        DATA,
        "--limit",
        "24",
        "--test-limit",
        "24",
        "--kinds",
        "pgd,deepfool",
        "--steps",
        "3",
        "--eps",
        "8/255,16/255",
        "--epochs",
        "2",
        "--arch",
        "tiny-cnn",
        "--width",
        "4",
        "--blocks",
        "1",
        "--columns",
        "image,A,redrl",
        "--unseen-attack",
        "fgsm",
        "--unseen-eps",
        "12/255",
        "-o",
        str(out / "learned"),
    ]
    assert main(["signatures", *words]) == 0
    return out / "learned", words


def test_one_command_makes_the_tables_and_the_identifier(learned, capsys):
    out, words = learned
    tables = json.loads((out / "tables.json").read_text())
    assert set(tables) == {
        *("recognition", "ablation", "restoration", "confusion", "confusion-image", "innocence"),
        *("held-1", "held-2"),
    }
    means = ["total", "mean of kinds", "mean of settings", "attacks that still fool"]
    assert [row["made by"] for row in tables["recognition"]["frame"]] == ["clean", "pgd", "deepfool", *means]
    assert "called unknown" in tables["held-2"]["verdict"]
    page = (out / "signatures.html").read_text()
    assert "An attack it has not seen, FGSM linf 16/255" in page
    assert "trained on such images" in page
    assert "--kinds pgd,deepfool" in page
    before = (out / "recogniser-redrl.pt").stat().st_mtime_ns
    assert main(["signatures", *words]) == 0
    assert (out / "recogniser-redrl.pt").stat().st_mtime_ns == before  # nothing is done again
    assert json.loads((out / "tables.json").read_text()) == tables
    assert "identifier:" in capsys.readouterr().out


def test_images_are_identified(learned, tmp_path, capsys):
    out, _ = learned
    image = load(DATA, split="test").x[0].permute(1, 2, 0)
    if image.dtype.is_floating_point:
        image = (image * 255).round().byte()
    Image.fromarray(image.numpy()).save(tmp_path / "a.png")
    Image.fromarray(image.numpy()).save(tmp_path / "b.jpg")
    by = ["--by", str(out / "identifier.safetensors")]
    assert main(["identify", str(tmp_path / "a.png"), str(tmp_path / "b.jpg"), *by]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 2
    assert "b.jpg: JPEG changes perturbations" in printed.err
    assert main(["identify", str(tmp_path / "a.png"), "--json", *by]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images"][0]["is"] in ("clean", "pgd", "deepfool", "unknown")
    assert len(told["learned"]["confusion"]) == 3
    Image.fromarray(image.numpy()).resize((20, 18)).save(tmp_path / "c.png")
    for words, message in (
        ([str(tmp_path / "c.png"), *by], "expected 16×16 pixels, as was learned"),
        ([str(tmp_path / "none.png"), *by], "there is none at"),
        ([str(tmp_path / "a.png"), "--by", str(tmp_path / "a.png")], "expected a safetensors file"),
    ):
        assert main(["identify", *words]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--columns", "image,D"], "columns: expected some of image, truth"),
        (["--kinds", "pgdd"], "kinds: expected some of"),
        (["--eps", "a"], "eps: expected a number or a fraction"),
        (["--sides", "2.5"], "sides: expected a whole number"),
        (["--unseen-attack", "dual"], "an attack that needs no foreground masks"),
        (["--kinds", "deepfool"], "pgd, cw-linf or patch among the kinds"),
        (["--unseen-attack", "pgd"], "an attack that is not among those to be told apart"),
    ],
)
def test_bad_input_is_a_sentence(learned, more, message, capsys):
    _, words = learned
    flag, value = more
    rest = list(words)
    if flag in rest:
        del rest[rest.index(flag) : rest.index(flag) + 2]
    assert main(["signatures", *rest, flag, value]) == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert message in printed
