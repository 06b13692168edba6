"""Files of weights as other programs write them, and networks of one's own."""

import argparse
import sys
import zipfile

import pytest
import torch
from torch import nn

from assay.models import ARCHITECTURES, build, load, save, start_weights, weights_digest
from assay.models.fitting import align_names
from assay.models.load import is_factory
from assay.models.weights import read_weights, select_weights

RECIPE = {"arch": "tiny-cnn", "channels": 3, "classes": 5, "size": 16}
FOREIGN = RECIPE | {"arch": "tiny-cnn:normalize=cifar10"}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build(**RECIPE, normalize="cifar10").eval()


def bare(model):
    """The weights of the network alone, without the layer that normalises."""
    return {name.removeprefix("1."): t for name, t in model.state_dict().items() if not name.startswith("0.")}


PREFIXES = [
    "",
    "module.",
    "_orig_mod.",
    "model.",
    "network.",
    "net.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "model.module.",
    "module.model.",
    "model._orig_mod.network.",
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("whole", [True, False], ids=["with-normalisation", "network-alone"])
def test_prefixes(network, tmp_path, prefix, whole):
    weights = network.state_dict() if whole else bare(network)
    torch.save({prefix + name: t for name, t in weights.items()}, tmp_path / "m.pt")
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(load(str(tmp_path / "m.pt"), recipe=RECIPE if whole else FOREIGN)(x), network(x))


def test_a_prefix_that_only_some_names_have(network, tmp_path):
    """As Lightning writes it: the loss has a buffer of its own, which fits nowhere and is named."""
    weights = {f"model.{name}": t for name, t in bare(network).items()} | {"loss.weight": torch.ones(5)}
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "m.ckpt")
    with pytest.raises(
        ValueError, match=r"model: expected weights of tiny-cnn in m\.ckpt .*an unexpected 1.loss.weight"
    ):
        load(str(tmp_path / "m.ckpt"), recipe=FOREIGN)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pth.tar", ".ckpt", ".bin", ".PTH"])
@pytest.mark.parametrize("zipped", [True, False])
def test_endings_and_formats(network, tmp_path, suffix, zipped):
    file = tmp_path / f"m{suffix}"
    torch.save(network.state_dict(), file, _use_new_zipfile_serialization=zipped)
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(load(str(file), recipe=RECIPE)(x), network(x))
    save(network, file, RECIPE)
    assert torch.equal(load(str(file))(x), network(x))


@pytest.mark.parametrize(
    "entry",
    [
        "state_dict",
        "model_state_dict",
        "model",
        "net",
        "network",
        "ema",
        "model_ema",
        "ema_state_dict",
        "weights",
        "params",
    ],
)
def test_entries_of_a_checkpoint(network, tmp_path, entry):
    torch.save(
        {"epoch": 3, "best": 0.5, entry: bare(network), "optimizer": {"state": {}, "param_groups": []}},
        tmp_path / "m.pt",
    )
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(load(str(tmp_path / "m.pt"), recipe=FOREIGN)(x), network(x))


def test_of_several_sets_of_weights_one_is_taken_and_said(network, tmp_path):
    other = {name: torch.zeros_like(t) for name, t in bare(network).items()}
    torch.save({"ema": other, "model": bare(network)}, tmp_path / "m.pt")
    x = torch.rand(2, 3, 16, 16)
    with pytest.warns(UserWarning, match=r"m.pt holds several sets of weights \(model, ema\); 'model' is taken"):
        model = load(str(tmp_path / "m.pt"), recipe=FOREIGN)
    assert torch.equal(model(x), network(x))
    alone = select_weights({"epoch": 3, "student": other}, "m.pt")
    assert alone[1:] == ("student", ())
    with pytest.raises(ValueError, match="got a file with 'student', 'teacher'"):
        select_weights({"student": other, "teacher": other}, "m.pt")
    nested = select_weights({"ema": {"state_dict": other, "decay": 0.99}, "state_dict": 3}, "m.pt")
    assert nested[1:] == ("ema", ())


def test_weights_without_a_normalisation_need_one_to_be_named(network, tmp_path):
    torch.save(bare(network), tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"arch: expected tiny-cnn:normalize=NAME with one of imagenet, cifar10"):
        load(str(tmp_path / "m.pt"), recipe=RECIPE)
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(load(str(tmp_path / "m.pt"), recipe=RECIPE | {"normalize": "none"})(x), network[1](x))
    assert torch.equal(load(str(tmp_path / "m.pt"), recipe=RECIPE | {"normalize": "cifar10"})(x), network(x))


@pytest.mark.parametrize(("arch", "blocks"), [("resnet18", (2, 2, 2, 2)), ("resnet34", (3, 4, 6, 3))])
def test_names_of_torchvision(tmp_path, arch, blocks):
    """A ResNet as torchvision names its parameters, classes and all."""
    made = build(arch, channels=3, classes=7, size=64, normalize="imagenet").eval()
    names = {f"layer{i + 1}.{j}.conv{k}.weight" for i, n in enumerate(blocks) for j in range(n) for k in (1, 2)}
    weights = bare(made)
    assert names | {"conv1.weight", "bn1.running_var", "layer2.0.downsample.1.bias", "fc.bias"} <= set(weights)
    torch.save({f"module.{name}": t for name, t in weights.items()}, tmp_path / "m.pth")
    again = load(
        str(tmp_path / "m.pth"), recipe={"arch": f"{arch}:normalize=imagenet", "channels": 3, "classes": 7, "size": 64}
    )
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(x), made(x))
    start = align_names({f"module.{name}": t for name, t in weights.items()}, made.state_dict())
    assert {name for name in made.state_dict() if name in start} == {f"1.{name}" for name in weights}


def test_a_start_of_a_training_takes_weights_of_other_programs(tmp_path):
    """A network for 7 classes and large images as a start for one of 3 classes and small images."""
    big = build("resnet18", channels=3, classes=7, size=64)
    small = build("resnet18", channels=3, classes=3, size=32)
    torch.save({"epoch": 9, "state_dict": {f"module.{n}": t for n, t in bare(big).items()}}, tmp_path / "m.pth.tar")
    start = start_weights(str(tmp_path / "m.pth.tar"), small)
    own = small.state_dict()
    other = {name for name in own if name not in start or start[name].shape != own[name].shape}
    assert other == {"0.mean", "0.std", "1.conv1.weight", "1.fc.weight", "1.fc.bias"}
    assert torch.equal(start["1.layer3.0.conv2.weight"], big.state_dict()["1.layer3.0.conv2.weight"])
    assert weights_digest(start) == weights_digest(dict(reversed(start.items())))
    changed = start | {"1.bn1.weight": start["1.bn1.weight"] + 1e-6}
    assert weights_digest(start) != weights_digest(changed)
    save(big, tmp_path / "ours.safetensors", RECIPE)
    assert set(start_weights(str(tmp_path / "ours.safetensors"), small)) == set(own)


def test_the_message_names_what_does_not_fit(network, tmp_path):
    weights = bare(network)
    torch.save({n: t for n, t in weights.items() if n != "0.weight"}, tmp_path / "m.pt")
    with pytest.raises(
        ValueError, match=r"weights of tiny-cnn in m.pt \(3 channels, 5 classes; else.*got no 1.0.weight$"
    ):
        load(str(tmp_path / "m.pt"), recipe=FOREIGN)
    torch.save(weights | {"9.weight": torch.ones(1), "9.bias": torch.ones(1)}, tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"got an unexpected 1.9.weight \(and 1 more\)$"):
        load(str(tmp_path / "m.pt"), recipe=FOREIGN)
    torch.save(weights, tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"1.11.weight of shape \(5, 1024\) instead of \(9, 1024\) \(and 1 more\)$"):
        load(str(tmp_path / "m.pt"), recipe=FOREIGN | {"classes": 9})


def damaged(data, kind):
    middle = len(data) // 2
    return {
        "half": data[:middle],
        "start": data[:100],
        "nothing": b"",
        "a page": b"<!doctype html><title>404</title>",
        "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "words": b"weights",
        "zeros": bytes(2000),
        "flipped": data[:middle] + bytes(byte ^ 255 for byte in data[middle : middle + 60]) + data[middle + 60 :],
    }[kind]


DAMAGE = ("half", "start", "nothing", "a page", "a pointer", "words", "zeros")
DAMAGED = [*((kind, form) for kind in DAMAGE for form in ("zip", "pickle", "safetensors")), ("flipped", "zip")]
"""Of these only zip files have checksums; of flipped bytes in the others a run's own digests tell."""


@pytest.mark.parametrize(("kind", "form"), DAMAGED)
@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".safetensors"])
def test_damaged_files_are_one_sentence(network, tmp_path, kind, form, suffix):
    source, file = tmp_path / "source", tmp_path / f"m{suffix}"
    if form == "safetensors":
        save(network, source, RECIPE)
    else:
        torch.save(network.state_dict(), source, _use_new_zipfile_serialization=form == "zip")
    file.write_bytes(damaged(source.read_bytes(), kind))
    words = {"nothing": "an empty file", "a page": "a web page", "a pointer": "a Git LFS pointer"}
    expected = words.get(kind, "one that is damaged or not a (PyTorch|safetensors) file")
    with pytest.raises(
        ValueError, match=rf"^model: expected a (PyTorch|safetensors) file [^\n]*, got {expected}[^\n]*$"
    ):
        load(str(file), recipe=RECIPE)


def test_archives_without_checksums_are_read(network, tmp_path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(network.state_dict(), tmp_path / "m.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(load(str(tmp_path / "m.pt"), recipe=RECIPE)(x), network(x))


KINDS = {
    "NaN": (lambda t: torch.full_like(t, float("nan")), "5 of 5 NaN"),
    "complex": (lambda t: t.to(torch.complex64), "complex numbers"),
    "quantised": (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "a quantised tensor"),
    "sparse": (lambda t: t.to_sparse(), "a sparse tensor"),
    "without data": (lambda t: t.to("meta"), "a tensor without data"),
    "whole numbers": (lambda t: t.int(), "int32"),
    "truth": (lambda t: t > 0, "bool"),
}


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor.*")
@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.replace(" ", "-"))
def test_weights_of_another_kind_are_one_sentence(network, tmp_path, case):
    change, words = KINDS[case]
    weights = network.state_dict()
    torch.save(weights | {"1.11.bias": change(weights["1.11.bias"])}, tmp_path / "m.pt")
    with pytest.raises(
        ValueError, match=rf"^model: expected dense floating-point weights.*m\.pt, got 1.11.bias: {words}"
    ):
        load(str(tmp_path / "m.pt"), recipe=RECIPE)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_read(network, tmp_path, kind):
    torch.save(
        {n: t.to(kind) if t.is_floating_point() else t for n, t in network.state_dict().items()}, tmp_path / "m.pt"
    )
    model, x = load(str(tmp_path / "m.pt"), recipe=RECIPE), torch.rand(2, 3, 16, 16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    torch.testing.assert_close(model(x), network(x), rtol=0.1, atol=0.05)


@pytest.mark.parametrize(
    "metadata",
    [
        "[1, 2]",
        "3",
        '"tiny-cnn"',
        "{not json",
        '{"arch": null, "channels": 3, "classes": 5, "size": 16}',
        '{"arch": 3, "channels": 3, "classes": 5, "size": 16}',
        '{"arch": "tiny-cnn", "channels": "3", "classes": 5, "size": 16}',
        '{"arch": "tiny-cnn", "channels": 3, "classes": 1000000000, "size": 16}',
        '{"arch": "tiny-cnn", "channels": 3, "classes": 5, "size": 16, "normalize": [1]}',
        '{"arch": "tiny-cnn", "channels": 3, "classes": 5, "size": 16, "code": "x"}',
        '{"arch": "tiny-cnn"}',
        '{"arch": "tiny-cnn:normalize=half", "channels": 3, "classes": 5, "size": 16}',
    ],
)
def test_metadata_that_cannot_be_right_are_one_sentence(network, tmp_path, metadata):
    from safetensors.torch import save_file

    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, tmp_path / "m.safetensors", metadata={"assay": metadata})
    with pytest.raises(
        (ValueError, TypeError), match=r"^(model|arch|channels|normalize): expected [^\n]*, got [^\n]*$"
    ):
        load(str(tmp_path / "m.safetensors"))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (argparse.Namespace(lr=1), "argparse.Namespace"),
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (print, "print"),
        (ValueError("x"), "ValueError"),
    ],
)
def test_files_with_objects_name_them_in_full(network, tmp_path, value, name):
    torch.save({"state_dict": bare(network), "args": value}, tmp_path / "m.pt")
    with pytest.raises(
        ValueError, match=rf"pickled objects are never loaded.*got one that also holds objects of .*{name}"
    ):
        load(str(tmp_path / "m.pt"), recipe=FOREIGN)


SAME_CODE = ("wrn-28-10", "wrn-34-10", "wrn-40-2")  # as wrn-16-4


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("arch", [*(arch for arch in ARCHITECTURES if arch not in SAME_CODE), "tiny-cnn+noise"])
def test_our_networks_are_scripted(arch, tmp_path):
    model = build(arch, channels=3, classes=5, size=32).eval()
    scripted, x = torch.jit.script(model), torch.rand(2, 3, 32, 32)
    if "noise" not in arch:
        torch.testing.assert_close(scripted(x), model(x))
    with pytest.raises(torch.jit.Error, match="x: expected images of 3 channels"):
        torch.jit.script(build(arch, channels=3, classes=5, size=32, normalize="cifar10"))(x[:, :1])
    scripted.save(tmp_path / "m.pt")
    with pytest.raises(ValueError, match="got a TorchScript program, which is code"):
        load(str(tmp_path / "m.pt"), recipe=RECIPE)


def test_wide_residual_networks_have_the_size_of_the_paper():
    def count(model):
        return sum(parameter.numel() for parameter in model.parameters())

    with torch.device("meta"):  # sizes only
        published = {"wrn-16-4": 2_748_890, "wrn-28-10": 36_479_194, "wrn-34-10": 46_160_474, "wrn-40-2": 2_243_546}
        for arch, size in published.items():
            assert count(ARCHITECTURES[arch](3, 10, 32)) == size
    small = ARCHITECTURES["wrn-16-4"](3, 10, 32, width=1).eval()
    assert small(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    names = set(small.state_dict())
    assert {"conv1.weight", "block2.layer.0.convShortcut.weight", "block3.layer.1.bn2.bias", "fc.bias"} <= names
    assert "block1.layer.0.convShortcut.weight" not in names  # 16 features come in and go out
    x = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(small(x)[1:2], small(x[1:2]))


OWN = """
import torch
from torch import nn

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 2)
    def forward(self, x):
        return self.fc(x.flatten(1))

class Sized(Plain):
    def __init__(self, *, channels, classes, size):
        super().__init__()
        self.fc = nn.Linear(channels * size * size, classes)

def made(classes, width=3):
    return Sized(channels=3, classes=classes, size=2)

def every(**sizes):
    return Sized(**sizes)

class Usual(Sized):
    def __init__(self, img_size, in_chans=1, num_classes=1000):
        super().__init__(channels=in_chans, classes=num_classes, size=img_size)

def needs(width, *, depth):
    return Plain()

def text() -> str:
    raise SystemExit("called")

def nothing():
    return None

def broken():
    raise RuntimeError("no GPU here")

class Other:
    pass

instance = Plain().eval()
number = 3
"""


@pytest.fixture
def own(monkeypatch, tmp_path):
    """A module of one's own in the current folder."""
    (tmp_path / "own_networks.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("own_networks", None)


@pytest.mark.parametrize(("name", "classes"), [("Plain", 2), ("Sized", 4), ("made", 4), ("every", 4), ("Usual", 4)])
def test_weights_for_a_network_of_ones_own(own, name, classes):
    recipe = {"arch": f"own_networks:{name}", "channels": 3, "classes": classes, "size": 2}
    torch.manual_seed(1)
    weights = {"fc.weight": torch.rand(classes, 12), "fc.bias": torch.rand(classes)}
    torch.save({"state_dict": {f"module.{k}": v for k, v in weights.items()}}, own / "w.pt")
    x = torch.rand(3, 3, 2, 2)
    model = load("w.pt", recipe=recipe)
    torch.testing.assert_close(model(x), x.flatten(1) @ weights["fc.weight"].T + weights["fc.bias"])
    assert not model.training
    half = load("w.pt", recipe=recipe | {"arch": recipe["arch"] + ":normalize=half"})
    torch.testing.assert_close(half(x), model(2 * x - 1))
    assert is_factory("w.pt", recipe)
    assert not is_factory("w.pt", RECIPE)
    assert not is_factory("w.pt", FOREIGN)


def test_a_module_that_stands_under_the_name_is_taken(own):
    assert load("own_networks:instance")(torch.rand(1, 3, 2, 2)).shape == (1, 2)


def test_metadata_of_a_file_never_name_code(own):
    save(nn.Linear(2, 2), own / "m.safetensors", RECIPE | {"arch": "own_networks:text"})
    with pytest.raises(ValueError, match=r"arch: expected one of .*, got 'own_networks:text'"):
        load("m.safetensors")
    assert "own_networks" not in sys.modules


WRONG = {
    "os:system": "a torch.nn.Module from 'os:system', got what belongs to Python's standard library",
    "os:getcwd": "standard library",
    "subprocess:run": "standard library",
    "antigravity:fly": "a module of Python's standard library",
    "this:d": "a module of Python's standard library",
    "torch:rand": "a built-in function",
    "torch:Tensor": "the class torch.Tensor, which is none",
    "torch.nn:Linear": "needs in_features, out_features",
    "own_networks:needs": "which needs width, depth",
    "own_networks:Sized": "which needs channels, classes, size",
    "own_networks:text": "a function that returns str",
    "own_networks:nothing": "a torch.nn.Module from own_networks:nothing(), got NoneType",
    "own_networks:broken": "got RuntimeError: no GPU here",
    "own_networks:Other": "the class own_networks.Other, which is none",
    "own_networks:number": "a value of type int",
    "own_networks:plain": "(did you mean 'Plain'?)",
    "own_networks:": "a .safetensors or .pt file",
    "own_networks:a.b": "which is not there",
    "own_broken:f": "SyntaxError on import",
    "own_missing:f": "ModuleNotFoundError on import",
    "own networks:f": "a .safetensors or .pt file",
    "resnet18": "assay train",
    "": "a .safetensors or .pt file",
    ":": "a .safetensors or .pt file",
    "hf:": "a .safetensors or .pt file",
    "timm:": "a .safetensors or .pt file",
    "https://example.org/m.onnx": "a .safetensors or .pt file",
    "m.onnx": "a .safetensors or .pt file",
    "m.h5": "a .safetensors or .pt file",
}


@pytest.mark.parametrize("spec", WRONG)
def test_wrong_specs_are_one_sentence_and_nothing_is_called(own, spec):
    with pytest.raises((ValueError, TypeError), match=r"^model: expected [^\n]*, got [^\n]*$") as caught:
        load(spec)
    assert WRONG[spec] in str(caught.value)


ARCHS = {
    "os:system": "Python's standard library",
    "own_networks:needs": "without arguments that have no default but channels, classes, size",
    "own_networks:Plain": "weights of own_networks:Plain in w.pt",
    "own_networks:nothing": "a torch.nn.Module from own_networks:nothing()",
    "tiny-cnn": "normalize=NAME",
    "tiny-cnn:normalize=imagnet": "(did you mean 'imagenet'?)",
    "tiny-cnn:width=3": "an importable function",
    "tiny-cn": "(did you mean 'tiny-cnn'?)",
    "tiny-cnn+nois": "nothing or +noise",
    "tiny-cnn+noise": "",
}


@pytest.mark.parametrize("arch", ARCHS)
def test_wrong_architectures_are_one_sentence(own, arch):
    torch.save({"weight": torch.ones(2, 2)}, own / "w.pt")
    with pytest.raises(
        (ValueError, TypeError), match=r"^(model|arch|normalize): expected [^\n]*, got [^\n]*$"
    ) as caught:
        load("w.pt", recipe=RECIPE | {"arch": arch})
    assert ARCHS[arch] in str(caught.value)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"classes": 1}, "classes"),
        ({"classes": 10**9}, "arch"),
        ({"channels": 0}, "channels"),
        ({"size": 2}, "size"),
        ({"classes": "ten"}, "classes"),
        ({"size": 1.5}, "size"),
        ({"arch": "gtsrb-cnn", "size": 99_999}, "arch"),
        ({"channels": 10**9}, "arch"),
        ({"normalize": "imagnet"}, "normalize"),
    ],
)
def test_networks_that_cannot_be_built_are_one_sentence(change, name):
    with pytest.raises((ValueError, TypeError), match=rf"^{name}: expected [^\n]*, got [^\n]*$"):
        build(**(RECIPE | change))


CONTENTS = {
    "a list": [torch.ones(1)],
    "a tensor": torch.ones(3),
    "a number": 3,
    "nothing": None,
    "no entries": {},
    "only numbers": {"epoch": 3, "best": 0.5},
    "an empty state": {"state_dict": {}},
    "lists under names": {"state_dict": {"a": [1, 2], "b": [3]}},
    "words": {"state_dict": "see m.pt"},
    "only an optimiser": {"optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": []}},
}


@pytest.mark.parametrize("case", CONTENTS)
def test_files_without_weights_are_one_sentence(tmp_path, case):
    torch.save(CONTENTS[case], tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"^model: expected a mapping of names to tensors in m.pt[^\n]*, got [^\n]*$"):
        read_weights(tmp_path / "m.pt")


def test_other_archives_are_one_sentence(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("notes.txt", "no weights here")
    with pytest.raises(
        ValueError, match=r"^model: expected a PyTorch file of weights at m.pt, got one that is damaged"
    ):
        read_weights(tmp_path / "m.pt")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(FileNotFoundError, match="model: expected a weights file, but there is none at"):
        read_weights(tmp_path / "folder.pt")
