"""Parquet tables, the hub (a made one) and torchvision (a made one)."""

import io
import json
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from assay.data import load

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

RNG = np.random.default_rng(3)
X = RNG.integers(0, 256, (20, 6, 5, 3), np.uint8)
Y = [k % 2 for k in range(20)]
HUB = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def table(path, x=X, y=Y, image="image", label="label", plain=False, names=True, **columns):
    encoded = [png(p) if isinstance(p, np.ndarray) else p for p in x]
    cells = encoded if plain else [{"bytes": data, "path": None} for data in encoded]
    kind = pa.binary() if plain else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    made = pa.table({image: pa.array(cells, kind), label: pa.array(y, pa.int64()), **columns})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(made.replace_schema_metadata({"huggingface": json.dumps(HUB)} if names else None), path)
    return path


@pytest.mark.parametrize("plain", [True, False])
def test_round_trip(tmp_path, plain):
    table(tmp_path / "set.parquet", plain=plain)
    data = load(f"parquet:{tmp_path}/set.parquet", split="all")
    assert torch.equal(data.x, torch.from_numpy(X.transpose(0, 3, 1, 2).copy()))
    assert data.y.tolist() == Y
    assert data.classes == ("cat", "dog")
    assert len(load(f"parquet:{tmp_path}/set.parquet", split="test")) == 4
    assert load(f"parquet:{tmp_path}/set.parquet?size=12", split="all").x.shape == (20, 3, 12, 12)


def test_splits_shards_and_columns(tmp_path):
    for k in range(2):
        table(tmp_path / f"a-train-{k}.parquet", X[8 * k : 8 * k + 8], Y[8 * k : 8 * k + 8], "png", "kind", names=False)
    table(tmp_path / "a-test-0.parquet", X[16:], Y[16:], "png", "kind", names=False)
    spec = f"parquet:{tmp_path}/a-{{split}}-*.parquet"
    assert torch.equal(load(spec, split="train").x, torch.from_numpy(X[:16].transpose(0, 3, 1, 2).copy()))
    test = load(spec + "?image=png&label=kind&classes=x,y")
    assert len(test) == 4
    assert test.classes == ("x", "y")
    assert test.name == "a/test"


def test_plain_class_names(tmp_path):
    path = table(tmp_path / "set.parquet", names=False)
    pq.write_table(pq.read_table(path).replace_schema_metadata({"class_names": "tabby, hound"}), path)
    assert load(f"parquet:{path}", split="all").classes == ("tabby", "hound")


def test_mask_column(tmp_path):
    masks = RNG.random((20, 6, 5)) > 0.5
    column = pa.array([{"bytes": png(m.astype(np.uint8) * 255)} for m in masks], pa.struct([("bytes", pa.binary())]))
    table(tmp_path / "set.parquet", mask=column)
    data = load(f"parquet:{tmp_path}/set.parquet?mask=mask", split="all")
    assert torch.equal(data.masks[:, 0], torch.from_numpy(masks))


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"x": [b"junk", *X[1:]]}, "", "image row 0: expected a sound image file"),
        ({"x": [*X[:3], None, *X[4:]], "plain": True}, "", "parquet row 3: expected image bytes in 'image'"),
        ({"y": [None, *Y[1:]]}, "", "column 'label': expected a label in every row, got 1 without"),
        ({"y": [2, *Y[1:]]}, "", r"y: expected labels from 0 to 1 \(2 classes\)"),
        ({"x": [X[0, :4], *X[1:]]}, "", "image row 1: expected one size for all, 4×5 as the first"),
        ({"x": [], "y": []}, "", "expected at least one row"),
        ({}, "?image=imag", "option image: expected a column .*did you mean 'image'"),
        ({}, "?image=label", "option image: expected a column of images .*got 'label' of int64"),
        ({}, "?label=image", "option label: expected a column of whole numbers"),
        ({}, "?mask=label", "option mask: expected a column of images"),
        ({"label": "p", "q": list(range(20))}, "", r"expected one column that is plainly the label \(or option label="),
        ({}, "?max_gib=1e-9", "images: expected at most"),
    ],
)
def test_bad_tables(tmp_path, changes, options, message):
    table(tmp_path / "set.parquet", **changes)
    with pytest.raises(ValueError, match=message):
        load(f"parquet:{tmp_path}/set.parquet{options}", split="all")


def test_bad_parquet_paths(tmp_path):
    with pytest.raises(ValueError, match="parquet path: expected a file"):
        load(f"parquet:{tmp_path}/none.parquet")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ValueError, match="expected a sound parquet file"):
        load(f"parquet:{tmp_path}/a.parquet")
    table(tmp_path / "set-test.parquet")
    with pytest.raises(ValueError, match=r"spec parquet: expected a path with \{split\} in the place of 'test'"):
        load(f"parquet:{tmp_path}/set-test.parquet")


def test_missing_pyarrow_names_the_extra(tmp_path, monkeypatch):
    table(tmp_path / "set.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'pip install "assay\[parquet\]"'):
        load(f"parquet:{tmp_path}/set.parquet")


class Hub(types.ModuleType):
    """Two revisions of one repository, on disk."""

    def __init__(self, root):
        super().__init__("huggingface_hub")
        self.root = root

    def HfApi(self):
        return self

    def dataset_info(self, repository, revision=None):
        place = self.root / (revision or "main").replace("/", "_")
        if repository != "org/pets" or not place.is_dir():
            raise RuntimeError("404 not found")
        files = [types.SimpleNamespace(rfilename=str(p.relative_to(place))) for p in place.rglob("*.*")]
        return types.SimpleNamespace(sha=place.name, siblings=files)

    def hf_hub_download(self, repository, file, *, repo_type, revision):
        assert repo_type == "dataset"
        return str(self.root / revision / file)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    made = Hub(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", made)
    return tmp_path


def test_hub_pins_the_commit(hub):
    table(hub / "main" / "data" / "train-00000-of-00002.parquet", X[:8], Y[:8])
    table(hub / "main" / "data" / "train-00001-of-00002.parquet", X[8:16], Y[8:16])
    table(hub / "main" / "data" / "validation-00000-of-00001.parquet", X[16:], Y[16:])
    train = load("hf:org/pets", split="train")
    assert torch.equal(train.x, torch.from_numpy(X[:16].transpose(0, 3, 1, 2).copy()))
    assert train.source == "hf:org/pets@main"
    test = load("hf:org/pets@main?size=8", split="test")
    assert len(test) == 4
    assert test.x.shape[2:] == (8, 8)
    assert test.name == "pets/test"


def test_hub_takes_the_conversion_and_the_configuration(hub):
    (hub / "main").mkdir()
    (hub / "main" / "images.zip").write_bytes(b"")
    table(hub / "refs_convert_parquet" / "small" / "test" / "0000.parquet", X[:4], Y[:4])
    table(hub / "refs_convert_parquet" / "large" / "test" / "0000.parquet")
    with pytest.raises(ValueError, match="expected option config= with one of 'large', 'small', got None"):
        load("hf:org/pets")
    assert len(load("hf:org/pets?config=small")) == 4
    assert load("hf:org/pets?config=large").source == "hf:org/pets@refs_convert_parquet"


@pytest.mark.parametrize(
    ("spec", "split", "message"),
    [
        ("hf:a b", "test", "spec hf: expected hf:org/name or hf:org/name@revision"),
        ("hf:org/none", "test", "hf org/none: expected a data set on the hub, got RuntimeError: 404"),
        ("hf:org/pets@v9", "test", "expected a data set on the hub at 'v9'"),
        ("hf:org/pets", "all", "split: expected 'train', 'val' or 'test' for a set on the hub"),
        ("hf:org/pets", "train", "expected parquet files of the split 'train', got 'data/test.parquet'"),
    ],
)
def test_bad_hub(hub, spec, split, message):
    table(hub / "main" / "data" / "test.parquet")
    with pytest.raises(ValueError, match=message):
        load(spec, split=split)


def test_missing_hub_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r'pip install "assay\[hf\]"'):
        load("hf:org/pets")


class Pets:
    classes = ("cat", ("dog", "hound"))

    def __init__(self, root, train=True):
        if root != "here":
            raise RuntimeError("Dataset not found or corrupted.")
        self.rows = range(16) if train else range(16, 20)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return Image.fromarray(X[self.rows[index]]), Y[self.rows[index]]


class Boxes(Pets):
    def __init__(self, root, split="train"):
        if split == "test":
            raise ValueError("no test")
        super().__init__(root, split == "train")

    def __getitem__(self, index):
        return super().__getitem__(index)[0], {"boxes": []} if self.rows[0] == 0 else 1


@pytest.fixture
def vision(monkeypatch):
    datasets = types.ModuleType("torchvision.datasets")
    datasets.Pets, datasets.Boxes = Pets, Boxes
    made = types.ModuleType("torchvision")
    made.datasets = datasets
    monkeypatch.setitem(sys.modules, "torchvision", made)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)


@pytest.mark.usefixtures("vision")
def test_torchvision():
    train, test = load("torchvision:Pets:here", split="train"), load("torchvision:Pets:here")
    assert torch.equal(train.x, torch.from_numpy(X[:16].transpose(0, 3, 1, 2).copy()))
    assert test.y.tolist() == Y[16:]
    assert test.classes == ("cat", "dog, hound")
    assert len(load("torchvision:Boxes:here", split="test")) == 4  # its val, as it has no test


@pytest.mark.usefixtures("vision")
@pytest.mark.parametrize(
    ("spec", "split", "message"),
    [
        ("torchvision:Pets", "test", "expected torchvision:<set>:<root>"),
        (
            "torchvision:Pet:here",
            "test",
            "expected the name of a set in torchvision.datasets, got 'Pet' .did you mean 'Pets'",
        ),
        ("torchvision:Pets:there", "test", "expected its files in 'there', got RuntimeError: Dataset not found"),
        ("torchvision:Pets:here", "val", "split: expected a split that torchvision's Pets has"),
        ("torchvision:Boxes:here", "train", "expected one whole number as the label of a sample"),
    ],
)
def test_bad_torchvision(spec, split, message):
    with pytest.raises(ValueError, match=message):
        load(spec, split=split)


def test_broken_torchvision_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r"expected a working torchvision .*assay\[vision\]"):
        load("torchvision:CIFAR10:data")
