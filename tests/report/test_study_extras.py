"""Claims, answers, grades, the leaderboard and the plane of cost and strength."""

import html
import re

import pytest

from assay.report import render
from assay.store.judged_claims import ClaimResult
from assay.store.results import CheckAnswer, GradeReport
from assay.store.study_extras import DiagnosticResult, StudyExtras
from assay.store.summary import summarise

from .builders import B, M, S, cell, rich, study
from .hostile import PAYLOADS

CLAIMS = (
    ClaimResult(
        "Robust training helps.",
        "table 1",
        "50 %",
        "47.1 %",
        "40 % to 54 %",
        "holds",
        "at least 20 %",
        "Smaller images.",
    ),
    ClaimResult("It costs nothing.", "figure 2", "", "not measured"),
    ClaimResult("Always.", "section 3", "100 %", "3.0 %", "1 % to 9 %", "does not hold", "at least 90 %"),
)


def checked(grade="weak", level="warning"):
    answers = (
        CheckAnswer("B6", "converged in steps", level, "twice the steps break more", "PGD"),
        CheckAnswer("A4", "logits", "passed", "outputs are unbounded scores"),
    )
    return GradeReport(grade, ("B6",), answers)


def test_claims_stand_beside_our_numbers():
    page = html.unescape(render(rich(), extras=StudyExtras("What it is about.", CLAIMS)))
    for text in (
        "What it is about.",
        "Robust training helps.",
        "50 %",
        "47.1 %",
        "Smaller images.",
        "not measured",
        "40 % to 54 %",
        "at least 20 %",
    ):
        assert text in page
    assert page.count("<dd>holds") == page.count("<dd>does not hold") == 1
    assert "Claims" not in render(rich())


def test_answers_of_diagnostics_are_shown():
    finding = DiagnosticResult(
        "answer-1",
        "Gradients",
        "Where does it look?",
        "Nowhere.",
        ("<svg></svg>",),
        ({"model": "a", "share": 0.25}, {"model": "b", "share": float("nan")}),
        "the ledger",
    )
    page = render(rich(), extras=StudyExtras("", (), (finding,)))
    assert 'id="answer-1"' in page
    assert "Nowhere." in page
    assert "0.25" in page


@pytest.mark.parametrize("grade", ["unusable", "weak", "standard", "strong"])
def test_a_grade_stands_beside_every_verdict(grade):
    page = render(rich(grades={"plain": checked(grade), "trained": checked(grade)}))
    assert page.count(f'class="grade is-{grade}"') >= 2 * 3  # verdict, its details, leaderboard
    assert "twice the steps break more" in page
    told = summarise(rich(grades={"plain": checked(grade)}))
    assert told["models"][0]["grade"]["grade"] == grade
    assert told["models"][0]["grade"]["doubts"][0]["check"] == "B6"
    assert told["models"][1]["grade"] is None


def test_the_leaderboard_has_the_most_robust_first():
    cells = [cell([S, S, S, B], "strong"), cell([M, B, B, B], "weak"), cell([S, B, B, B], "middling")]
    page = render(study(*cells))
    board = page[page.index("Leaderboard") : page.index("Every attack")]
    assert re.findall(r"<bdi>(strong|weak|middling)</bdi></th>", board) == ["strong", "middling", "weak"]
    assert "Leaderboard" not in render(study(cells[0]))


def test_cost_and_strength_of_attacks():
    page = render(study(cell([S, B, B, M]), cell([S, S, B, M], attack="Square 8/255", family="Square")))
    assert "Cost and strength" in page
    assert "Cost and strength of attacks: PGD-40 linf 8/255, Square 8/255" in page
    assert "Cost and strength" not in render(study(cell([S, B, B, M])))


@pytest.mark.parametrize("payload", PAYLOADS[:12])
def test_nothing_from_outside_is_markup(payload):
    finding = DiagnosticResult("answer-1", payload, payload, payload, (), ({payload: payload},))
    extras = StudyExtras(payload, (ClaimResult(payload, payload, payload, payload, None, payload),), (finding,))
    page = render(
        rich(grades={"plain": GradeReport("weak", (payload,), (CheckAnswer("A1", payload, "warning", payload),))}),
        extras=extras,
    )
    clean = render(
        rich(grades={"plain": GradeReport("weak", ("x",), (CheckAnswer("A1", "x", "warning", "x"),))}),
        extras=StudyExtras(
            "x",
            (ClaimResult("x", "x", "x", "x", None, "x"),),
            (DiagnosticResult("answer-1", "x", "x", "x", (), ({"x": "x"},)),),
        ),
    )
    assert len(re.findall(r"<[a-zA-Z]", page)) == len(re.findall(r"<[a-zA-Z]", clean))
