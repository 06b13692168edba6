"""Data that users hand in and cannot be right: each is one sentence that names the thing and what to do."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from assay.data import Dataset, capacity, load, scenes
from assay.data.arrays import ROUNDING
from assay.data.spec import MissingData

X = np.random.default_rng(0).random((10, 3, 8, 8)).astype(np.float32)
BYTES = (X * 255).astype(np.uint8)
Y = np.arange(10) % 2
BIG = 2**64 - 1

SPECS = {
    "": "one of the sources 'digits'",
    ":": "one of the sources",
    "npz": "a path after the name",
    "npz:": "a path after the name",
    "npz:?x=a": "a path after the name",
    "npz:/no/such.npz": "npz path: expected a file",
    "npz:/tmp": "npz path: expected a file",
    "folder:/no/such": "folder path: expected a folder",
    "idx:/no/such": "a folder that holds idx files",
    "cifar:/no/such": "a folder with data_batch_1",
    "parquet:/no/such.parquet": "a file (or a pattern",
    "parquet:/no/such-*.parquet": "a file (or a pattern",
    "hf:a/b/c/d": "hf:org/name",
    "torchvision:CIFAR10": "torchvision:<set>:<root>",
    "scene": "did you mean 'scenes'?",
    "Scenes": "did you mean 'scenes'?",
    "images.npz": "did you mean 'npz:images.npz'?",
    "scenes:32": "options of 'scenes' as key=value",
    "scenes:size": "options of 'scenes' as key=value",
    "scenes:size=": "options of 'scenes' as key=value",
    "scenes:=32": "options of 'scenes' as key=value",
    "scenes:size=16,": "options of 'scenes' as key=value",
    "scenes:size=16,,count=8": "options of 'scenes' as key=value",
    "scenes:size=16;count=8": "a whole number",
    "scenes:size=16,size=32": "each option of 'scenes' once",
    "scenes:sise=16": "did you mean 'size'?",
    "scenes:size=8": "at least 16",
    "scenes:size=-16": "at least 16",
    "scenes:size=16.0": "a whole number",
    "scenes:size=016": "a whole number",
    "scenes:size=1e2": "a whole number",
    "scenes:size=٣٢": "a whole number",
    "scenes:size=100000": "the memory that is free",
    "scenes:size=99999999": "the memory that is free",
    "scenes:count=0": "at least 1",
    "scenes:count=100000000000": "the memory that is free",
    "scenes:count=99999999999999999999": "at most 18 digits",
    "scenes:count=" + 5000 * "9": "at most 18 digits",
    "scenes:seed=-1": "at least 0",
    "scenes:seed=99999999999999999999": "at most 18 digits",
    "scenes:classes=1": "at least 2",
    "scenes:classes=9": "at most 8 shapes",
    "scenes:classes=1000000000": "at most 8 shapes",
    "scenes:cue=1.5": "at most 1",
    "scenes:cue=nan": "option cue: expected",
    "scenes:cue=inf": "option cue: expected",
    "scenes:cue=1e309": "option cue: expected",
    "scenes:cue=half": "option cue: expected",
    "digits:size=8": "an option of 'digits'",
    "digits:holdout=2": "at most 0.95",
}


def sentence(call, *parts):
    """What a call says: a ValueError or TypeError of one line, with the parts in it."""
    with pytest.raises((ValueError, TypeError), match=r"^[^\n]+: expected [^\n]+, got [^\n]*$") as caught:
        call()
    assert type(caught.value) in (ValueError, TypeError, MissingData)
    for part in parts:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec[:40])
def test_wrong_specs(spec):
    sentence(lambda: load(spec), SPECS[spec])


@pytest.mark.parametrize("split", ["tests", "", None, 3])
def test_wrong_splits(split):
    sentence(lambda: load("scenes:count=8", split=split), "split")


@pytest.mark.parametrize(
    ("limit", "seed", "name"),
    [
        (0, 0, "limit"),
        (-1, 0, "limit"),
        (2.5, 0, "limit"),
        ("8", 0, "limit"),
        (True, 0, "limit"),
        (2, -1, "seed"),
        (2, 0.5, "seed"),
        (2, None, "seed"),
    ],
)
def test_wrong_limits_and_seeds(limit, seed, name):
    sentence(lambda: load("scenes:count=8,size=16", limit=limit, seed=seed), f"{name}: ")


ARCHIVES = {
    "labels that wrap": ({"y": np.full(10, BIG, np.uint64)}, "64 bits with a sign"),
    "negative labels": ({"y": Y - 1}, "labels from 0 to"),
    "float labels": ({"y": Y.astype(float)}, "y.astype(int)"),
    "half labels": ({"y": Y.astype(np.float16) + 0.5}, "labels as integers"),
    "labels of words": ({"y": np.array(["cat"] * 10)}, "?classes=a,b,c"),
    "one-hot labels": ({"y": np.eye(2)[Y]}, "y.argmax(1)"),
    "labels of truth": ({"y": Y > 0}, "labels as integers"),
    "label objects": ({"y": np.array([object()] * 10)}, "pickled objects are never loaded"),
    "fewer labels": ({"y": Y[:5]}, "one label for each of the 10 images"),
    "no labels": ({"y": Y[:0]}, "one label for each of the 10 images"),
    "a label for all": ({"y": np.int64(1)}, "labels as integers"),
    "a huge label": ({"y": Y * 10**9}, "fewer than 100,000 classes"),
    "NaN pixels": ({"x": np.where(X > 0.9, np.nan, X)}, "NaN or infinite"),
    "infinite pixels": ({"x": np.where(X > 0.9, np.inf, X)}, "NaN or infinite"),
    "pixels to 255": ({"x": X * 255}, "divided by 255"),
    "pixels from -1": ({"x": X * 2 - 1}, "(x + 1) / 2"),
    "normalised pixels": ({"x": (X - 0.45) / 0.22}, "outside"),
    "pixels to 1.1": ({"x": X * 1.1}, "of 1920 outside"),
    "pixels a little below": ({"x": X - 0.001}, "of 1920 outside"),
    "16-bit pixels": ({"x": BYTES.astype(np.int16)}, "pixels as uint8"),
    "signed pixels": ({"x": BYTES.astype(np.int8)}, "pixels as uint8"),
    "true pixels": ({"x": BYTES > 3}, "pixels as uint8"),
    "complex pixels": ({"x": X * 1j}, "pixels as uint8"),
    "words as pixels": ({"x": np.array(["a"] * 10)}, "pixels as uint8"),
    "one image": ({"x": BYTES[0]}, "one label for each of the 3 images"),
    "flat images": ({"x": BYTES.reshape(10, -1)}, "images of shape"),
    "videos": ({"x": BYTES[None]}, "images of shape"),
    "no pixels": ({"x": BYTES[:, :, :0]}, "images of shape"),
    "five channels": ({"x": np.zeros((10, 5, 8, 8), np.uint8)}, "?layout="),
    "three everywhere": ({"x": np.zeros((10, 3, 8, 3), np.uint8)}, "?layout="),
    "no images": ({"x": BYTES[:0], "y": Y[:0]}, "enough images"),
    "one image in all": ({"x": BYTES[:1], "y": Y[:1]}, "enough images"),
    "masks of three": ({"mask": np.full((10, 8, 8), 3)}, "only 0 and 1"),
    "masks of another size": ({"mask": np.ones((10, 4, 4), bool)}, "one mask an image"),
    "one mask for all": ({"mask": np.ones((8, 8), bool)}, "masks of shape"),
    "NaN masks": ({"mask": np.full((10, 8, 8), np.nan)}, "only 0 and 1"),
}
OPTIONS = {
    "?layout=nchw ": "one of 'auto'",
    "?layout=chw": "one of 'auto'",
    "?layout=nhw": "axes for the layout",
    "?layout=nhwc": "axes",
    "?x=pixels": "an array 'pixels'",
    "?y=x2": "an array 'x2'",
    "?mask=m": "an array 'm' for the masks",
    "?classes=a": "labels from 0 to 0",
    "?classes=a,a": "different names",
    "?classes=a,": "none of them empty",
    "?classes=,": "none of them empty",
    "?classes=a,b&classes=b,a": "each option of 'npz' once",
    "?holdout=1": "at most 0.95",
    "?holdout=-0.1": "at least 0",
    "?holdout=0.01": "enough images for a test part",
    "?holdout=1/0": "option holdout",
    "?seed=0.5": "a whole number",
    "?max_gib=1e-9": "max_gib",
    "?max_gib=-1": "option max_gib",
    "?max_gib=all": "option max_gib",
    "?size=8": "an option of 'npz'",
    "?x": "key=value",
    "?&": "key=value",
}


def archive(tmp_path, **arrays):
    np.savez(tmp_path / "set.npz", **({"x": BYTES, "y": Y} | arrays))
    return f"npz:{tmp_path / 'set.npz'}"


@pytest.mark.parametrize("case", ARCHIVES, ids=lambda case: case.replace(" ", "-"))
def test_wrong_archives(tmp_path, case):
    arrays, words = ARCHIVES[case]
    with np.errstate(all="ignore"):
        spec = archive(tmp_path, **arrays)
    sentence(lambda: load(spec), words)


@pytest.mark.parametrize("options", OPTIONS)
def test_wrong_options(tmp_path, options):
    if options == "?layout=nhwc":  # forced on what is no such thing
        np.savez(tmp_path / "set.npz", x=BYTES[:, 0], y=Y)
        sentence(lambda: load(f"npz:{tmp_path / 'set.npz'}{options}"), OPTIONS[options])
    else:
        sentence(lambda: load(archive(tmp_path) + options), OPTIONS[options])


def test_channels_last_under_the_wrong_name_are_told(tmp_path):
    spec = archive(tmp_path, x=BYTES.transpose(0, 2, 3, 1))
    assert load(spec, split="all").x.shape == (10, 3, 8, 8)
    sentence(lambda: load(spec + "?layout=nchw"), "x.permute(0, 3, 1, 2)", "(10, 8, 8, 3)")
    sentence(lambda: Dataset(torch.rand(4, 32, 32, 3), torch.zeros(4, dtype=torch.long), ("a",)), "permute", "32, 3)")
    sentence(lambda: Dataset(torch.rand(4, 28, 28, 1), torch.zeros(4, dtype=torch.long), ("a",)), "permute", "28, 1)")
    flat = Dataset(torch.rand(4, 12, 1, 1), torch.zeros(4, dtype=torch.long), ("a",))  # features, no image
    assert flat.x.shape == (4, 12, 1, 1)


@pytest.mark.parametrize("value", [1.0000001, 1 + ROUNDING / 2, -ROUNDING / 2, -1e-9])
def test_pixels_outside_by_rounding_are_clipped(tmp_path, value):
    x = X.copy()
    x[3, 1, 2, 2] = value
    data = load(archive(tmp_path, x=x), split="all")
    assert data.x[3, 1, 2, 2] == round(value)
    assert 0 <= data.images().min() <= data.images().max() <= 1
    x[3, 1, 2, 2] = X[3, 1, 2, 2]
    np.testing.assert_array_equal(
        np.delete(data.x.numpy().ravel(), 3 * 192 + 64 + 18), np.delete(x.ravel(), 3 * 192 + 64 + 18)
    )


def test_the_caller_s_pixels_stay_as_they_are():
    x = torch.full((2, 1, 8, 8), 1.000001)
    data = Dataset(x, torch.tensor([0, 1]), ("a", "b"))
    assert x.max() > 1
    assert data.x.max() == 1


def test_both_ends_and_the_number_outside_are_told():
    x = torch.rand(2, 1, 8, 8)
    x[0, 0, 0, :2] = torch.tensor([-0.25, 1.5])
    x[1, 0, 0, 0] = 1.0001
    sentence(lambda: Dataset(x, torch.tensor([0, 1]), ("a", "b")), "pixels from -0.25 to 1.5, 3 of 128 outside")


def png(size=(8, 8), mode="RGB", color=0):
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, "PNG")
    return buffer.getvalue()


COLUMNS = {
    "labels that wrap": ("uint64", [BIG] * 6, "64 bits with a sign"),
    "negative labels": ("int64", [-1, 0, 1, 0, 1, 0], "labels from 0 to"),
    "float labels": ("float64", [0.5] * 6, "plainly the label"),
    "labels of words": ("string", ["a"] * 6, "plainly the label"),
    "labels of truth": ("bool_", [True] * 6, "plainly the label"),
    "missing labels": ("int64", [None, 0, 1, 0, 1, 0], "a label in every row"),
    "a huge label": ("int64", [10**9] * 6, "fewer than 100,000 classes"),
    "dates": ("date32", [0] * 6, "plainly the label"),
}


def table(tmp_path, kind, labels, images):
    pa = pytest.importorskip("pyarrow", reason="pyarrow (the extra parquet) is not installed")
    from pyarrow import parquet

    rows = pa.table({"image": images, "label": pa.array(labels, getattr(pa, kind)())})
    parquet.write_table(rows, tmp_path / "set.parquet")
    return f"parquet:{tmp_path / 'set.parquet'}"


@pytest.mark.parametrize("case", COLUMNS, ids=lambda case: case.replace(" ", "-"))
def test_wrong_columns(tmp_path, case):
    kind, labels, words = COLUMNS[case]
    sentence(lambda: load(table(tmp_path, kind, labels, [png()] * 6)), words)


PICTURES = {
    "no image": (b"", "a sound image file"),
    "a page": (b"<html>", "a sound image file"),
    "half an image": (png((64, 64))[:60], "a sound image file"),
    "another size": (png((8, 9)), "one size for all"),
    "16 bits": (png(mode="I;16"), "8 bits a channel"),
    "transparent": (png(mode="RGBA"), "an opaque image"),
    "missing": (None, "image bytes"),
}


@pytest.mark.parametrize("case", PICTURES, ids=lambda case: case.replace(" ", "-"))
def test_wrong_pictures(tmp_path, case):
    data, words = PICTURES[case]
    sentence(lambda: load(table(tmp_path, "int64", [0, 1] * 3, [png()] * 5 + [data])), words)


@pytest.fixture
def photos(tmp_path):
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(6):
            (tmp_path / "photos" / name / f"{i}.png").write_bytes(png(color=(20 * i, 0, 0)))
    return tmp_path / "photos"


FOLDERS = {
    "?size=0": "a size in pixels",
    "?size=-8": "a size in pixels",
    "?size=8x": "a size in pixels",
    "?size=8,8": "a size in pixels",
    "?size=1000000": "a size in pixels",
    "?size=99999": "max_gib",
    "?size=99999x1&max_gib=1e-6": "max_gib",
    "?size=99999&max_gib=100000": "the memory that is free",
    "?size=8&size=9": "each option of 'folder' once",
    "?mode=grey": "one of 'auto'",
    "?empty=": "key=value",
    "?split=test": "an option of 'folder'",
}


@pytest.mark.parametrize("options", FOLDERS)
def test_wrong_folder_options(photos, options):
    sentence(lambda: load(f"folder:{photos}{options}"), FOLDERS[options])


CLASS_MAPS = {
    "latin-1": ("classes.txt", "é\nb\n".encode("latin-1"), "text in UTF-8"),
    "nothing": ("classes.txt", b"\n\n", "at least one class"),
    "twice": ("classes.txt", b"a\nb\na\n", "each folder once"),
    "a path": ("classes.txt", b"a\n../b\n", "plain folder names"),
    "a stranger": ("classes.txt", b"a\nc\n", "only folders of the class map"),
    "no JSON": ("classes.json", b"{a: 1}", "JSON"),
    "bytes as JSON": ("classes.json", b"\xff\xfe{", "text in UTF-8"),
    "deep JSON": ("classes.json", b"[" * 100_000, "JSON"),
    "a number": ("classes.json", b"3", "a list of folders"),
    "gaps": ("classes.json", json.dumps({"a": 0, "b": 2}).encode(), "a list of folders"),
    "truth": ("classes.json", json.dumps({"a": False, "b": True}).encode(), "a list of folders"),
    "mixed": ("classes.json", json.dumps({"a": 0, "b": "cat"}).encode(), "a list of folders"),
}


@pytest.mark.parametrize("case", CLASS_MAPS)
def test_wrong_class_maps(photos, case):
    name, content, words = CLASS_MAPS[case]
    (photos / name).write_bytes(content)
    sentence(lambda: load(f"folder:{photos}"), words)


def test_memory_is_asked_before_it_is_taken(photos, monkeypatch):
    """On a machine with 1 MiB left nothing is decoded, made or read that needs more."""
    monkeypatch.setattr(capacity, "available_bytes", lambda: 2.0**20)
    sentence(lambda: scenes("test", 8, size=64), "the memory that is free, 0.0 GiB", "8 of 16.0 KiB")
    sentence(lambda: load(f"folder:{photos}?size=512"), "the memory that is free")
    assert len(load(f"folder:{photos}")) == 2


def test_free_memory_is_that_of_the_machine_or_of_the_container(monkeypatch, tmp_path):
    machine = capacity.available_bytes()
    assert 2**20 < machine < 2**60
    most, used = tmp_path / "max", tmp_path / "current"
    most.write_text("3000000\n")
    used.write_text("1000000\n")
    monkeypatch.setattr(capacity, "_CGROUPS", ((str(most), str(used)),))
    assert capacity.available_bytes() == 2_000_000
    most.write_text("max\n")
    assert capacity.available_bytes() > 2**20
