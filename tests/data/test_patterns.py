"""Made images of any size and number of classes."""

import pytest
import torch

from assay.data import load


def test_they_have_the_shape_that_is_asked_for():
    data = load("patterns:channels=1,size=12,classes=3,count=7", split="train")
    assert data.x.shape == (7, 1, 12, 12)
    assert len(data.classes) == 3
    assert data.y.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert data.masks.shape == (7, 1, 12, 12)


def test_splits_share_patterns_and_not_noise():
    train, test = (load("patterns:size=16,classes=5,count=50", split=split) for split in ("train", "test"))
    assert not any(torch.equal(a, b) for a, b in zip(train.x, test.x, strict=True))
    means = torch.stack([train.images()[train.y == i].mean(0) for i in range(5)])
    nearest = (test.images()[:, None] - means[None]).flatten(2).norm(dim=2).argmin(1)
    assert torch.equal(nearest, test.y)  # a classifier can learn them


def test_the_same_again_and_others_by_seed():
    spec = "patterns:size=16,classes=5,count=5"
    assert torch.equal(load(spec).x, load(spec).x)
    assert not torch.equal(load(spec).x, load(spec + ",seed=1").x)


@pytest.mark.parametrize("option", ["size=3", "classes=1", "count=0", "channels=0"])
def test_wrong_options_are_named(option):
    with pytest.raises(ValueError, match=option.partition("=")[0]):
        load(f"patterns:{option}")
