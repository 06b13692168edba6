"""Certificates in a run: beside the attacks, stored, resumed, held against them."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from assay.attacks.plan import curve, plan
from assay.certify import Decision
from assay.cli.main import main
from assay.core.outcome import Status
from assay.data import Dataset
from assay.report.figures import curves
from assay.runs import Question, Settings, evaluate
from assay.runs.certify_tasks import CertifyTask
from assay.runs.executors import Local
from assay.store.certified import CERTIFICATES, CertifiedBudget, bracket_of
from assay.store.ledger import Ledger
from assay.store.verdict import brackets
from assay.study.parse import parse_study
from assay.util.progress import Reporter


class Linear(nn.Module):
    """Bright or dark, by the mean: its distances are known."""

    def __init__(self, slope=1.0):
        super().__init__()
        self.layer = nn.Linear(16, 2)
        with torch.no_grad():
            self.layer.weight[0], self.layer.weight[1] = slope / 16, -slope / 16
            self.layer.bias[0], self.layer.bias[1] = -slope / 2, slope / 2

    def forward(self, x):
        return self.layer(x.flatten(1))


def data():
    """Forty images whose linf distances are 0.005 to 0.2."""
    means = 0.5 + 0.005 * torch.arange(1, 41)
    return Dataset(
        means.view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous(), torch.zeros(40).long(), ("a", "b"), name="d"
    )


def ran(out, model=None, certify="ibp, crown", eps=0.1, on_curve=(), shard=None, **more):
    question = Question("Certified", data(), [plan("pgd:steps=5", eps=eps)], on_curve, certify=certify)
    return evaluate({"m": model or Linear()}, question, out, settings=Settings(checks="none", shard=shard), **more)


def test_both_ends_meet_where_the_bound_and_the_attack_are_exact(tmp_path):
    result = ran(tmp_path, eps=0.1025)
    (bracket,) = brackets(result.study)
    assert (bracket.n, bracket.certified, bracket.open) == (40, bracket.possible, 0)
    assert bracket.certified == 20
    assert bracket.is_closed
    assert bracket.contradictions == ()
    summary = json.loads((tmp_path / "summary.json").read_text())
    (row,) = summary["certificates"]
    assert row["certified_accuracy"] == bracket.certified / 40
    assert row["certifiers"] == ["IBP", "CROWN"]
    page = result.report.read_text()
    assert "certified ≤ robust accuracy ≤" in page


def test_the_model_card_has_both_ends(tmp_path):
    ran(tmp_path, eps=0.1025)
    assert main(["export", str(tmp_path)]) == 0
    text = (tmp_path / "cards" / "m.md").read_text()
    assert "certified accuracy at linf 0.1025, lower bound, n = 40" in text
    assert "| linf 0.1025 | ≥ 50.0 % | ≤ 50.0 % | 40 | IBP then CROWN |" in text


def test_curves_have_both_ends(tmp_path):
    result = ran(tmp_path, eps=0.1025, on_curve=curve([0.0525, 0.1025, 0.1525], "eps", eps=0.1025))
    (line,) = curves(result.study)[0].lines
    certified, attacked = dict(line.certified), dict(line.points)
    assert [certified[eps].count for eps in (0.0, 0.0525, 0.1025, 0.1525)] == [40, 30, 20, 10]
    assert all(certified[eps].count == attacked[eps].count for eps in attacked)  # both are exact here
    assert len(brackets(result.study)) == 1  # of the budget that is claimed
    assert "The thin line below a curve is what is certified" in result.report.read_text()


def test_certificates_are_reused_and_other_certifiers_are_another_question(tmp_path, monkeypatch):
    ran(tmp_path)
    calls, real = [], CertifyTask.run_task
    monkeypatch.setattr(CertifyTask, "run_task", lambda self, progress=None: calls.append(self) or real(self, progress))
    ran(tmp_path)
    assert calls == []
    ran(tmp_path, certify="lipschitz")
    assert [task.first for task in calls] == [0, 32]


def test_workers_say_the_same(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
    here = ran(tmp_path / "here", model=model, eps=0.02)
    there = ran(tmp_path / "there", model=model, eps=0.02, executor=Local(1))
    assert torch.equal(here.study.certificates[0].decision, there.study.certificates[0].decision)


def test_a_sample_that_is_certified_and_broken_stops_the_run_and_is_said(tmp_path, monkeypatch):
    real = CertifyTask.run_task

    def sure(self, progress=None):
        found = real(self, progress)
        return replace(found, record={**found.record, "decision": [int(Decision.CERTIFIED)] * self.count})

    monkeypatch.setattr(CertifyTask, "run_task", sure)
    notes = []
    with pytest.raises(
        RuntimeError, match=r"m, linf 0.1: \d+ samples .* certified by IBP then CROWN and broken by PGD"
    ):
        ran(tmp_path, reporter=Reporter(note=notes.append))
    assert any("a bound, the referee or the model is wrong" in text for text in notes)


def test_a_model_that_cannot_be_bounded_is_said_and_attacked_all_the_same(tmp_path):
    model = nn.Sequential(Linear(), nn.Sigmoid())
    notes = []
    result = ran(tmp_path, model=model, reporter=Reporter(note=notes.append))
    assert result.complete
    (bracket,) = brackets(result.study)
    assert "layers that bounds know" in bracket.fault
    assert not bracket.is_closed
    assert any("cannot be certified" in text for text in notes)
    assert "No lower end" in result.report.read_text()


def decisions(*codes):
    ones = torch.zeros(len(codes), dtype=torch.int64)
    return CertifiedBudget("m", "linf 0.1", ("IBP",), torch.tensor([int(c) for c in codes]), ones, 1.0)


def test_a_bracket_counts_each_sample_once():
    certified = decisions(Decision.CERTIFIED, Decision.OPEN, Decision.OPEN, Decision.BROKEN, Decision.MISCLASSIFIED)
    status = torch.tensor(
        [int(s) for s in (Status.SURVIVED, Status.SURVIVED, Status.BROKEN, Status.SURVIVED, Status.MISCLASSIFIED)]
    )
    bracket = bracket_of(certified, [status])
    assert (bracket.n, bracket.certified, bracket.possible, bracket.open) == (5, 1, 2, 1)
    assert bracket_of(certified, [replace_first(status, Status.BROKEN)]).contradictions == (0,)
    assert not replace(bracket, fault="no").is_closed


def replace_first(status, code):
    changed = status.clone()
    changed[0] = int(code)
    return changed


@pytest.mark.parametrize(("open_", "closed"), [(0, True), (4, True), (6, False), (30, False)])
def test_closed_is_what_chance_covers_and_little(open_, closed):
    codes = [Decision.BROKEN] * 40 + [Decision.CERTIFIED] * (60 - open_) + [Decision.OPEN] * open_
    bracket = bracket_of(decisions(*codes), [torch.full((100,), int(Status.SURVIVED))])
    assert bracket.is_closed is closed


def test_budgets_that_bounds_do_not_know_are_said(tmp_path):
    notes = []
    question = Question("None", data(), [plan("jsma", eps=2)], certify="ibp")
    options = {"settings": Settings(checks="none"), "reporter": Reporter(notes.append)}
    result = evaluate({"m": Linear()}, question, tmp_path, **options)
    assert result.complete
    assert any("not certified: l0 2 (bounds know balls" in text and "nothing is certified" in text for text in notes)


def test_small_shards_are_certificates_shards_and_status_counts_them(tmp_path, capsys):
    ran(tmp_path, certify="ibp", shard=None)
    with Ledger(tmp_path) as ledger:
        (entry,) = ledger.meta(CERTIFICATES)
    assert [count for _, count in entry["parts"]] == [32, 8]
    ran(tmp_path, certify="ibp", shard=10)
    with Ledger(tmp_path) as ledger:
        (entry,) = ledger.meta(CERTIFICATES)
    assert [count for _, count in entry["parts"]] == [10, 10, 10, 10]
    ran(tmp_path, certify="branch-and-bound:seconds=1")
    with Ledger(tmp_path) as ledger:
        (entry,) = ledger.meta(CERTIFICATES)
    assert {count for _, count in entry["parts"]} == {8}
    capsys.readouterr()
    assert main(["status", str(tmp_path)]) == 0
    assert "40/40" in capsys.readouterr().out.partition("certificates for")[2]


def test_few_samples_do_not_close_a_bracket():
    codes = [Decision.BROKEN] * 12 + [Decision.CERTIFIED] * 9 + [Decision.OPEN] * 3
    assert not bracket_of(decisions(*codes), [torch.full((24,), int(Status.SURVIVED))]).is_closed


def test_what_certifiers_break_counts_in_the_verdict(tmp_path):
    """A weak attack leaves all; branch and bound breaks half: every number of the run says so."""
    question = Question("Broken", data(), [plan("noise:draws=1", eps=0.1025)], certify="branch-and-bound:seconds=5")
    models = {"m": Linear(), "other": Linear(2.0)}
    result = evaluate(models, question, tmp_path, settings=Settings(checks="none"))
    (entry, _), (row, _) = result.summary["models"], result.summary["certificates"]
    assert entry["robust_accuracy"] == row["possible_accuracy"] == row["certified_accuracy"] == 0.5
    attack, more = result.summary["cells"][0]["counts"]["broken"], entry["broken_by_certifiers"]
    assert (attack + more, entry["counts"]["broken"]) == (20, 20)
    assert more > 10
    assert entry["budgets"][0]["robust_accuracy"] == 0.5
    page = result.report.read_text()
    assert f"and the images of certifiers ({more} more broken)" in page
    assert page.partition(">Leaderboard<")[2].partition("</table>")[0].count("50.0\xa0%") >= 4
    assert main(["export", str(tmp_path)]) == 0
    assert "≤ 50.0 %" in (tmp_path / "cards" / "m.md").read_text()


def test_a_study_certifies_at_its_budgets(tmp_path, capsys):
    text = """
title: Certified
models: {clean: {train: {epochs: 1, arch: tiny-cnn}}}
data: {scenes: {load: "scenes:size=16,count=60", limit: 8}}
attacks: ["pgd:steps=3"]
budgets: [{eps: 0.002}, {eps: 0.1, norm: l2}]
certify: [ibp, "crown-ibp"]
run: {checks: none}
"""
    file = tmp_path / "study.yaml"
    file.write_text(text)
    assert parse_study(text).certify == ("ibp", "crown-ibp")
    assert main(["run", str(file), "-o", str(tmp_path / "run"), "--quiet"]) == 0
    rows = json.loads((tmp_path / "run" / "summary.json").read_text())["certificates"]
    assert [row["budget"] for row in rows] == ["linf 0.002", "l2 0.1"]
    printed = capsys.readouterr().out
    assert "certified" in printed
    assert "IBP then CROWN-IBP" in printed
    assert main(["run", str(file), "--dry-run", "--quiet"]) == 0
    with pytest.raises(ValueError, match="did you mean 'crown'"):
        parse_study(text.replace("ibp,", "crwon,"))


def test_a_certifier_that_there_is_not_is_refused_before_anything_is_loaded(tmp_path, capsys):
    words = ["evaluate", "--model", "nowhere.pt", "--data", "scenes:size=16,count=60", "--certify", "nothing"]
    assert main([*words, "--out", str(tmp_path)]) != 0
    assert "certify: expected one of ibp" in capsys.readouterr().err


def test_the_leaderboard_has_both_ends(tmp_path):
    question = Question("Two", data(), [plan("pgd:steps=5", eps=0.1025)], certify="ibp")
    models = {"one": Linear(), "two": nn.Sequential(Linear(), nn.Sigmoid())}
    page = evaluate(models, question, tmp_path, settings=Settings(checks="none")).report.read_text()
    board = page.partition(">Leaderboard<")[2].partition("</table>")[0]
    assert "certified, at least" in board
    assert "<td>50.0\xa0%</td>" in board
    assert "<td>–</td>" in board  # of the one that cannot be bounded
