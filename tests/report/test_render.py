import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest
import torch

import assay.report
from assay.core.outcome import Status
from assay.report import render, write_report
from assay.store.results import CellResult

from .builders import B, M, N, S, cell, rich, study
from .hostile import PAYLOADS, poisoned

TEMPLATES = files("assay.report").joinpath("templates")


class Page(HTMLParser):
    """Elements and text of a page, as a browser would see them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_the_page_needs_nothing_from_outside():
    page = Page(render(rich()))
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base"), tag
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "action", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,")), attributes[name]
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", "".join(page.words))


def test_the_policy_allows_exactly_our_style_and_script():
    text = render(rich())
    policy = next(a["content"] for t, a in Page(text).elements if a.get("http-equiv", "") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "unsafe" not in policy


def test_templates_never_switch_escaping_off():
    names = [entry.name for entry in TEMPLATES.iterdir()]
    assert sum(name.endswith(".html.j2") for name in names) >= 5
    for name in names:
        text = TEMPLATES.joinpath(name).read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", text), name


def test_only_our_own_parts_are_trusted_markup():
    marked = []
    for entry in files("assay.report").iterdir():
        if entry.name.endswith(".py"):
            marked += re.findall(r"Markup\(((?:[^()\n]|\([^()\n]*\))+)\)", entry.read_text(encoding="utf-8"))
    assert sorted(marked) == [
        "_draw(points, prefix, label)",
        "draw(curve, key)",
        "figure",
        "script",
        "style",
        "style",
        "style",
    ]


def test_all_six_counts_interval_and_cost_are_shown():
    text = Page(render(rich())).text
    for status in Status:
        assert re.search(rf"\d+ {status.label}", text), status
    assert "95 % interval" in text
    assert "passes per sample" in text
    assert "n = 11" in text


def test_the_verdict_is_the_worst_case_per_sample():
    page = Page(render(study(cell([B, S, S, S]), cell([S, B, S, S], attack="Square"))))
    assert "Correct on 2 of 4 images under both attacks" in page.text
    assert "50.0 %" in page.text


def test_warnings_events_facts_and_command_are_shown():
    given = cell([B, S])
    given = CellResult(given.model, given.attack, given.family, given.budget, _with_event(given.outcome))
    text = Page(
        render(study(given, warnings=("Gradients vanish.",), facts={"seed": "7"}, command="assay x\n  -y"))
    ).text
    for expected in ("Gradients vanish.", "Halved the slots.", "seed", "7", "assay x -y"):
        assert expected in text


def _with_event(outcome):
    from dataclasses import replace

    return replace(outcome, events=("Halved the slots.",))


def test_no_nan_anywhere():
    holes = cell([B, S, N, M], images=torch.full((4, 3, 8, 8), float("nan")), size=torch.full((4,), float("nan")))
    for made in (study(holes), study(cell([N, N])), rich()):
        text = render(made)
        page = Page(text)
        shown = page.text + " ".join(
            str(value) for _, a in page.elements for value in a.values() if not str(value).startswith("data:")
        )
        assert not re.search(r"\b(nan|inf|infinity)\b", shown, re.I)
        (data,) = re.findall(r'<script type="application/json" id="summary">(.*?)</script>', text, re.S)
        json.loads(data, parse_constant=pytest.fail)


@pytest.mark.parametrize(
    "made",
    [
        study(),
        study(n=0),
        study(cell([])),
        study(cell([N, N]), cell([N, N], attack="Square")),
        study(cell([M, M])),
        study(cell([B], classes=1), classes=()),
        study(cell([B, S], channels=1), channels=1),
        study(cell([B, S], channels=2), channels=2),
        study(cell([B, S], channels=5), channels=5),
        study(cell([B, S], side=1), side=1),
        study(*[cell([B, S], model=f"model {i}") for i in range(11)]),
        study(cell([B, S]), cell([S, S])),
    ],
    ids=[
        "no cells",
        "no samples",
        "n = 0",
        "not run",
        "all wrong",
        "no classes",
        "grey",
        "two channels",
        "five channels",
        "one pixel",
        "many models",
        "same attack twice",
    ],
)
def test_edges(made):
    page = Page(render(made))
    assert "Reproduce" in page.text
    assert page.elements[-1][0] in ("script", "html", "body")


def test_nothing_run_is_said_and_not_shown_as_zero():
    text = Page(render(study(cell([N, N])))).text
    assert "there is no verdict" in text
    assert "0.0" not in text
    assert "No attack was run" in Page(render(study())).text


def test_many_classes_are_thinned_and_said_so():
    n = 90
    made = study(cell([B, S, M] * 30, classes=90), y=torch.arange(n), classes=tuple(f"c{i}" for i in range(n)))
    page = Page(render(made, cards=3))
    assert "50 in between are not" in page.text
    assert sum(a.get("class", "").startswith("dumbbell") for _, a in page.elements) == 40


def test_the_same_study_gives_the_same_page():
    assert render(rich()) == render(rich())


def test_hostile_texts_stay_text():
    page_text = render(poisoned())
    page = Page(page_text)
    clean = Page(render(rich(warnings=("w",) * 3)))
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in clean.elements}
    assert sum(tag == "script" for tag, _ in page.elements) == 2
    assert not [name for _, a in page.elements for name in a if name.startswith("on")]
    assert "49" not in re.findall(r"<title>(.*?)</title>", page_text)[0]
    for payload in PAYLOADS:
        if "<" in payload:
            assert payload not in page_text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page_text)
    page_text.encode("utf-8")


def test_hostile_texts_are_shown_and_not_lost():
    shown = html.unescape(render(poisoned()))
    assert "<script>document.title='owned'</script>" in shown
    assert "{{ 7 * 7 }}" in shown
    assert "$\\frac{1}{0}$" in shown


def test_names_that_differ_only_in_what_is_hidden_stay_apart():
    page = Page(render(study(cell([B, S], model="a"), cell([S, S], model="a\x00"))))
    assert "a (2)" in page.text


def test_the_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    assert write_report(rich(), target) == target
    first = target.read_bytes()
    assert first.decode("utf-8") == render(rich())

    def fails(_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(OSError, match="disk full"):
        write_report(study(), target)
    assert target.read_bytes() == first
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_missing_folders_are_made(tmp_path):
    target = tmp_path / "a" / "b" / "report.html"
    assert write_report(study(cell([B, S])), str(target)) == target
    assert target.stat().st_size


def test_sixty_cards_of_96_pixels_stay_under_four_megabytes():
    codes = [B, B, S] * 20
    noise = torch.rand(60, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.interpolate(noise, size=96, mode="bilinear")
    sign = torch.rand(60, 3, 96, 96, generator=torch.Generator().manual_seed(1)).sub(0.5).sign()
    found = cell(codes, side=96, clean=x, images=(x + 8 / 255 * sign).clamp(0, 1))
    text = render(study(found, side=96, x=x))
    assert text.count('<article class="card') == 60
    assert len(text) < 4_000_000


def test_public_names():
    assert sorted(assay.report.__all__) == [
        "CellResult",
        "CheckAnswer",
        "GradeReport",
        "Pick",
        "Study",
        "Verdict",
        "choose",
        "render",
        "summarise",
        "verdicts",
        "write_report",
    ]
