"""The studies of the repository can be read, and their claims ask for what they measure."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from assay.cli.main import main
from assay.core.passes import Passes
from assay.data import Dataset
from assay.diagnostics.registry import DIAGNOSTICS
from assay.diagnostics.trail import Trail
from assay.study.attack_plan import attack_names
from assay.study.diagnostics import build_context, chosen_epochs
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


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_the_questions_of_a_study_have_a_cost(path):
    """Budgets in l2 are beyond what linf allows: nothing may build an attack that the question does not ask about."""
    config = read_study(path)
    data = Dataset(
        torch.zeros(4, 3, 8, 8), torch.arange(4), tuple("abcd"), masks=torch.ones(4, 1, 8, 8, dtype=torch.bool)
    )
    for question in config.diagnostics:
        trail, models = None, {"a": nn.Identity(), "b": nn.Identity()}
        if question.over is not None:
            epochs = config.models[question.over].train.recipe(teacher=None).epochs
            trail, models = chosen_epochs(question, Trail({epoch: nn.Identity() for epoch in range(epochs + 1)})), {}
        context = build_context(question, trail, models, data, data)
        for name in question.ask:
            cost = DIAGNOSTICS[name].cost
            if cost is not None:
                assert cost(context, lambda _: Passes(1.0, 1.0)).total > 0


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


@pytest.fixture(scope="module")
def papers():
    """The script that writes the page of all figures."""
    folder = STUDIES.parent / "benchmarks"
    spec = importlib.util.spec_from_file_location("papers_page", folder / "papers.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(folder))
    try:
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def numbered(kind, *ranges):
    return {f"{kind} {n}" for first, last in ranges for n in range(first, last + 1)}


ALL = {
    "dual-perturbation": numbered("figure", (1, 27)) | numbered("table", (1, 6)),
    "adversarial-training": numbered("figure", (1, 26)),
    "structured-attack": {
        *numbered("figure", (1, 2)),
        *("figure 3a", "figure 3b", "figure 3c", "table 1", "table A1"),
        *(f"figure A{n}" for n in range(1, 6)),
    },
    "signatures": numbered("figure", (1, 15)) | numbered("table", (1, 6)),
}


@pytest.mark.parametrize("stem", ALL)
def test_no_figure_or_table_of_a_paper_is_missing(papers, stem):
    small = read_study(next((STUDIES / "small").glob(f"{stem}*.yaml")))
    large = [(read_study(path), path.stem) for path in sorted((STUDIES / "paper").glob(f"{stem}*.yaml"))]
    entries = {entry.name: entry for entry in papers.entries(small, [], large)}
    assert set(entries) == ALL[stem]
    assert all(entry.shows and entry.small != "–" for entry in entries.values())


def test_the_page_of_all_figures_is_of_today(papers):
    assert (STUDIES.parent / "docs" / "papers.md").read_text(encoding="utf-8") == papers.page()
