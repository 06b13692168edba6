"""The house: who may import whom, what is public, how long an import takes, rules of the code."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import assay

SOURCE = Path(assay.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
ALLOWED = {
    "core": {"core"},
    "masks": {"core", "masks"},
    "attacks": {"core", "attacks", "masks"},
    "data": {"core", "data"},
    "models": {"core", "models"},
    "corruptions": {"core", "corruptions", "data", "models"},
    "defences": {"core", "data", "defences", "models"},
    "training": {"core", "attacks", "data", "models", "training"},
    "diagnostics": {"core", "attacks", "corruptions", "data", "defences", "diagnostics", "masks", "models"},
    "signatures": {"core", "attacks", "data", "diagnostics", "models", "signatures"},
    "report": {"core", "report"},
    "trust": {"core", "attacks", "data", "defences", "masks", "models", "trust"},
    "runs": {
        "core", "attacks", "data", "defences", "diagnostics", "models", "masks", "report", "runs", "signatures",
        "training", "trust",
    },
    "cli": None,  # may import anything; nothing imports it
}  # fmt: skip


def imports(path):
    """Sub-packages of assay that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        found |= {n.split(".")[1] for n in names if n.startswith("assay.") and n.count(".")}
    return found


@pytest.mark.parametrize("path", [p for p in FILES if p.parent != SOURCE], ids=lambda p: str(p.relative_to(SOURCE)))
def test_data_flows_one_way(path):
    allowed = ALLOWED[path.relative_to(SOURCE).parts[0]]
    if allowed is not None:
        assert imports(path) <= allowed


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_rules_of_the_code(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 350
    assert ast.get_docstring(tree) or not text.strip()
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Assert)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            body = node.end_lineno - node.lineno - len((ast.get_docstring(node) or "").splitlines())
            assert body <= 90, f"{node.name} is {body} lines long"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "eval", "exec")
    if path.name == "__init__.py":
        assert all(isinstance(n, ast.Expr | ast.Import | ast.ImportFrom | ast.Assign) for n in tree.body)


def test_public_names_are_as_recorded():
    """A name that disappears breaks users: change the record on purpose."""
    recorded = json.loads((Path(__file__).parent / "api.json").read_text())
    assert surface() == recorded


def surface():
    import importlib

    parts = (
        "attacks",
        "corruptions",
        "data",
        "defences",
        "diagnostics",
        "masks",
        "models",
        "report",
        "runs",
        "signatures",
        "training",
        "trust",
    )
    modules = ("assay", *(f"assay.{part}" for part in parts))
    return {name: sorted(importlib.import_module(name).__all__) for name in modules}


def test_every_public_name_has_a_docstring():
    for name in assay.__all__:
        assert getattr(assay, name).__doc__


def test_import_costs_little_more_than_torch():
    """Plotting, statistics and optional libraries wait until they are needed."""
    code = (
        "import time, sys; import torch; a = time.perf_counter(); import assay; b = time.perf_counter();"
        "print(b - a); print([m for m in ('matplotlib', 'scipy', 'accelerate', 'jinja2', 'sklearn', 'cyclopts',"
        " 'rich', 'pyarrow', 'pydantic', 'yaml', 'filelock') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert float(out[0]) < 1.5
    assert out[1] == "[]"


def test_it_runs_with_every_extra_blocked():
    """Core, attacks and the made data need nothing optional, and no torchvision."""
    code = """
import sys
for name in ("torchvision", "timm", "transformers", "datasets", "pyarrow", "sklearn", "accelerate", "pandas"):
    sys.modules[name] = None
import torch, assay
from assay.data import load
from assay.models import build
d = load("scenes:size=16,count=8")
m = build("tiny-cnn", channels=3, classes=8, size=16).eval()
print(assay.attack(m, d.images(), d.y, assay.PGD(0.1, steps=2), preflight=False).name)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert out.stdout.strip() == "PGD-2 linf 0.1", out.stderr
