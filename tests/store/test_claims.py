"""Claims: a number of the study beside that of the paper."""

import pytest

from assay.store.claims import judge_claims
from report.builders import B, M, S, cell, study

STUDIES = {
    "scenes": study(
        cell([S, S, B, M], "robust", "PGD", budget="4/255"),
        cell([S, B, B, M], "robust", "APGD"),
        cell([B, B, B, S], "clean", "PGD"),
    ),
}
ANSWERS = [
    {
        "name": "learning",
        "frame": [
            {"epoch": 0, "part": "test", "accuracy": 0.2},
            {"epoch": 5, "part": "test", "accuracy": 0.8},
            {"epoch": 5, "part": "train", "accuracy": 0.9},
        ],
    }
]

CASES = [
    ({"ours": {"robust": "robust"}}, "25.0\N{NO-BREAK SPACE}%", None),
    ({"ours": {"robust": "robust", "attack": "pgd"}}, "25.0\N{NO-BREAK SPACE}%", None),
    ({"ours": {"robust": "robust", "budget": "4/255"}, "least": 0.4}, "50.0\N{NO-BREAK SPACE}%", True),
    ({"ours": {"clean": "robust"}, "most": 0.5}, "75.0\N{NO-BREAK SPACE}%", False),
    (
        {"ours": {"robust": "robust", "budget": "4/255"}, "less": {"robust": "clean"}, "unit": "points"},
        "+25.0 points",
        None,
    ),
    ({"ours": {"clean": "clean"}, "over": {"robust": "clean"}, "unit": "times"}, "4.00 ×", None),
    ({"ours": {"robust": "nobody"}, "least": 0.1}, "not measured", None),
    ({"ours": {"answer": "learning", "column": "accuracy", "where": {"epoch": 5}}}, "85.0\N{NO-BREAK SPACE}%", None),
    (
        {
            "ours": {"answer": "learning", "column": "accuracy", "where": {"part": "test"}, "take": "last"},
            "unit": "plain",
        },
        "0.8",
        None,
    ),
    (
        {"ours": {"answer": "learning", "column": "epoch", "take": "most"}, "unit": "percent"},
        "5.0\N{NO-BREAK SPACE}%",
        None,
    ),
    ({"ours": {"answer": "nothing", "column": "accuracy"}}, "not measured", None),
    ({"ours": {"robust": "robust", "size": "linf"}, "unit": "plain"}, "0.03137", None),
]


@pytest.mark.parametrize(("claim", "words", "holds"), CASES)
def test_our_number(claim, words, holds):
    (found,) = judge_claims([{"says": "so", "source": "there", **claim}], STUDIES, ANSWERS)
    assert (found.ours, found.holds) == (words, holds)
