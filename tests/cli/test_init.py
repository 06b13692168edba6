"""A study to begin with: it is one, it runs, and nothing is written over."""

import pytest

from assay.cli import main
from assay.study.parse import read_study


@pytest.mark.parametrize("data", ["digits", "scenes:size=16,count=200", 'npz:a "b".npz?x=images'])
def test_it_writes_a_study(tmp_path, capsys, data):
    path = tmp_path / "mine.yaml"
    assert main(["init", str(path), "--data", data, "--title", 'A "b": c # d']) == 0
    config = read_study(path)
    assert config.title == 'A "b": c # d'
    assert config.data["images"].load == data
    assert [*config.models] == ["plain", "robust"]
    assert f"assay run {path} --plan" in capsys.readouterr().out


def test_the_study_goes_through_from_end_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert main(["run", "study.yaml", "--dry-run", "--quiet"]) == 0
    assert "study.yaml" not in {path.name for path in (tmp_path / "runs").glob("*")}


def test_nothing_is_written_over(tmp_path, capsys):
    path = tmp_path / "study.yaml"
    path.write_text("mine")
    assert main(["init", str(path)]) == 2
    assert path.read_text() == "mine"
    assert "init writes over nothing" in capsys.readouterr().err
    assert main(["init", str(tmp_path / "no" / "study.yaml")]) == 2
    assert main(["init", str(tmp_path / "b.yaml"), "--data", "nothing:here"]) == 2
    assert not (tmp_path / "b.yaml").exists()
    assert main(["init", str(tmp_path / "b.yaml"), "--title", "two\nlines"]) == 2
