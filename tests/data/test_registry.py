"""Specs: how they are read, and what is said of those that cannot be."""

import sys

import pytest
import torch

from assay.data import SOURCES, load


def test_digits():
    pytest.importorskip("sklearn")
    train, test = load("digits", split="train"), load("digits")
    assert (len(train), len(test)) == (1438, 359)
    assert test.x.shape[1:] == (1, 8, 8)
    assert test.x.dtype == torch.float32
    assert test.x.max() == 1
    assert test.classes == tuple("0123456789")
    rows = [{image.numpy().tobytes() for image in d.x} for d in (train, test)]
    assert len(rows[0] & rows[1]) == 0
    assert len(load("digits", split="all")) == 1797
    assert len(load("digits:holdout=0.5,seed=2")) in (898, 899)
    with pytest.raises(ValueError, match="split: expected 'train', 'test' or 'all'"):
        load("digits", split="val")


def test_missing_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'digits: expected scikit-learn \(pip install "assay\[digits\]"\)'):
        load("digits")


def test_scenes_by_spec():
    data = load("scenes:size=16,count=40,seed=3,classes=4,cue=0")
    assert data.x.shape == (40, 3, 16, 16)
    assert data.source == "scenes:size=16,count=40,seed=3,classes=4,cue=0"
    assert len(data.classes) == 4
    assert load("scenes:size=16,count=40", limit=16).y.bincount().tolist() == [2] * 8


def test_limit_and_seed_choose_the_subset():
    spec = "scenes:size=16,count=64"
    assert load(spec, limit=8).digest == load(spec, limit=8).digest
    assert load(spec, limit=8).digest != load(spec, limit=8, seed=1).digest
    assert load(spec, limit=1000).digest == load(spec).digest


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", "spec: expected one of the sources 'digits', 'scenes', .*got 'digit' .did you mean 'digits'"),
        ("parket:x", "did you mean 'parquet'"),
        ("data/set.npz", "did you mean 'npz:data/set.npz'"),
        ("data/{split}.parquet?image=img", r"did you mean 'parquet:data/\{split\}.parquet\?image=img'"),
        ("", "spec: expected one of the sources"),
        ("npz", "spec: expected a path after the name, as 'npz:images.npz"),
        ("npz:", "spec: expected a path after the name"),
        ("npz:?x=a", "spec: expected a path after the name"),
        ("npz:a.npz?label=b", r"expected an option of 'npz' \('x', 'y', .*got 'label'"),
        ("npz:a.npz?x", "spec: expected options of 'npz' as key=value, separated by '&', got 'x'"),
        ("npz:a.npz?x=1&x=2", "spec: expected each option of 'npz' once, got 'x' twice"),
        ("scenes:sice=16", "expected an option of 'scenes' .*got 'sice' .did you mean 'size'"),
        ("scenes:size=big", "option size: expected a whole number that is at least 16, got 'big'"),
        ("scenes:size=8", "option size: expected a whole number that is at least 16, got 8"),
        ("scenes:cue=7", "option cue: expected a finite number that is at least 0 and at most 1, got 7"),
        ("scenes:32", "spec: expected options of 'scenes' as key=value, separated by ',', got '32'"),
    ],
)
def test_bad_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        load(spec)


def test_bad_split_and_limit():
    with pytest.raises(ValueError, match="split: expected one of 'train', 'val', 'test', 'all', got 'tests'"):
        load("digits", split="tests")
    with pytest.raises(ValueError, match="limit: expected a whole number that is at least 1, got 0"):
        load("scenes:count=4,size=16", limit=0)


def test_a_folder_without_its_source_is_advised(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'folder:"):
        load(str(tmp_path))


def test_every_source_has_its_line_and_a_spec_that_begins_with_its_name():
    for name, source in SOURCES.items():
        assert source.example.split(":")[0] == name
        assert 0 < len(source.help) < 80
