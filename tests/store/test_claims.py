"""Claims: a number of the study with its interval, beside that of the paper."""

import pytest

from assay.store.judged_claims import judge_claims
from report.builders import B, M, S, cell, study

STUDIES = {
    "scenes": study(
        cell([S, S, B, M], "robust", "PGD", budget="4/255"),
        cell([S, B, B, M], "robust", "APGD", "APGD linf (adaptive)"),
        cell([B, B, B, S], "clean", "PGD"),
    ),
    "many": study(
        cell([S] * 80 + [B] * 20, "at", "PGD"),
        cell([S] * 20 + [B] * 80, "clean", "PGD"),
        cell([S] * 80 + [B] * 18 + [S] * 2, "twin", "PGD"),
    ),
}
ANSWERS = [
    {
        "name": "learning",
        "frame": [
            {"epoch": 0, "part": "test", "accuracy": 0.2, "n": 50},
            {"epoch": 5, "part": "test", "accuracy": 0.8, "n": 50},
            {"epoch": 5, "part": "train", "accuracy": 0.9, "accuracy from": 0.85, "accuracy to": 0.95},
            {"epoch": 9, "part": "train", "accuracy": 0.9},
        ],
    }
]
ATTACKS = {
    "pgd": [["PGD linf", "4/255", False], ["PGD linf", "8/255", False]],
    "apgd:steps=9": [["APGD linf", "8/255", False], ["APGD linf", "16/255", True]],
}
NBSP = "\N{NO-BREAK SPACE}"


def judged(**claim):
    (result,) = judge_claims([{"says": "so", "source": "there", **claim}], STUDIES, ANSWERS, ATTACKS)
    return result


NUMBERS = [
    ({"ours": {"robust": "robust"}}, f"25.0{NBSP}%"),
    ({"ours": {"robust": "robust", "attack": "pgd"}}, f"50.0{NBSP}%"),
    ({"ours": {"robust": "robust", "attack": "apgd:steps=9"}}, f"25.0{NBSP}%"),
    ({"ours": {"robust": "robust", "budget": "4/255"}}, f"50.0{NBSP}%"),
    ({"ours": {"clean": "robust"}}, f"75.0{NBSP}%"),
    (
        {"ours": {"robust": "robust", "budget": "4/255"}, "less": {"robust": "clean"}, "unit": "points"},
        "+25.0 points",
    ),
    ({"ours": {"clean": "clean", "data": "scenes"}, "over": {"robust": "clean"}, "unit": "times"}, "4.00 ×"),
    ({"ours": {"robust": "nobody"}}, "not measured"),
    ({"ours": {"answer": "learning", "column": "accuracy", "where": {"part": "test"}}}, f"50.0{NBSP}%"),
    (
        {"ours": {"answer": "learning", "column": "accuracy", "where": {"part": "test"}, "take": "last"}},
        f"80.0{NBSP}%",
    ),
    ({"ours": {"answer": "learning", "column": "epoch", "take": "most"}, "unit": "percent"}, f"9.0{NBSP}%"),
    ({"ours": {"answer": "nothing", "column": "accuracy"}}, "not measured"),
    ({"ours": {"robust": "robust", "size": "linf"}, "unit": "plain"}, "0.03137"),
]


@pytest.mark.parametrize(("claim", "words"), NUMBERS)
def test_our_number(claim, words):
    assert judged(**claim).ours == words


def test_an_attack_is_chosen_by_its_whole_name():
    """Part of a name would pool attacks: strattack with groups of 2 and of 3."""
    assert judged(ours={"robust": "robust", "attack": "apgd"}).ours == "not measured"


def test_claims_of_ledgers_of_before_name_a_part():
    claim = {"says": "so", "ours": {"robust": "robust", "attack": "apgd"}}
    (result,) = judge_claims([claim], STUDIES, ANSWERS)
    assert result.ours == f"25.0{NBSP}%"


VERDICTS = [
    ({"ours": {"robust": "at"}, "least": 0.6}, "holds"),
    ({"ours": {"robust": "at"}, "least": 0.75}, "cannot tell"),
    ({"ours": {"robust": "at"}, "least": 0.95}, "does not hold"),
    ({"ours": {"robust": "at"}, "least": 0.6, "most": 0.95}, "holds"),
    ({"ours": {"robust": "at"}, "most": 0.6}, "does not hold"),
    ({"ours": {"robust": "at"}}, ""),
    ({"ours": {"robust": "at"}, "less": {"robust": "clean", "data": "many"}, "least": 0.4}, "holds"),
    ({"ours": {"answer": "learning", "column": "accuracy", "where": {"epoch": 0}}, "most": 0.5}, "holds"),
    ({"ours": {"answer": "learning", "column": "accuracy", "where": {"epoch": 0}}, "most": 0.25}, "cannot tell"),
    ({"ours": {"robust": "nobody"}, "least": 0.1}, ""),
]


@pytest.mark.parametrize(("claim", "words"), VERDICTS)
def test_the_whole_interval_decides(claim, words):
    assert judged(**claim).verdict == words


def ends(text):
    return [float(part.strip(f" %points{NBSP}")) for part in text.split(" to ")]


def test_intervals_are_those_of_what_the_number_is():
    from assay.util.statistics import exact_interval

    share = ends(judged(ours={"robust": "at"}).interval)
    assert share == [round(100 * end, 1) for end in exact_interval(80, 100)]
    table = judged(ours={"answer": "learning", "column": "accuracy", "where": {"part": "train", "epoch": 5}})
    assert ends(table.interval) == [85, 95]
    assert not judged(ours={"answer": "learning", "column": "accuracy", "where": {"epoch": 9}}).interval


def test_the_same_samples_make_a_difference_surer():
    """Two models that differ in two samples of a hundred: paired, that is known well."""
    low, high = ends(judged(ours={"robust": "twin"}, less={"robust": "at"}, unit="points").interval)
    assert low < 2 < high
    assert high - low < 8
    alone = ends(judged(ours={"robust": "twin"}).interval)
    assert high - low < 0.6 * (alone[1] - alone[0])


def test_samples_of_other_data_are_no_pairs():
    """As many of them, in the same order by chance: two samples that have nothing to do with each other."""
    codes = [S] * 80 + [B] * 20
    twins = {name: study(cell(codes, name, "PGD")) for name in ("one", "other")}
    claim = {"says": "so", "ours": {"robust": "one"}, "less": {"robust": "other"}, "unit": "points"}
    (result,) = judge_claims([claim], twins, [])
    low, high = ends(result.interval)
    assert low < -9 < 9 < high


def test_an_answer_about_the_training_of_one_model_of_two():
    answers = [
        {"name": "learning", "over": name, "frame": [{"accuracy": v, "n": 50}]} for name, v in (("a", 0.2), ("b", 0.9))
    ]
    claim = {"says": "so", "ours": {"answer": "learning", "over": "b", "column": "accuracy"}, "least": 0.7}
    (result,) = judge_claims([claim], {}, answers)
    assert (result.ours, result.verdict) == (f"90.0{NBSP}%", "holds")


def test_where_a_claim_is_made_names_its_figure():
    assert judged(ours={"robust": "at"}, figure="figure 4").source == "figure 4, there"


def test_whose_threshold_it_is_is_said():
    assert judged(ours={"robust": "at"}, least=0.4).threshold == f"at least 40.0{NBSP}% (our threshold)"
    theirs = judged(ours={"robust": "at"}, least=0.4, threshold="paper")
    assert theirs.threshold == f"at least 40.0{NBSP}% (as the paper says)"
