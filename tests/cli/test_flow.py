"""`assay evaluate` does nothing twice: one model is loaded once, data are hashed once, the report is assembled once."""

from importlib import import_module

import pytest

from assay.cli import main
from assay.data import Dataset
from assay.models import build, save


def counted(monkeypatch, owner, name):
    """Count the calls of a function or property."""
    calls = []
    real = vars(owner)[name]

    def call(*arguments, **named):
        calls.append(name)
        return real.fget(*arguments) if isinstance(real, property) else real(*arguments, **named)

    monkeypatch.setattr(owner, name, property(call) if isinstance(real, property) else call)
    return calls


@pytest.mark.parametrize("checks", ["none", "fast"])
def test_one_model_and_one_attack(tmp_path, monkeypatch, checks):
    weights = tmp_path / "m.safetensors"
    recipe = {"arch": "tiny-cnn", "channels": 1, "classes": 10, "size": 8}
    save(build(**recipe).eval(), weights, recipe)
    loads = counted(monkeypatch, import_module("assay.models.load"), "_from_file")
    hashes = counted(monkeypatch, Dataset, "digest")
    reports = counted(monkeypatch, import_module("assay.store.load_report"), "_study")
    words = ["--model", str(weights), "--data", "digits", "--limit", "8", "--attack", "fgsm", "--checks", checks]
    assert main(["evaluate", *words, "--eps", "0.1", "-o", str(tmp_path / "run"), "--quiet"]) == 0
    assert (len(loads), len(hashes), len(reports)) == (1, 1, 1)
