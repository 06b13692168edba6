import json
import math

import pytest
import torch
from scipy.stats import binomtest

from assay.core.outcome import Status
from assay.store.summary import summarise
from assay.store.verdict import passes, verdicts, worst_status
from assay.util.statistics import exact_interval
from report.builders import ERROR, INVALID, B, M, N, S, cell, outcome, rich, study


def only(*cells, **changed):
    (found,) = verdicts(study(*cells, **changed))
    return found


def test_worst_case_is_per_sample_and_not_the_least_mean():
    found = only(cell([B, S, S, S]), cell([S, B, S, S], attack="Square"))
    assert found.robust.value == 0.5  # each attack alone leaves 0.75
    assert found.status.tolist() == [B, B, S, S]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(S, S, S), (S, B, B), (B, INVALID, B), (S, INVALID, INVALID), (S, ERROR, ERROR), (M, B, M), (S, N, N), (B, N, N)],
)
def test_a_sample_is_robust_only_if_it_survived_everything(first, second, expected):
    both = (outcome([first, S]), outcome([second, S]))
    assert worst_status(both, 2).tolist() == [expected, S]
    assert worst_status(both[::-1], 2).tolist() == [expected, S]


def test_an_attack_that_was_not_run_at_all_is_named_and_not_counted():
    found = only(cell([B, S, S]), cell([N, N, N], attack="Square"))
    assert [c.attack for c in found.skipped] == ["Square"]
    assert (found.robust.count, found.robust.n) == (2, 3)


def test_counts_add_up_to_the_samples():
    found = only(cell([M, B, S, INVALID, ERROR, N]))
    assert found.counts == {s.label: 1 for s in Status}
    assert (found.robust.count, found.robust.n) == (1, 5)
    assert (found.clean.count, found.clean.n) == (4, 5)


def test_what_is_unknown_is_read_both_ways():
    """Samples that came out invalid or raised an error are no robustness, and may be some: the interval covers both."""
    found = only(cell([S, S, B, INVALID, ERROR, N]), cell([S, B, B, S, S, N]))
    assert (found.robust.count, found.robust.n, found.robust.unknown) == (1, 5, 2)
    assert (found.robust.value, found.robust.most) == (0.2, 0.6)
    assert found.robust.interval == (exact_interval(1, 5)[0], exact_interval(3, 5)[1])
    one = outcome([S, INVALID, B, N])
    assert one.readings == (1 / 3, 2 / 3)
    assert one.interval() == found.robust.__class__(1, 3, 1).interval
    assert "(66.7 % if 1 unknown samples are robust)" in str(one)
    assert "unknown" not in str(outcome([S, B]))
    told = summarise(study(cell([S, INVALID, B])))
    assert told["models"][0]["readings"] == [1 / 3, 2 / 3]
    assert told["cells"][0]["readings"] == [1 / 3, 2 / 3]
    assert summarise(study(cell([N, N])))["cells"][0]["readings"] is None


def test_the_headline_chooses_the_budgets_of_the_verdict():
    cells = cell([S, S]), cell([B, S], attack="PGD 64/255", budget="64/255")
    assert only(*cells).robust.value == 0.5
    assert only(*cells, headline=("8/255",)).robust.value == 1.0


def test_a_headline_without_cells_is_refused():
    with pytest.raises(ValueError, match="headline: expected budgets of cells"):
        study(cell([S]), headline=("1/255",))


@pytest.mark.parametrize("n", [1, 7, 50])
def test_interval_is_that_of_scipy(n):
    for k in {0, n // 2, n}:
        expected = binomtest(k, n).proportion_ci(0.95, method="exact")
        assert exact_interval(k, n) == pytest.approx((expected.low, expected.high))
    assert exact_interval(0, 0) == (0.0, 1.0)


def test_passes_are_per_sample_that_was_run():
    assert passes(outcome([M, B, S, N])) == pytest.approx(10 / 3)
    assert passes(outcome([N])) is None
    assert only(cell([B, S]), cell([S, S], attack="Square")).passes == 10


def test_summary_is_strict_json_and_agrees_with_the_outcomes():
    made = rich()
    found = json.loads(json.dumps(summarise(made), allow_nan=False))
    assert len(found["cells"]) == len(made.cells)
    for told, given in zip(found["cells"], made.cells, strict=True):
        assert told["counts"] == given.outcome.counts
        assert told["robust_accuracy"] == pytest.approx(given.outcome.robust_accuracy)
        assert told["clean_accuracy"] == pytest.approx(given.outcome.clean_accuracy)
        assert tuple(told["interval"]) == pytest.approx(given.outcome.interval())
        assert told["n"] == len(given.outcome) - given.outcome.count(Status.NOT_RUN)
        assert sum(told["counts"].values()) == len(made)


def test_summary_has_no_number_where_there_is_none():
    nothing = outcome([N, N], size=torch.full((2,), math.nan), seconds=math.nan)
    made = study(cell([N, N]))
    told = summarise(study(*[type(c)(c.model, c.attack, c.family, c.budget, nothing) for c in made.cells]))
    (only_cell,) = told["cells"]
    for name in ("robust_accuracy", "interval", "clean_accuracy", "passes", "seconds"):
        assert only_cell[name] is None, name
    json.dumps(told, allow_nan=False)


def test_cells_over_other_samples_are_refused():
    with pytest.raises(ValueError, match=r"cells\[1\]\.outcome: expected the same 2 samples"):
        study(cell([S, S]), cell([S, S, S]))


@pytest.mark.parametrize(
    ("name", "value"), [("x", torch.zeros(2, 3)), ("y", torch.zeros(3).long()), ("masks", torch.zeros(2, 3, 8, 8))]
)
def test_shapes_that_do_not_agree_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        study(cell([S, S]), **{name: value})


@pytest.mark.parametrize("eps", [-1, math.nan, math.inf])
def test_a_budget_is_a_number(eps):
    with pytest.raises(ValueError, match="eps: expected"):
        cell([S], eps=eps)
