"""No code of assay decides a stored result without being part of its identity."""

import sys
import threading
from contextlib import contextmanager, suppress

import pytest
import torch

from assay import FGSM
from assay.attacks.plan import plan
from assay.data import load
from assay.defences.fitted import FITTINGS, fit_defence
from assay.defences.registry import DEFENCES, defend
from assay.diagnostics.context import DiagnosticContext
from assay.diagnostics.registry import DIAGNOSTICS
from assay.models import build
from assay.runs import checks as run_checks
from assay.runs import diagnose as run_diagnose
from assay.runs import plan as run_plan
from assay.runs import session as run_session
from assay.runs.evaluate import Question, evaluate
from assay.runs.plan import Workload, inspect_model, plan_cells
from assay.runs.settings import Settings
from assay.util.code_digest import code_files

BY_CONTENT = (
    "assay.util.",  # text, files, arguments, progress
    "assay.models.load",  # the weights and the structure of a model have a digest
    "assay.models.registry",
    "assay.core.fingerprint",
    "assay.core.code_objects",
    "assay.store.model_source",
    "assay.runs.settings",  # each setting that decides a result is a field of its key
)
"""Modules that run, too, and of which nothing but the content of what they give counts."""
SPECS = ("pgd:steps=2", "square:queries=3", "fab:steps=1", "hopskipjump:steps=1", "stadv:steps=2", "cw-l2:steps=2")


@contextmanager
def executed():
    """The modules of assay whose functions are called meanwhile."""
    names = set()

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_name not in ("<module>", "<lambda>"):
            name = frame.f_globals.get("__name__", "")
            if name.startswith("assay."):
                names.add(name)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield names
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def counted(monkeypatch, module):
    """The modules that count for all digests that a module makes meanwhile."""
    names = set()

    def note(*roots, alone=()):
        names.update(code_files(*roots, alone=alone))
        return "code"

    monkeypatch.setattr(module, "code_digest", note)
    return names


def missing(ran, counts):
    return {name for name in ran - counts if not name.startswith(BY_CONTENT)}


@pytest.fixture(scope="module")
def data():
    return load("scenes:size=16,count=24", split="test", limit=12)


@pytest.fixture(scope="module")
def model(data):
    torch.manual_seed(0)
    return build("tiny-cnn", channels=3, classes=len(data.classes), size=16).eval()


def run_one(subject, data, spec, monkeypatch):
    """The modules that run in one cell and do not count."""
    counts = counted(monkeypatch, run_plan)
    workload = Workload("d", data, (subject,), (plan(spec, eps=0.2),))
    cells = plan_cells(workload, Settings(start="data", max_forwards=50))
    with executed() as ran:
        cells[0].task.run_task()
    assert {"assay.engine.engine", "assay.runs.tasks"} < ran
    return missing(ran, counts)


@pytest.mark.parametrize("spec", SPECS)
def test_of_an_attack(spec, data, model, monkeypatch):
    subject = inspect_model("m", model, data, adaptive=True)
    assert run_one(subject, data, spec, monkeypatch) == set()


@pytest.mark.parametrize("name", DEFENCES)
def test_of_a_defence(name, data, model, monkeypatch, tmp_path):
    spec = {"smoothing": "smoothing:sigma=0.1"}.get(name, name)
    if name in FITTINGS:
        file = fit_defence(name, data, tmp_path / "fit", model=model, attack=FGSM(0.1), epochs=1)
        spec = f"{name}:path={file}"
    subject = inspect_model("m", defend(model, spec), data, adaptive=True)
    assert run_one(subject, data, "pgd:steps=2", monkeypatch) == set()
    assert run_one(subject, data, "square:queries=3", monkeypatch) == set()


@pytest.mark.parametrize("name", DIAGNOSTICS)
def test_of_a_diagnostic(name, data, model, monkeypatch):
    counts = counted(monkeypatch, run_diagnose)
    case = DiagnosticContext(None, {"a": model, "b": model}, data, data, eps=0.1, updates=2, search_steps=2)
    run_diagnose.context_digest(case)
    with executed() as ran, suppress(ValueError, ImportError):
        run_diagnose.run_diagnostic(name, case)
    assert missing(ran, counts) == set()


def test_of_the_checks(data, model, monkeypatch, tmp_path):
    counts, plain, ran = counted(monkeypatch, run_checks), run_session.check_models, set()

    def check(*args, **kwargs):
        with executed() as names:
            result = plain(*args, **kwargs)
        ran.update(names)
        return result

    monkeypatch.setattr(run_session, "check_models", check)
    attacks = (plan("pgd:steps=2", eps=0.1), plan("square:queries=5", eps=0.1))
    evaluate({"m": model}, Question("q", data, attacks), tmp_path / "run", settings=Settings(checks="full"))
    assert {"assay.trust.grading", "assay.trust.running"} < ran
    decides = {name for name in ran if name.split(".")[1] not in ("store", "runs", "report")}
    assert missing(decides, counts) == set()
