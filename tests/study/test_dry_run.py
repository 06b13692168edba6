"""A study is gone through whole on a few images, before hours are spent on it."""

from pathlib import Path

import pytest

from assay.cli import main
from assay.study.dry_run import IMAGES, shrink_study
from assay.study.parse import read_study

SMALL = sorted((Path(__file__).parents[2] / "studies" / "small").glob("*.yaml"))


@pytest.mark.parametrize("path", SMALL, ids=lambda p: p.stem)
def test_it_asks_the_same_of_less(path):
    config = read_study(path)
    small = shrink_study(config)
    assert (small.models.keys(), small.attacks, small.claims) == (config.models.keys(), config.attacks, config.claims)
    assert [q.ask for q in small.diagnostics] == [q.ask for q in config.diagnostics]
    assert all(data.limit <= IMAGES for data in small.data.values())
    assert all(model.train.epochs <= 1 for model in small.models.values())
    assert (small.signatures is None) == (config.signatures is None)


@pytest.mark.slow
@pytest.mark.parametrize("path", SMALL, ids=lambda p: p.stem)
def test_the_studies_of_the_repository_go_through(path, capsys):
    assert main(["run", str(path), "--dry-run"]) == 0
    told = capsys.readouterr()
    assert "everything works" in told.out
    assert "Not answered" not in told.err
