"""The set itself: checks, subsets, divisions, digest."""

from dataclasses import replace

import pytest
import torch

from assay.data import Dataset


def made(n=12, classes=3, seed=0, masks=True, dtype=torch.uint8):
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (n, 3, 6, 5), generator=g, dtype=torch.uint8)
    x = x if dtype == torch.uint8 else x.float() / 255
    y = torch.arange(n) % classes
    m = torch.rand(n, 1, 6, 5, generator=g) > 0.5 if masks else None
    return Dataset(x, y, tuple(f"c{k}" for k in range(classes)), m, name="made")


def test_images_scale_uint8_and_keep_floats():
    data = made()
    assert torch.equal(data.images(), data.x.float() / 255)
    assert torch.equal(data.images(slice(2, 5)), data.x[2:5].float() / 255)
    chosen = torch.tensor([3, 0, -1])
    assert torch.equal(data.images(chosen), data.x[chosen].float() / 255)
    assert data.images().dtype == torch.float32
    floats = made(dtype=torch.float32)
    copy = floats.images()
    copy.zero_()
    assert floats.x.sum() > 0


def test_take_keeps_images_labels_and_masks_together():
    data = made()
    part = data.take(torch.tensor([5, 2]))
    assert torch.equal(part.x, data.x[[5, 2]])
    assert part.y.tolist() == [2, 2]
    assert torch.equal(part.masks, data.masks[[5, 2]])
    assert part.classes == data.classes
    assert len(data.take(data.y == 1)) == 4
    assert len(data.take(torch.tensor([], dtype=torch.int64))) == 0


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (torch.tensor([0.5]), TypeError, "index: expected a slice, or a 1-D tensor"),
        (torch.tensor([[0]]), TypeError, "index: expected a slice, or a 1-D tensor"),
        (torch.tensor([12]), ValueError, "index: expected positions within the 12 samples"),
        (torch.tensor([True]), ValueError, "index: expected 12 booleans"),
    ],
)
def test_bad_index(index, error, message):
    with pytest.raises(error, match=message):
        made().take(index)


@pytest.mark.parametrize("limit", [1, 3, 10, 17, 59])
def test_head_is_balanced_nested_stable_and_deterministic(limit):
    y = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)
    data = Dataset(torch.arange(60).view(60, 1, 1, 1).to(torch.uint8), y, ("a", "b", "c"))
    part = data.head(limit, seed=4)
    assert len(part) == limit
    counts, most = part.y.bincount(minlength=3), torch.tensor([30, 20, 10])
    level = int(counts.max())
    assert all(c >= min(level - 1, m) for c, m in zip(counts.tolist(), most.tolist(), strict=True))
    places = part.x.flatten().tolist()
    assert places == sorted(places)
    assert places == data.head(limit, seed=4).x.flatten().tolist()
    assert set(places) <= set(data.head(limit + 1, seed=4).x.flatten().tolist())


def test_head_seeds_differ_and_none_is_everything():
    data = made(60)
    assert data.head(None) is data
    assert data.head(60) is data
    assert data.head(10, seed=0).digest != data.head(10, seed=1).digest
    with pytest.raises(ValueError, match="limit: expected a whole number that is at least 1, got 0"):
        data.head(0)


def test_head_is_the_same_everywhere():
    data = Dataset(torch.arange(20).view(20, 1, 1, 1).to(torch.uint8), torch.arange(20) % 2, ("a", "b"))
    assert data.head(6).x.flatten().tolist() == [4, 5, 6, 9, 11, 16]


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.8, 0.99])
def test_split_is_stratified_disjoint_and_whole(fraction):
    y = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    data = Dataset(torch.arange(100).view(100, 1, 1, 1).to(torch.uint8), y, ("a", "b", "c"))
    first, second = data.split(fraction, seed=1)
    assert len(first) == round(100 * fraction)
    assert sorted(first.x.flatten().tolist() + second.x.flatten().tolist()) == list(range(100))
    for label, n in enumerate((50, 30, 20)):
        assert abs(int((first.y == label).sum()) - fraction * n) < 1
    again, _ = data.split(fraction, seed=1)
    assert again.digest == first.digest


def test_split_of_single_samples_still_divides():
    data = Dataset(torch.zeros(10, 1, 2, 2), torch.arange(10), tuple("abcdefghij"))
    assert [len(part) for part in data.split(0.8)] == [8, 2]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_split_refuses_what_is_no_fraction(fraction):
    with pytest.raises(ValueError, match="fraction: expected"):
        made().split(fraction)


def test_digest_changes_with_each_field():
    data = made()
    x, y, masks = data.x.clone(), data.y.clone(), data.masks.clone()
    x[0, 0, 0, 0] ^= 1
    y[0] = 1
    masks[0, 0, 0, 0] ^= True
    others = [
        replace(data, x=x),
        replace(data, y=y),
        replace(data, masks=masks),
        replace(data, masks=None),
        replace(data, classes=("c0", "c1", "cX")),
        replace(data, classes=(*data.classes, "c3")),
        data.take(torch.arange(11)),
    ]
    digests = [d.digest for d in [data, *others]]
    assert len(set(digests)) == len(digests)
    assert replace(data, name="other", source="elsewhere").digest == data.digest
    assert data.take(torch.arange(12)).digest == data.digest
    assert len(data.digest) == 64


X, Y = torch.zeros(2, 1, 4, 4), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"x": X[0]}, ValueError, r"x: expected images of shape \(n, c, h, w\), got float32 of shape \(1, 4, 4\)"),
        ({"x": X.double()}, TypeError, "x: expected a uint8 or float32 tensor"),
        ({"x": X + 1.5}, ValueError, r"x: expected finite float pixels in \[0, 1\], got pixels from 1.5 to 1.5"),
        ({"x": X - 0.1}, ValueError, "x: expected finite float pixels"),
        ({"x": torch.full_like(X, float("nan"))}, ValueError, "x: expected finite float pixels"),
        ({"x": X.index_fill(0, torch.tensor(1), float("inf"))}, ValueError, "x: expected finite float pixels"),
        ({"x": torch.zeros(2, 0, 4, 4)}, ValueError, "x: expected images"),
        ({"y": Y.float()}, TypeError, "y: expected an int64 tensor"),
        ({"y": Y[:1]}, ValueError, "y: expected one label for each of the 2 images"),
        (
            {"y": torch.tensor([0, 2])},
            ValueError,
            r"y: expected labels from 0 to 1 \(2 classes\), got labels from 0 to 2",
        ),
        ({"y": torch.tensor([-1, 0])}, ValueError, "y: expected labels from 0 to 1"),
        ({"classes": ()}, ValueError, "classes: expected at least one"),
        ({"classes": ["a", "b"]}, TypeError, "classes: expected a tuple of class names"),
        ({"classes": (0, 1)}, TypeError, "classes: expected a tuple of class names"),
        ({"masks": torch.zeros(2, 1, 4, 4)}, TypeError, "masks: expected a bool tensor"),
        (
            {"masks": torch.zeros(2, 1, 4, 5) > 0},
            ValueError,
            r"masks: expected one mask an image, shape \(2, 1, 4, 4\)",
        ),
    ],
)
def test_bad_fields(fields, error, message):
    with pytest.raises(error, match=message):
        Dataset(**({"x": X, "y": Y, "classes": ("a", "b")} | fields))


def test_empty_set_and_text():
    empty = Dataset(torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.int64), ("a",))
    assert len(empty) == 0
    assert empty.images().shape == (0, 1, 4, 4)
    assert len(empty.digest) == 64
    assert repr(made()) == "Dataset('made': 12 images 3×6×5 uint8, 3 classes, with masks)"
