"""The studies of the repository can be read, and their claims ask for what they measure."""

from pathlib import Path

import pytest

from assay.study.attack_plan import curve_plans, plans
from assay.study.parse import read_study

STUDIES = Path(__file__).parents[2] / "studies"
FILES = sorted(STUDIES.glob("*/*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_study_is_valid(path):
    config = read_study(path)
    assert config.claims
    names = [planned.attack.describe() for planned in (*plans(config), *curve_plans(config))]
    asked = {name for question in config.diagnostics for name in question.ask}
    for claim in config.claims:
        for part in (claim.ours, claim.less, claim.over):
            if part is not None and part.attack is not None:
                assert any(part.attack.lower() in name.lower() for name in names), (claim.says, names)
            if part is not None and part.answer is not None:
                assert part.answer in asked or config.signatures is not None


def test_small_and_paper_scale_of_each():
    small, paper = ({p.stem for p in FILES if p.parent.name == kind} for kind in ("small", "paper"))
    assert small == paper
    assert len(small) == 5
