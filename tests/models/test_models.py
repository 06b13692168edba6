"""Architectures, normalisation, loading."""

import pickle
import sys
import types

import pytest
import torch
from torch import nn

from assay.models import ARCHITECTURES, Normalize, build, digest, hubs, load, save

RECIPE = {"arch": "tiny-cnn", "channels": 3, "classes": 5, "size": 16, "normalize": "cifar10"}


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
def test_architectures_return_logits_row_by_row(arch, channels, size):
    model = build(arch, channels=channels, classes=7, size=size).eval()
    x = torch.rand(3, channels, size, size)
    with torch.no_grad():
        logits = model(x)
        assert logits.shape == (3, 7)
        assert torch.allclose(model(x[1:2]), logits[1:2], atol=1e-4)


def test_sizes_are_those_of_the_papers():
    def count(model):
        return sum(p.numel() for p in model.parameters())

    assert count(build("preactresnet18", channels=3, classes=10, size=32)) == 11_172_170  # with the final normalisation
    assert count(build("resnet34", channels=3, classes=1000, size=224)) == 21_797_672  # as published
    with torch.device("meta"):  # sizes only
        published = {"resnet50": 25_557_032, "resnext50": 25_028_904, "densenet121": 7_978_856}
        for arch, size in published.items():
            assert count(ARCHITECTURES[arch](3, 1000, 224)) == size
        convolutions = [m for m in ARCHITECTURES["vgg19"](3, 10, 32).modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 16  # and three linear layers in the paper, one here
    stem = build("resnet34", channels=3, classes=6, size=32)[1].conv1
    assert (stem.kernel_size, stem.stride, stem.padding) == ((3, 3), (1, 1), (1, 1))
    kinds = [type(m).__name__ for m in build("gtsrb-cnn", channels=3, classes=43, size=32)[1]]
    assert kinds.count("Conv2d") == 6
    assert kinds.count("MaxPool2d") == 3
    assert kinds.count("Linear") == 2
    assert kinds.count("Dropout") == 4
    kinds = [type(m).__name__ for m in build("strattack-cnn", channels=1, classes=10, size=28)[1]]
    assert [kinds.count(k) for k in ("Conv2d", "MaxPool2d", "Linear")] == [4, 2, 3]


def test_normalize():
    layer = Normalize((0.5, 0.4, 0.3), (0.1, 0.2, 0.5))
    x = torch.rand(2, 3, 4, 4)
    assert torch.allclose(layer(x)[:, 1], (x[:, 1] - 0.4) / 0.2)
    with pytest.raises(ValueError, match="x: expected images of 3 channels"):
        layer(torch.rand(1, 1, 4, 4))
    with pytest.raises(ValueError, match="std: expected numbers above 0"):
        Normalize(0.5, 0.0)
    with pytest.raises(ValueError, match="std: expected 3 numbers"):
        Normalize((0.5, 0.5, 0.5), 1.0)


def test_save_and_load_say_what_they_are(tmp_path):
    model = build(**RECIPE).eval()
    save(model, tmp_path / "m.safetensors", RECIPE)
    again = load(str(tmp_path / "m.safetensors"))
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(model(x), again(x))
    assert digest(model) == digest(again)
    assert not again.training
    with torch.no_grad():
        next(again.parameters()).view(-1)[0] += 1e-6
    assert digest(model) != digest(again)


def test_plain_weights_need_the_architecture(tmp_path):
    torch.save(build(**RECIPE).state_dict(), tmp_path / "m.pt")
    with pytest.raises(ValueError, match="arch: expected arch, channels, classes, size"):
        load(str(tmp_path / "m.pt"))
    assert load(str(tmp_path / "m.pt"), recipe=RECIPE)(torch.rand(1, 3, 16, 16)).shape == (1, 5)
    with pytest.raises(ValueError, match=r"model: expected weights of preactresnet18 in m\.pt"):
        load(str(tmp_path / "m.pt"), recipe=RECIPE | {"arch": "preactresnet18"})


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_pickled_objects_are_never_loaded(tmp_path):
    (tmp_path / "m.pt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="model: expected a file of plain weights"):
        load(str(tmp_path / "m.pt"), recipe=RECIPE)
    torch.save({"weights": Bomb()}, tmp_path / "n.pt")
    with pytest.raises(ValueError, match="pickled objects are never loaded"):
        load(str(tmp_path / "n.pt"), recipe=RECIPE)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing", "model: expected a .safetensors or .pt file"),
        ("no.such.module:factory", "model: expected an importable function"),
        ("json:nothing", "model: expected an importable function 'nothing'"),
        ("json:dumps", "dumps"),
        ("collections:OrderedDict", "model: expected a torch.nn.Module"),
    ],
)
def test_bad_specs(spec, message):
    with pytest.raises((ValueError, TypeError), match=message):
        load(spec)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is none at"):
        load(str(tmp_path / "none.safetensors"))
    (tmp_path / "m.safetensors").write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="model: expected a safetensors file"):
        load(str(tmp_path / "m.safetensors"))
    with pytest.raises(ValueError, match="arch: expected one of"):
        build("vgg", channels=3, classes=10, size=32)
    with pytest.raises(ValueError, match="size: expected a whole number that is at least 16"):
        build("strattack-cnn", channels=3, classes=10, size=8)


def test_a_factory_of_a_module(monkeypatch):
    module = types.ModuleType("made_up_module")
    module.factory = lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    monkeypatch.setitem(sys.modules, "made_up_module", module)
    assert load("made_up_module:factory")(torch.rand(1, 1, 2, 2)).shape == (1, 2)


def test_a_factory_in_the_current_folder(monkeypatch, tmp_path):
    (tmp_path / "mine_here.py").write_text("from torch import nn\ndef make():\n    return nn.Flatten()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert load("mine_here:make")(torch.rand(1, 1, 2, 2)).shape == (1, 4)


@pytest.mark.parametrize(
    ("name", "call"), [("timm", hubs.from_timm), ("torchvision", hubs.from_torchvision), ("transformers", hubs.from_hf)]
)
def test_a_missing_or_broken_library_is_named(monkeypatch, name, call):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"{name} (is not installed|does not import).*assay\["):
        call("resnet50")


def test_timm_contract(monkeypatch):
    """With a stand-in of timm: its own mean and deviation are put in front."""
    fake = types.ModuleType("timm")
    inner = nn.Identity()
    inner.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    fake.create_model = lambda name, pretrained: inner
    monkeypatch.setitem(sys.modules, "timm", fake)
    assert load("timm:anything")(torch.ones(1, 3, 1, 1)).flatten().tolist() == [2.0, 2.0, 2.0]
