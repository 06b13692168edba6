import re
from xml.etree import ElementTree

import pytest

from assay.report.figures import curves, draw
from assay.util.text import compact, levels, plain

from .builders import B, N, S, cell, rich, study


def test_a_curve_starts_at_the_clean_accuracy_and_takes_the_worst_at_each_budget():
    made = study(
        cell([S, S, B], attack="a", eps=0.1, curve="c"),
        cell([B, S, S], attack="b", eps=0.1, curve="c"),
        cell([B, B, B], attack="c", eps=0.2, curve="c"),
        cell([S, S, S], attack="other"),
    )
    (curve,) = curves(made)
    (line,) = curve.lines
    assert [(eps, share.count, share.n) for eps, share in line.points] == [(0.0, 3, 3), (0.1, 1, 3), (0.2, 0, 3)]


def test_an_attack_that_was_run_at_budget_zero_stands_there_instead_of_the_clean_accuracy():
    """On a curve over the background budget the foreground budget is still spent at zero."""
    points = [
        cell([B, S, S, S], budget="F 4/255, B 0", eps=0.0, curve="dual", attack="dual 0"),
        cell([B, B, S, S], budget="F 4/255, B 8/255", eps=8 / 255, curve="dual", attack="dual 8"),
    ]
    (line,) = curves(study(*points))[0].lines
    assert [share.value for _, share in line.points] == [0.75, 0.5]


def test_without_measured_budgets_there_is_no_curve():
    assert curves(study(cell([S], eps=0.1))) == ()
    assert curves(study(cell([N], eps=0.1, curve="c"))) == ()


def test_a_drawing_follows_the_page_and_obeys_its_policy():
    drawn = draw(curves(rich())[0], "curve0")
    root = ElementTree.fromstring(drawn)
    assert root.tag == "svg"
    assert {"currentColor", "var(--s0)", "var(--s1)", "var(--rule)"} <= set(re.findall(r'(?<==")[^"]*(?=")', drawn))
    assert "style" not in {name for element in root.iter() for name in element.attrib}
    assert not [element for element in root.iter() if element.tag in ("style", "script", "metadata", "image")]
    assert "#ffffff" not in drawn


def test_ids_are_unique_over_figures_and_references_resolve():
    curve = curves(rich())[0]
    ids = []
    for key in ("curve0", "curve1"):
        drawn = draw(curve, key)
        own = re.findall(r'\bid="([^"]+)"', drawn)
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', drawn)) <= set(own)
        ids += own
    assert len(ids) == len(set(ids))


def test_a_drawing_is_deterministic():
    curve = curves(rich())[0]
    assert draw(curve, "a") == draw(curve, "a")


def test_hostile_names_stay_text_in_a_drawing():
    made = rich()
    curve = curves(made)[0]
    hostile = type(curve)('<script>"$\\frac{1}{0}$', curve.lines)
    root = ElementTree.fromstring(draw(hostile, "a"))
    assert '<script>"$\\frac{1}{0}$' in root.attrib["aria-label"]


def test_drawing_leaves_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw(curves(rich())[0], "a")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\x00\x1b[31mb", "a[31mb"), ("a\r\nb", "a  b"), ("‮gpj.exe", "gpj.exe"), ("\ud800", "\ufffd"), ("\x07", "–")],
)
def test_text_that_is_not_meant_to_be_seen_is_removed(text, expected):
    assert plain(text) == expected


def test_numbers_read_well():
    assert [levels(v) for v in (8 / 255, 0.5 / 255, 0.0, float("nan"))] == ["8/255", "0.5/255", "0", "–"]
    assert [compact(v) for v in (0.0, 3.14159, float("inf"), None)] == ["0", "3.14", "–", "–"]
