"""Runs of earlier formats stay readable: one folder a format, made once and never changed."""

import shutil
from pathlib import Path

import pytest

from assay.cli import main
from assay.store.sqlite import FORMAT

GOLDEN = Path(__file__).parent / "golden"
FOLDERS = sorted(GOLDEN.glob("format-*"))


def test_every_format_has_a_run():
    assert [path.name for path in FOLDERS] == [f"format-{i + 1}" for i in range(FORMAT)]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_an_old_run_is_read(folder, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    table = (run / "samples.csv").read_bytes()
    assert main(["status", str(run)]) == 0
    assert "16 of 16 records" in capsys.readouterr().out
    assert main(["report", str(run)]) == 0
    assert (run / "samples.csv").read_bytes() == table
    page = (run / "report.html").read_text()
    assert f"A run of {folder.name.replace('-', ' ')}" in page
    assert "It is small." in page
    assert main(["verify", str(run)]) == 0
    assert "cannot be loaded" in capsys.readouterr().err
    assert main(["export", str(run)]) == 0
