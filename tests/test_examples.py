"""Examples are programs: they run."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example_runs(path, capsys):
    runpy.run_path(str(path))
    assert "robust accuracy" in capsys.readouterr().out


def test_the_code_of_the_page_on_models_runs():
    page = (Path(__file__).parent.parent / "docs" / "models.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    out = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    assert out.stdout.count("robust accuracy 0.0 %") == 3


def test_the_readme_runs(capsys, monkeypatch, tmp_path):
    """Its blocks of Python, one after the other; the first is ten lines."""
    page = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    first, more = re.findall(r"```python\n(.*?)```", page, re.S)[:2]
    assert len(first.strip().splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    exec(compile(first + more, "README.md", "exec"), {})
    assert "robust accuracy" in capsys.readouterr().out
