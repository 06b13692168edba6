"""Checks as work: the same answers whoever carries them out, each kept as it comes, none asked twice."""

import re
import shutil

import pytest

from assay.engine.api import attack
from assay.runs import checks
from assay.runs.executors import Local
from assay.store.ledger import Ledger
from assay.study.run import run_study
from assay.trust import CHECKS, CheckRequest
from assay.trust.answer import failed
from assay.util.progress import Reporter
from runs.builders import STUDY, study
from study.test_run import Failing

SMALL = STUDY.replace("run: {shard: 8}", "run: {shard: 8, check_samples: 8}")
ONE = SMALL.replace("  other: {train: {epochs: 1, arch: tiny-cnn, seed: 1}}\n", "")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of one model, in this process."""
    folder = tmp_path_factory.mktemp("checked") / "run"
    run_study(study(text=ONE), folder)
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def answers(folder):
    """What was answered of each model, without times."""
    with Ledger(folder) as ledger:
        return {
            name: [
                (a["check"], a["about"], a["level"], a["text"])
                for a in ledger.answer(key)["checks"]
                if a["check"] != "B9"
            ]
            for name, key in ledger.meta("checks").items()
        }


def forgotten(folder, *kinds):
    """Take answers out of a ledger."""
    with Ledger(folder, write=True) as ledger, ledger.transaction() as db:
        for kind in kinds:
            db.execute("DELETE FROM answer WHERE kind = ?", (kind,))


@pytest.fixture
def asked(monkeypatch):
    """The names of what is asked in this process."""
    names, answer = [], CheckRequest.answer

    def noted(self, exam):
        names.extend([self.check] if exam.run is attack else ())  # a forecast asks, but attacks nothing
        return answer(self, exam)

    monkeypatch.setattr(CheckRequest, "answer", noted)
    return names


def test_workers_give_the_same_answers(whole, tmp_path):
    run_study(study(text=ONE), tmp_path / "run", executor=Local(2, threads=1))
    (here,), (there,) = answers(whole).values(), answers(tmp_path / "run").values()
    assert [pair for pair in zip(here, there, strict=True) if pair[0] != pair[1]] == []
    assert {name for name, *_ in answers(whole)["scenes/clean"]} == set(CHECKS) - {"B9"}


def test_what_was_answered_is_not_asked_again(copy, asked):
    before = answers(copy)
    run_study(study(text=ONE), copy)
    assert asked == []
    forgotten(copy, "checks")
    run_study(study(text=ONE), copy)
    assert asked == []
    forgotten(copy, "checks", "looked")
    run_study(study(text=ONE), copy)
    assert "A1" in asked
    assert not any(CHECKS[name].slow for name in asked)
    assert answers(copy) == before


def test_another_model_is_no_reason_to_attack_this_one_anew(copy, asked):
    run_study(study(text=SMALL), copy)
    slow = sum(check.slow * (2 if check.each else 1) for check in CHECKS.values() if not check.of_answers)
    assert sum(CHECKS[name].slow for name in asked) == slow  # those of the new one
    assert set(answers(copy)) == {"scenes/clean", "scenes/other"}


def test_what_they_cost_is_said_beforehand(copy):
    said = []
    forgotten(copy, "checks", "looked", "check")
    run_study(study(text=ONE), copy, reporter=Reporter(note=said.append))
    (cost,) = [text for text in said if "checks rerun attacks" in text]
    assert re.search(r"\d+ checks rerun attacks, at most [\d,]+ passes of the model", cost)
    assert said.index(cost) < next(i for i, text in enumerate(said) if ": evidence " in text)
    forgotten(copy, "checks")
    said.clear()
    run_study(study(text=ONE), copy, reporter=Reporter(note=said.append))
    assert any(": evidence " in text for text in said)
    assert not any("checks rerun attacks" in text for text in said)  # they are all answered


def test_the_cost_is_that_of_what_is_missing(tmp_path):
    said = []
    run_study(study(text=ONE.replace("check_samples: 8", "check_samples: 8, checks: fast")), tmp_path / "run")
    run_study(study(text=ONE), tmp_path / "run", reporter=Reporter(note=said.append))
    (cost,) = [text for text in said if "checks rerun attacks" in text]
    assert not cost.split(": ", 1)[1].startswith("0 checks")
    assert "at most 0 passes" not in cost


def test_a_lost_worker_is_replaced(whole, copy):
    forgotten(copy, "checks", "check")
    run_study(study(text=ONE), copy, executor=Failing({"C11": 2}))
    assert answers(copy) == answers(whole)


def test_what_could_not_be_carried_out_is_open_and_asked_again(copy, asked, whole):
    forgotten(copy, "checks", "check")
    run_study(study(text=ONE), copy, executor=Failing({"C11": 9}))
    (found,) = answers(copy).values()
    (text,) = [text for name, _, level, text in found if name == "C11" and level == "open"]
    assert "its process ended 3 times" in text
    asked.clear()
    run_study(study(text=ONE), copy)
    assert asked == ["C11"]
    assert answers(copy) == answers(whole)


def test_an_exception_is_open_and_asked_again(copy, monkeypatch, whole):
    forgotten(copy, "checks", "check", "looked")
    with monkeypatch.context() as patch:
        patch.setattr(CheckRequest, "answer", lambda self, _: failed(f"KeyError: {self.check}"))
        found = run_study(study(text=ONE), copy)
    assert list(found.session.grades.values()) == ["weak"]
    assert all(level == "open" for given in answers(copy).values() for *_, level, _ in given)
    run_study(study(text=ONE), copy)
    assert answers(copy) == answers(whole)


def test_an_end_between_two_checks_keeps_those_before(copy, monkeypatch, asked, whole):
    """As by a first Ctrl-C: nothing is lost, nothing is asked twice, and no report is written of half the checks."""
    forgotten(copy, "checks", "check")
    run_queue = checks.run_queue

    def interrupted(todo, executor, end, *more):
        for number, found in enumerate(run_queue(todo, executor, end, *more)):
            yield found
            if number == 4:
                end.signal = 2

    (copy / "report.html").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(checks, "run_queue", interrupted)
        found = run_study(study(text=ONE), copy)
    assert (found.session.signal, found.session.complete, found.report) == (2, False, None)
    assert not (copy / "report.html").exists()
    with Ledger(copy) as ledger:
        assert ledger.meta("checks") == {}  # no grade of half the checks, nor of an earlier plan
    first = list(asked)
    assert len(first) == 5
    asked.clear()
    run_study(study(text=ONE), copy)
    slow = sum(check.slow * (2 if check.each else 1) for check in CHECKS.values() if not check.of_answers)
    assert len(first) + len(asked) == slow
    assert answers(copy) == answers(whole)
