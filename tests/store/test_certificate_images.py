"""Images that certifiers broke samples with: kept, measured again, lost, forged."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest
import torch

from assay.attacks.plan import plan
from assay.certify import Decision
from assay.data import load
from assay.models import build, save
from assay.parts.balls import Ball, Split
from assay.runs import Question, Settings, evaluate
from assay.store.certified import CERTIFICATES, region_of_json, region_to_json
from assay.store.digests import write_all_digests
from assay.store.integrity.certificates import _inside
from assay.store.integrity.verify import verify
from assay.store.ledger import Ledger
from assay.store.model_source import ModelSource
from assay.store.verdict import brackets
from assay.util.files import sha256
from assay.util.tensors import read_tensors, write_tensors

RECIPE = {"arch": "conv-small", "channels": 3, "classes": 8, "size": 16}
EPS = 0.3


def ran(model, data, folder, images="all"):
    """A weak attack, so that branch and bound has samples to break."""
    question = Question(
        "Broken by bounds", data, [plan("noise:draws=1", eps=EPS)], certify="branch-and-bound:seconds=1"
    )
    source = {"m": ModelSource(str(folder.parent / "m.safetensors"))}
    return evaluate({"m": model}, question, folder, settings=Settings(checks="none", images=images), sources=source)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certified")
    data, model = load("scenes:size=16,count=40", limit=8), build(**RECIPE).eval()
    save(model, folder / "m.safetensors", RECIPE)
    data.y[:7] = model(data.images()).argmax(1)[:7].detach()
    result = ran(model, data, folder / "run")
    return model, data, folder, result


@pytest.fixture
def run(whole, tmp_path):
    shutil.copytree(whole[2], tmp_path / "copy")
    return tmp_path / "copy" / "run"


def record_of(run):
    with Ledger(run) as ledger:
        ((key, _),) = ledger.meta(CERTIFICATES)[0]["parts"]
        return key, ledger.answer(key)


def rewrite(run, change):
    """Change the certificates' record and mend all digests."""
    key, record = record_of(run)
    change(record)
    with closing(sqlite3.connect(run / "ledger.sqlite")) as ledger:
        ledger.execute("UPDATE answer SET content = ? WHERE key = ?", (json.dumps(record), key))
        write_all_digests(ledger)
        ledger.commit()


def exchange(run, change):
    """Other images, with their digest in the record."""
    _, record = record_of(run)
    path = run / record["images"]
    about, tensors = read_tensors(path, "assay-images", "images")
    write_tensors(path, change(tensors), "assay-images", about)
    rewrite(run, lambda own: own.update(sha256=sha256(path)))


def test_the_images_are_kept_and_fool_the_model(whole):
    model, data, folder, result = whole
    _, record = record_of(folder / "run")
    _, tensors = read_tensors(folder / "run" / record["images"], "assay-images", "images")
    broken = [i for i, code in enumerate(record["decision"]) if code == int(Decision.BROKEN)]
    assert tensors["sample"].tolist() == broken
    assert len(broken) > 1
    moved = tensors["images"]
    assert bool((model(moved).argmax(1) != data.y[broken]).all())
    assert float((moved - data.images()[broken]).abs().max()) <= EPS * (1 + 1e-5)
    (bracket,) = brackets(result.study)
    assert bracket.possible < bracket.n - len(broken) + 1
    checked = verify(folder / "run")
    assert checked.faults == ()
    assert checked.measured >= len(broken)


def test_images_that_are_not_wanted_are_not_kept(whole, tmp_path):
    model, data, folder, _ = whole
    shutil.copy(folder / "m.safetensors", tmp_path)
    ran(model, data, tmp_path / "run", images="none")
    assert "images" not in record_of(tmp_path / "run")[1]
    checked = verify(tmp_path / "run")
    assert checked.faults == ()
    assert any("their images were not kept" in text for text in checked.skipped)


def test_a_lost_file_is_told_and_made_again(whole, run):
    model, data, _, _ = whole
    _, record = record_of(run)
    content = (run / record["images"]).read_bytes()
    (run / record["images"]).unlink()
    assert any("certificate" in text and "missing" in text for text in verify(run).faults)
    ran(model, data, run)
    assert (run / record["images"]).read_bytes()[-1000:] == content[-1000:]
    assert verify(run).faults == ()


FORGED = {
    "clean images": (
        lambda run, data: exchange(run, lambda t: {**t, "images": data.images()[t["sample"]]}),
        "does not fool the model",
    ),
    "images beyond the budget": (
        lambda run, data: exchange(run, lambda t: {**t, "images": (t["images"] + 0.1).clamp(0, 1)}),
        "beyond the budget",
    ),
    "images of others": (
        lambda run, data: exchange(run, lambda t: {**t, "sample": t["sample"] + 1}),
        "images of other samples",
    ),
    "a label": (
        lambda run, data: rewrite(run, lambda r: r["predicted"].__setitem__(0, (r["predicted"][0] + 1) % 8)),
        "its clean prediction is",
    ),
    "a decision that there is not": (
        lambda run, data: rewrite(run, lambda r: r["decision"].__setitem__(0, 9)),
        "a decision that there is not",
    ),
    "decided by nothing": (
        lambda run, data: rewrite(run, lambda r: r["by"].__setitem__(slice(None), [-1] * len(r["by"]))),
        "decided by certifier -1",
    ),
    "fewer samples": (lambda run, data: rewrite(run, lambda r: r["decision"].pop()), "another count of results"),
}


@pytest.mark.parametrize("case", FORGED)
def test_what_can_be_computed_anew_gives_a_forgery_away(whole, run, case):
    forge, text = FORGED[case]
    forge(run, whole[1])
    assert any(text in fault for fault in verify(run).faults)


@pytest.mark.parametrize("region", [Ball("l2", 0.5), Split(Ball("linf", 0.1), Ball("l1", 3.0))])
def test_regions_are_what_they_were(region):
    assert region_of_json(json.loads(json.dumps(region_to_json(region)))) == region


def test_images_of_two_regions_are_measured_on_each():
    data = load("scenes:size=16,count=40", limit=4)
    index, region = torch.arange(4), Split(Ball("linf", 0.02), Ball("linf", 0.2))
    moved = (data.images() + 0.1).clamp(0, 1)
    assert not _inside(region, moved, index, data).any()
    background = torch.where(data.masks > 0, data.images(), moved)
    assert _inside(region, background, index, data).all()
