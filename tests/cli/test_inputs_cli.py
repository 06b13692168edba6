"""Words, models and data on the command line that cannot be right: one sentence, exit code 2, nothing written."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from assay.cli import main
from assay.models import build, save

SIZE = {"arch": "tiny-cnn", "channels": 3, "classes": 8, "size": 16}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, and with models and data that cannot be right."""
    folder = tmp_path_factory.mktemp("inputs")
    torch.manual_seed(0)
    network = build(**SIZE)
    save(network, folder / "m.safetensors", SIZE)
    torch.save(network.state_dict(), folder / "w.pt")
    torch.save({k.removeprefix("1."): v for k, v in network.state_dict().items() if k[0] == "1"}, folder / "bare.pth")
    data = (folder / "w.pt").read_bytes()
    for name, content in {
        "half.pt": data[: len(data) // 2],
        "empty.ckpt": b"",
        "page.bin": b"<html>404</html>",
        "pointer.safetensors": b"version https://git-lfs.github.com/spec/v1\n",
    }.items():
        (folder / name).write_bytes(content)
    torch.save({"model": torch.nn.Linear(2, 2)}, folder / "object.pt")
    torch.save({"epoch": 3}, folder / "nothing.pt")
    save(build(**(SIZE | {"classes": 4})), folder / "four.safetensors", SIZE | {"classes": 4})
    save(build(**(SIZE | {"channels": 1})), folder / "grey.safetensors", SIZE | {"channels": 1})
    save(build(**(SIZE | {"normalize": "cifar10"})), folder / "colour.safetensors", SIZE | {"normalize": "cifar10"})
    save(network, folder / "lies.safetensors", SIZE | {"arch": "os:system"})
    x = np.random.default_rng(0).integers(0, 256, (20, 3, 16, 16), dtype=np.uint8)
    y = np.arange(20) % 8
    sets = {
        "sound": (x, y),
        "nan": (np.where(x > 250, np.nan, x / 255), y),
        "wide": (x.astype(np.float32), y),
        "below": (x, y - 1),
        "wrapped": (x, np.full(20, 2**64 - 1, np.uint64)),
        "float": (x, y / 2),
        "none": (x[:0], y[:0]),
        "five": (np.zeros((20, 5, 16, 16), np.uint8), y),
    }
    for name, (images, labels) in sets.items():
        np.savez(folder / f"{name}.npz", x=images, y=labels)
    for label in "ab":
        for i in range(4):
            buffer = io.BytesIO()
            Image.new("L", (16, 16), 20 * i).save(buffer, "PNG")
            (folder / "photos" / label).mkdir(parents=True, exist_ok=True)
            (folder / "photos" / label / f"{i}.png").write_bytes(buffer.getvalue())
    (folder / "masks").mkdir()
    (folder / "hand_made.py").write_text(
        "from torch import nn\n"
        "def nothing():\n    return None\n"
        "def raises():\n    raise RuntimeError('no GPU')\n"
        "def needs(width):\n    return nn.Flatten()\n"
        "def flat():\n    return nn.Flatten()\n"
        "def drawn():\n    return nn.Sequential(nn.Flatten(), nn.Linear(768, 8))\n"
        "def summed():\n    return nn.Sequential(nn.Flatten(), nn.Linear(768, 1))\n"
        "def double():\n    import torch\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(768, 8)).double()\n"
    )
    (folder / "wrong_syntax.py").write_text("def f(:\n")
    return folder


def refused(words, out, capsys, *parts, code=2):
    """Run a command that cannot work.

    It must end with the exit code, print nothing but one sentence that begins with "assay: " and holds the parts, and
    leave nothing where the result would have gone.
    """
    assert main([str(word) for word in words]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("assay: ")
    assert "Traceback" not in lines[0]
    assert len(lines[0]) < 700
    for part in parts:
        assert part in lines[0], lines[0]
    assert not out.exists()


DATA = "scenes:size=16,count=16"
WORDS = {
    "seed": {
        "-1": "seed: expected",
        "1.5": "--seed",
        "ten": "--seed",
        "99999999999999999999": "at most 19 digits",
        "9223372036854775808": "at most 9223372036854775807",
        "": "--seed",
    },
    "workers": {"-1": "workers: expected", "two": "--workers", "0.5": "--workers"},
    "limit": {
        "0": "limit: expected",
        "010": "--limit: expected",
        "2.7": "--limit: expected",
        "0x10": "--limit",
        "٣": "--limit",
        "-3": "limit: expected",
        "all": "--limit",
        "1e2": "--limit",
    },
    "slots": {"0": "slots: expected", "-1": "slots: expected", "many": "--slots"},
    "max-forwards": {"0": "max-forwards: expected", "-5": "max-forwards: expected", "x": "--max-forwards"},
    "eps": {
        "8": "8/255",
        "2": "2/255",
        "-1/255": "eps",
        "8/0": "eps: expected",
        "8/255/2": "eps: expected",
        "nan": "eps: expected",
        "inf": "eps: expected",
        "1e309": "eps",
        "eight": "eps: expected",
        "": "eps: expected",
        "8,255": "eps: expected",
        "0x8": "eps: expected",
    },
    "norm": {"linf ": "norm", "Linf": "norm: expected one of", "l3": "norm: expected one of", "2": "norm", "": "norm"},
    "suite": {"standart": "did you mean 'standard'?", "": "suite: expected", "all": "suite: expected"},
    "attack": {
        "pdg": "did you mean 'pgd'?",
        "": "attack",
        "pgd:": "",
        "pgd:steps": "pgd",
        "pgd:steps=": "pgd",
        "pgd:steps=-1": "steps",
        "pgd:steps=1.5": "steps",
        "pgd:steps=many": "steps",
        "pgd:steps=5,steps=6": "steps",
        "pgd:eps=1e309": "eps",
        "pgd:restarts=0": "restarts",
        "pgd:nothing=3": "pgd",
        "pgd;steps=3": "attack",
        "pgd steps=3": "attack",
        "pgd:eps=8": "8/255",
    },
    "curve": {"2/255;4/255": "curve: expected", "2/255,8": "8/255", "a": "curve: expected", "-1/255": "curve"},
    "curve-background": {"x": "curve-background: expected"},
    "foreground": {
        "nope": "foreground: expected auto",
        "": "foreground: expected auto",
        "Data": "did you mean 'data'?",
        "folder:": "folder: expected a folder",
        "folder:/no/such": "folder: expected a folder",
        "sky": "foreground: expected auto",
    },
    "defence": {
        "jpg": "did you mean",
        "jpeg:quality=200": "quality",
        "jpeg:quality=high": "quality",
        "bits:bits=99": "from 1 to 16",
        "": "defence",
        "jpeg:quality": "quality",
        "smoothing:sigma=-1": "sigma",
        "jpeg:quality=50,quality=60": "quality",
    },
    "checks": {"some": "checks: expected one of", "": "checks: expected one of", "Full": "did you mean 'full'?"},
    "require": {"good": "require: expected one of", "Strong": "did you mean 'strong'?"},
    "search": {"int8": "search: expected one of", "float64": "search: expected one of"},
    "stop": {"soon": "stop: expected one of", "": "stop: expected one of"},
    "device": {
        "gpu": "device: expected",
        "cuda:99": "device: expected",
        "": "device: expected",
        "tpu": "device: expected",
    },
    "data": {
        "": "data: expected one of the sources",
        "scene": "did you mean 'scenes'?",
        "scenes:size=100000": "the memory that is free",
        "scenes:count=100000000000": "the memory that is free",
        "scenes:count=99999999999999999999": "18 digits",
        "scenes:classes=1000000000": "at most 8",
        "scenes:size=16,size=16": "once",
        "scenes:size=016": "a whole number",
        "scenes:size=16,": "key=value",
        "folder:" + 1000 * "a": "too long",
        "npz:\0": "npz path: expected a file",
        "npz:no.npz": "npz path: expected a file",
        "npz:{place}/nan.npz": "NaN or infinite",
        "npz:{place}/wide.npz": "divided by 255",
        "npz:{place}/below.npz": "labels from 0 to",
        "npz:{place}/wrapped.npz": "64 bits",
        "npz:{place}/float.npz": "y.astype(int)",
        "npz:{place}/none.npz": "enough images",
        "npz:{place}/five.npz": "?layout=",
        "npz:{place}/five.npz?layout=nchw": "images of shape (5, 16, 16)",
        "folder:{place}/photos?size=99999": "max_gib",
        "folder:{place}/photos?size=99999&max_gib=100000": "the memory that is free",
        "folder:{place}/photos": "images of shape (1, 16, 16)",
        "folder:{place}/nothing": "a folder",
        "folder:{place}": "",
        "digits:size=3": "an option of 'digits'",
        "npz:{place}/sound.npz?classes=a,a": "different names",
        "parquet:{place}/no.parquet": "a file",
    },
    "model": {
        "": "model: expected",
        "resnet18": "assay train",
        "m.onnx": "model: expected",
        "no.pt": "there is none at",
        "no.pth.tar": "there is none at",
        "{place}/half.pt": "damaged",
        "{place}/empty.ckpt": "an empty file",
        "{place}/page.bin": "a web page",
        "{place}/pointer.safetensors": "git lfs pull",
        "{place}/object.pt": "torch.nn.modules.linear.Linear",
        "{place}/nothing.pt": "a mapping of names to tensors",
        "{place}/w.pt": "--arch",
        "{place}": "model: expected",
        "{place}/lies.safetensors": "got 'os:system'",
        "{place}/four.safetensors": "four with 4 logits",
        "{place}/grey.safetensors": "takes 1 channels",
        "os:system": "Python's standard library",
        "subprocess:Popen": "standard library",
        "shutil:rmtree": "standard library",
        "antigravity:geohash": "standard library",
        "torch:rand": "built-in",
        "hand_made:nothing": "got NoneType",
        "hand_made:raises": "no GPU",
        "hand_made:needs": "which needs width",
        "hand_made:drawn": "gives the same weights each time",
        "hand_made.py:flat": "without .py",
        "runs/nothing": "no file or folder",
        "hand_made:missing": "which is not there",
        "wrong_syntax:f": "SyntaxError",
        "no_such_module:f": "ModuleNotFound",
        "hand_made:summed": "BinaryLogit",
        "hand_made:double": "model.float()), got hand_made:double of torch.float64",
        "hand_made:": "model: expected",
        "timm:": "model: expected",
        "hf:": "model: expected",
        "https://example.org/m.pt": "there is none at",
        "a=": "model: expected",
        "=m.safetensors": "NAME=SPEC",
        "a:b=m.safetensors": "there is none at",
        1000 * "a" + ".pt": "too long",
    },
    "out": {
        "{place}/m.safetensors": "out: expected a folder",
        "": "--out: expected a path",
        "{place}": "out: expected a new",
    },
}
CASES = [(flag, value) for flag, values in WORDS.items() for value in values]


@pytest.mark.parametrize(("flag", "value"), CASES, ids=[f"{flag}-{value}"[:60] or "-" for flag, value in CASES])
def test_words_of_evaluate(place, tmp_path, monkeypatch, capsys, flag, value):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", list(sys.path))
    out = tmp_path / "run"
    given = {"model": str(place / "m.safetensors"), "data": DATA, "out": str(out), "checks": "none"}
    given[flag] = value.replace("{place}", str(place))
    before = sorted(path.name for path in place.rglob("*"))
    words = ["evaluate", "--quiet", *(f"--{name}={text}" for name, text in given.items())]
    refused(words, out, capsys, WORDS[flag][value])
    left = [name for name in sorted(path.name for path in place.rglob("*")) if not name.endswith(".pyc")]
    assert [name for name in left if name != "__pycache__"] == [
        name for name in before if name != "__pycache__" and not name.endswith(".pyc")
    ]


COMMANDS = {
    "unknown command": (["evalute"], "evaluate"),
    "unknown flag": (["evaluate", "--modle", "x"], "--model"),
    "no model": (["evaluate", "--data", DATA], "--model"),
    "an empty path": (["status", ""], "path: expected a path"),
    "a negative fraction": (
        ["evaluate", "--model", "x.pt", "--data", DATA, "--eps", "-1/255", "-o", "r"],
        "eps: expected",
    ),
    "no data": (["evaluate", "--model", "x.pt"], "--data"),
    "a flag without value": (["evaluate", "--model", "x.pt", "--data", DATA, "--eps"], "--eps"),
    "a stray word": (["evaluate", "x.pt", "--model", "x.pt", "--data", DATA], "x.pt"),
    "unknown kind": (["ls", "atacks"], "did you mean 'attacks'?"),
    "two kinds": (["ls", "attacks", "data"], "data"),
    "a number for a switch": (["ls", "--json=3"], "--json"),
    "doctor and a word": (["doctor", "please"], "please"),
    "demo with a seed of words": (["demo", "--seed", "one"], "--seed"),
}


@pytest.mark.parametrize("case", COMMANDS, ids=lambda case: case.replace(" ", "-"))
def test_commands(tmp_path, monkeypatch, capsys, case):
    monkeypatch.chdir(tmp_path)
    words, part = COMMANDS[case]
    refused(words, tmp_path / "runs", capsys, part)
    assert list(tmp_path.iterdir()) == []


ARCHS = {
    "os:system": "Python's standard library",
    "hand_made:nothing": "got NoneType",
    "hand_made:needs": "which needs width",
    "hand_made:flat": "weights of hand_made:flat in bare.pth",
    "tiny-cnn": "normalize=NAME",
    "tiny-cnn:normalize=imagnet": "did you mean 'imagenet'?",
    "tiny-cnn:width=8": "arch: expected",
    "resnet18:normalize=half": "weights of resnet18 in bare.pth",
    "wrn-28-1": "did you mean 'wrn-28-10'?",
    "tiny-cnn+noise:normalize=half": "weights of tiny-cnn+noise in bare.pth",
    "": "--arch",
}


@pytest.mark.parametrize("arch", ARCHS)
def test_architectures_of_weights(place, tmp_path, monkeypatch, capsys, arch):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = ["evaluate", "--quiet", "--model", "bare.pth", f"--arch={arch}", "--data", DATA, "-o", tmp_path / "run"]
    refused(words, tmp_path / "run", capsys, ARCHS[arch])


def test_weights_of_another_program_are_evaluated(place, tmp_path, monkeypatch, capsys):
    """The same network by its own file, and by bare weights with an architecture."""
    printed = []
    for name, model in {"own": ["m.safetensors"], "bare": ["bare.pth", "--arch", "tiny-cnn:normalize=half"]}.items():
        monkeypatch.chdir(place)
        words = [
            "evaluate",
            "--quiet",
            "--data",
            DATA,
            "--attack",
            "fgsm",
            "--checks",
            "none",
            "-o",
            str(tmp_path / name),
            "--model",
            "m=" + model[0],
            *model[1:],
        ]
        assert main(words) == 0
        printed.append([line for line in capsys.readouterr().out.splitlines() if "FGSM" in line])
    assert printed[0] == printed[1] != []


def test_images_of_one_class_are_noted(place, tmp_path, capsys):
    np.savez(place / "alike.npz", x=np.zeros((10, 3, 16, 16), np.uint8), y=np.zeros(10, int))
    words = [
        "evaluate",
        "--quiet",
        "--model",
        str(place / "m.safetensors"),
        "--data",
        f"npz:{place / 'alike.npz'}",
        "--attack",
        "fgsm",
        "--checks",
        "none",
        "-o",
        str(tmp_path / "run"),
    ]
    assert main(words) == 0
    assert "data: all images are of one class, '0'" in capsys.readouterr().err.splitlines()


def test_a_network_that_repeats_a_grey_channel_is_attacked_and_noted(place, tmp_path, monkeypatch, capsys):
    (place / "repeats.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Grey(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        torch.manual_seed(0)\n"
        "        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 10))\n"
        "    def forward(self, x):\n        return self.net(x.expand(-1, 3, -1, -1))\n"
    )
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = [
        "evaluate",
        "--quiet",
        "--model",
        "repeats:Grey",
        "--data",
        "digits",
        "--limit",
        "8",
        "--attack",
        "fgsm",
        "--checks",
        "none",
        "-o",
        str(tmp_path / "run"),
    ]
    assert main(words) == 0
    assert "repeats:Grey: takes images of 3 channels and gets images of shape (1, 8, 8)" in capsys.readouterr().err


@pytest.mark.parametrize("defence", ["jpeg:quality=60", "bits:bits=3", "smoothing:sigma=0.1", "resize-pad"])
def test_a_defended_model_is_tried_too(place, tmp_path, capsys, defence):
    words = [
        "evaluate",
        "--quiet",
        "--model",
        place / "grey.safetensors",
        "--data",
        DATA,
        "--defence",
        defence,
        "-o",
        tmp_path / "run",
    ]
    refused(words, tmp_path / "run", capsys, "images of shape (3, 16, 16)", "takes 1 channels")


def test_a_grey_set_on_a_model_for_colours_is_told_with_both_shapes(place, tmp_path, capsys):
    for model in ("m", "colour"):
        words = [
            "evaluate",
            "--quiet",
            "--model",
            place / f"{model}.safetensors",
            "--data",
            "digits",
            "--limit",
            "8",
            "-o",
            tmp_path / "run",
        ]
        refused(words, tmp_path / "run", capsys, "images of shape (1, 8, 8)", "takes 3 channels")


DEMOS = {
    "seed below 0": (["--seed=-1"], "seed: expected"),
    "a long seed": (["--seed", str(10**20)], "at most 19 digits"),
    "a seed above 2^63": (["--seed", str(2**63)], "whole number"),
    "a file": (["-o", "{place}/m.safetensors"], "out: expected a folder"),
    "no name": (["-o", ""], "-o: expected a path"),
    "inside a file": (["-o", "{place}/m.safetensors/demo"], "m.safetensors"),
}


@pytest.mark.parametrize("case", DEMOS, ids=lambda case: case.replace(" ", "-"))
def test_words_of_the_demo(place, tmp_path, monkeypatch, capsys, case):
    monkeypatch.chdir(tmp_path)
    words, part = DEMOS[case]
    words = [word.replace("{place}", str(place)) for word in words]
    refused(["demo", "--small", "--quiet", *words], tmp_path / "runs", capsys, part)


def test_the_demo_without_accelerate_is_told_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    refused(["demo", "--small", "-o", tmp_path / "run"], tmp_path / "run", capsys, "pip install 'assay[train]'")


@pytest.mark.parametrize("name", ["pyarrow", "sklearn"])
def test_a_missing_extra_is_told_with_the_line_that_installs_it(place, tmp_path, monkeypatch, capsys, name):
    for module in [name, *(module for module in sys.modules if module.startswith(f"{name}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    data, extra = {"pyarrow": (f"parquet:{place}/m.safetensors?holdout=0", "parquet"), "sklearn": ("digits", "digits")}[
        name
    ]
    words = ["evaluate", "--model", place / "m.safetensors", "--data", data, "-o", tmp_path / "run"]
    refused(words, tmp_path / "run", capsys, f'pip install "assay[{extra}]"')


@pytest.mark.parametrize("spec", ["timm:resnet18", "torchvision:resnet18", "hf:org/name"])
def test_a_missing_library_of_a_hub_is_told_before_anything_is_written(tmp_path, monkeypatch, capsys, spec):
    for name in ("timm", "torchvision", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    words = ["evaluate", "--model", spec, "--data", DATA, "-o", tmp_path / "run"]
    refused(words, tmp_path / "run", capsys, 'pip install "assay[')


def test_several_sets_of_weights_are_a_line(place, tmp_path, monkeypatch, capsys):
    import warnings

    weights = torch.load(place / "bare.pth", weights_only=True)
    torch.save({"state_dict": weights, "ema": weights}, tmp_path / "two.pt")
    words = [
        "evaluate",
        "--quiet",
        "--model",
        str(tmp_path / "two.pt"),
        "--arch",
        "tiny-cnn:normalize=half",
        "--data",
        DATA,
        "--attack",
        "fgsm",
        "--checks",
        "none",
        "-o",
        str(tmp_path / "run"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(words) == 0
    told = "warning: two.pt holds several sets of weights (state_dict, ema); 'state_dict' is taken"
    assert capsys.readouterr().err.splitlines().count(told) == 1


@pytest.mark.parametrize("words", [["ls"], ["ls", "attacks", "--json"], ["ls", "--markdown"], ["--help"], ["doctor"]])
def test_a_reader_that_leaves_early_is_no_error(words):
    """As ``assay ls | head``, which closes the pipe before everything is written."""
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen([sys.executable, "-m", "assay", *words], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    _, errors = process.communicate(timeout=120)
    assert errors == ""
    assert process.returncode in (0, 141)
