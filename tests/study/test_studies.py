"""The studies of the repository can be read, and their claims ask for what they measure."""

from pathlib import Path

import pytest

from assay.cli.main import main
from assay.study.attack_plan import attack_names
from assay.study.parse import read_study

STUDIES = Path(__file__).parents[2] / "studies"
FILES = sorted(STUDIES.glob("*/*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_study_is_valid(path):
    config = read_study(path)
    assert config.claims
    names = attack_names(config)
    asked = {name for question in config.diagnostics for name in question.ask}
    for claim in config.claims:
        for part in (claim.ours, claim.less, claim.over):
            if part is not None and part.attack is not None:
                assert part.attack in names, (claim.says, names)
            if part is not None and part.answer is not None:
                assert part.answer in asked or config.signatures is not None


def test_every_paper_has_a_small_and_a_paper_study():
    by_kind = {kind: {read_study(p).paper for p in FILES if p.parent.name == kind} for kind in ("small", "paper")}
    assert by_kind["small"] == by_kind["paper"]
    assert len(by_kind["small"]) == 5
    assert "" not in by_kind["small"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_study_lists_the_papers_figures(path, capsys):
    config = read_study(path)
    assert config.figures
    assert all(claim.figure is not None or claim.source for claim in config.claims)
    assert main(["run", str(path), "--list-claims"]) == 0
    shown = capsys.readouterr().out
    assert all(figure.id in shown for figure in config.figures)
    assert f"{len(config.figures)} figures and tables, {len(config.claims)} claims" in shown
