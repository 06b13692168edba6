"""NumPy archives: layouts, splits, masks, and what is refused."""

import io
import zipfile

import numpy as np
import pytest
import torch

from assay.data import load

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (20, 8, 6, 3), np.uint8)
Y = np.arange(20) % 4
MASK = RNG.random((20, 8, 6)) > 0.5


def saved(tmp_path, name="set.npz", **arrays):
    np.savez(tmp_path / name, **arrays)
    return f"npz:{tmp_path / name}"


@pytest.mark.parametrize(
    ("x", "options"),
    [
        (X, ""),
        (X.transpose(0, 3, 1, 2), ""),
        (X, "?layout=nhwc"),
        (X.transpose(0, 3, 1, 2), "?layout=nchw"),
        (np.asfortranarray(X), ""),
        ((X / 255).astype(np.float32), ""),
        (X / 255, ""),
        ((X / 255).astype(">f4"), ""),
    ],
)
def test_layouts_and_dtypes_give_the_same_images(tmp_path, x, options):
    data = load(saved(tmp_path, x=x, y=Y) + options, split="all")
    assert torch.allclose(data.images(), torch.from_numpy(X.transpose(0, 3, 1, 2)).float() / 255, atol=1e-6)
    assert data.x.is_contiguous()
    assert data.y.tolist() == Y.tolist()
    assert data.classes == ("0", "1", "2", "3")
    assert data.masks is None
    assert data.name == "set/all"


def test_grey_images_get_a_channel(tmp_path):
    data = load(saved(tmp_path, x=X[..., 0], y=Y[:, None].astype(np.uint8)), split="all")
    assert torch.equal(data.x[:, 0], torch.from_numpy(X[..., 0].copy()))


@pytest.mark.parametrize("masks", [MASK, MASK[:, None], MASK[..., None], MASK * 1, MASK * np.uint8(255), MASK * 1.0])
def test_masks_in_every_form(tmp_path, masks):
    data = load(saved(tmp_path, x=X, y=Y, mask=masks), split="all")
    assert torch.equal(data.masks, torch.from_numpy(MASK)[:, None])


def test_one_set_is_divided_without_overlap(tmp_path):
    spec = saved(tmp_path, x=X, y=Y, masks=MASK)
    train, test, every = (load(spec, split=s) for s in ("train", "test", "all"))
    assert (len(train), len(test), len(every)) == (16, 4, 20)
    assert test.y.bincount().tolist() == [1, 1, 1, 1]
    rows = [
        {(i.numpy().tobytes(), m.numpy().tobytes()) for i, m in zip(d.x, d.masks, strict=True)} for d in (train, test)
    ]
    assert len(rows[0] | rows[1]) == 20
    assert load(spec + "?seed=1", split="test").digest != test.digest
    assert len(load(spec + "?holdout=0.5", split="test")) == 10
    assert len(load(spec + "?holdout=0", split="test")) == 20
    assert load(spec, split="test", seed=5).digest == test.digest


def test_archive_with_splits(tmp_path):
    spec = saved(
        tmp_path,
        x_train=X[:12],
        y_train=Y[:12] + 1,
        mask_train=MASK[:12],
        x_test=X[12:],
        y_test=Y[12:],
        mask_test=MASK[12:],
    )
    train, test = load(spec, split="train"), load(spec, split="test")
    assert (len(train), len(test)) == (12, 8)
    assert train.classes == test.classes == ("0", "1", "2", "3", "4")
    assert torch.equal(test.masks[:, 0], torch.from_numpy(MASK[12:]))
    assert test.source == spec
    assert test.name == "set/test"


def test_named_arrays_and_classes(tmp_path):
    spec = saved(tmp_path, a_train=X[:5], a_test=X[5:], b_train=Y[:5], b_test=Y[5:], names=np.array(list("wxyz")))
    data = load(spec + "?x=a_{split}&y=b_{split}&classes=w,x,y,z", split="test")
    assert len(data) == 15
    assert data.classes == ("w", "x", "y", "z")
    stored = load(saved(tmp_path, "b.npz", images=X, labels=Y, classes=np.array(list("wxyz"))), split="all")
    assert stored.classes == ("w", "x", "y", "z")


def test_split_in_the_file_name(tmp_path):
    saved(tmp_path, "set-train.npz", x=X[:12], y=Y[:12])
    saved(tmp_path, "set-test.npz", x=X[12:], y=Y[12:])
    spec = f"npz:{tmp_path}/set-{{split}}.npz"
    assert len(load(spec, split="train")) == 12
    assert len(load(spec, split="test")) == 8
    assert load(spec).name == "set/test"
    with pytest.raises(ValueError, match="split: expected 'train', 'val' or 'test' where the path contains"):
        load(spec, split="all")
    with pytest.raises(ValueError, match=r"expected a path with \{split\} in the place of 'test'.*holdout=0"):
        load(f"npz:{tmp_path}/set-test.npz")
    assert len(load(f"npz:{tmp_path}/set-test.npz?holdout=0")) == 8


SHAPED = {"y": Y}


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"image_s": X, "y": Y}, "", "expected an array 'x_{split} or x' .*got 'image_s', 'y'"),
        ({"x": X}, "", "expected an array 'y_{split} or y'"),
        ({"x": X, "y": Y}, "?x=xx", "expected an array 'xx' .*did you mean 'x'"),
        ({"x": X, "y": Y}, "?mask=m", "expected an array 'm' for the masks, got 'x', 'y'"),
        ({"x_train": X, "y_train": Y}, "", "expected an array 'x_test'"),
        ({"x": X[:, :3, :, :], "y": Y}, "", r"array 'x': expected axes whose order can be told; say \?layout="),
        ({"x": np.zeros((20, 8, 6, 5)), "y": Y}, "", r"say \?layout="),
        ({"x": X, "y": Y}, "?layout=nhw", "expected 3 axes for the layout 'nhw'"),
        ({"x": X, "y": Y}, "?layout=hwc", "option layout: expected one of 'auto', 'nchw'"),
        ({"x": X.reshape(20, -1), "y": Y}, "", "array 'x': expected images of shape"),
        ({"x": X[0], "y": Y}, "", r"say \?layout="),
        ({"x": X.astype(np.int64), "y": Y}, "", r"array 'x': expected pixels as uint8 or as float in \[0, 1\]"),
        (
            {"x": X.astype(np.float32), "y": Y},
            "",
            r"x: expected finite float pixels in \[0, 1\], got pixels from 0 to 255",
        ),
        ({"x": X, "y": Y[:-1]}, "", "y: expected one label for each of the 20 images"),
        ({"x": X, "y": Y.astype(np.float32)}, "", "array 'y': expected labels as integers"),
        ({"x": X, "y": Y - 1}, "", "y: expected labels from 0 to 2"),
        ({"x": X, "y": Y}, "?classes=a,b", r"y: expected labels from 0 to 1 \(2 classes\)"),
        ({"x": X, "y": Y, "mask": MASK[:, :4]}, "", "masks: expected one mask an image"),
        ({"x": X, "y": Y, "mask": MASK * 7}, "", "array 'mask': expected a mask of only 0 and 1.*values such as"),
        ({"x": X, "y": Y, "mask": MASK[:, 0]}, "", "array 'mask': expected masks of shape"),
        ({"x": X, "y": Y}, "?max_gib=0.000001", "arrays of at most 1e-06 GiB uncompressed"),
        ({"x": X, "y": Y}, "?max_gib=much", "option max_gib: expected a number"),
        ({"x": X, "y": Y}, "?holdout=2", "option holdout: expected a finite number"),
        ({"x": X, "y": Y}, "?seed=1.5", "option seed: expected a whole number"),
    ],
)
def test_bad_archives(tmp_path, arrays, options, message):
    with pytest.raises(ValueError, match=message):
        load(saved(tmp_path, **arrays) + options, split="test")


def test_pickled_arrays_are_not_loaded(tmp_path):
    spec = saved(tmp_path, x=X, y=np.array([{"a": 1}] * 20, dtype=object))
    with pytest.raises(ValueError, match="expected plain numbers; pickled objects are never loaded"):
        load(spec, split="all")


def test_size_is_refused_from_the_header_before_anything_is_read(tmp_path):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 3, 32, 32)})
    labels = io.BytesIO()
    np.save(labels, Y)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
        archive.writestr("x.npy", head.getvalue())
        archive.writestr("y.npy", labels.getvalue())
    with pytest.raises(ValueError, match=r"expected arrays of at most 8 GiB uncompressed \(option max_gib\), got 2861"):
        load(f"npz:{tmp_path}/bomb.npz", split="all")


def test_not_an_archive_and_no_file(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"not a zip")
    with pytest.raises(ValueError, match=r"expected a sound archive written by numpy.savez, got BadZipFile"):
        load(f"npz:{tmp_path}/a.npz")
    with pytest.raises(ValueError, match="npz path: expected a file"):
        load(f"npz:{tmp_path}/none.npz")


def test_damaged_archive(tmp_path):
    spec = saved(tmp_path, x=X, y=Y)
    path = tmp_path / "set.npz"
    content = bytearray(path.read_bytes())
    content[600] ^= 0xFF  # among the pixels of x
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"npz .*: expected a sound a.*, got BadZipFile"):
        load(spec, split="all")


def test_val_of_one_set(tmp_path):
    with pytest.raises(ValueError, match="split: expected 'train', 'test' or 'all', as 'npz' holds one set"):
        load(saved(tmp_path, x=X, y=Y), split="val")
