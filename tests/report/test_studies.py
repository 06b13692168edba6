"""Several studies on one page."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
import torch

from assay.report import choose, render, write_report
from assay.store.summary import summarise

from .builders import B, N, S, cell, rich, study
from .hostile import PAYLOADS, poisoned


class Page(HTMLParser):
    """The elements of a page, the ids around each, and the words by the chapter that they are in."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.chapter, self.words = [], 0, {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if attributes.get("class") == "chapter":
            self.chapter += 1
        self.elements.append((tag, attributes, self.chapter))

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.words[self.chapter] = self.words.get(self.chapter, "") + data

    def ids(self):
        return [attributes["id"] for _, attributes, _ in self.elements if "id" in attributes]


def scenes(**changed):
    return rich(title="Scenes", dataset="scenes", **changed)


def digits():
    return study(cell([B, S, S, S]), cell([S, B, S, S], attack="Square"), title="Digits", dataset="digits")


def embedded(text):
    (data,) = re.findall(r'<script type="application/json" id="summary">(.*?)</script>', text, re.S)
    return json.loads(data, parse_constant=pytest.fail)


@pytest.mark.parametrize("second", [rich, digits, study, lambda: study(cell([N, N]))])
def test_no_id_occurs_twice_and_every_link_arrives(second):
    text = render([scenes(), second(), rich()])
    page = Page(text)
    ids = page.ids()
    assert len(ids) == len(set(ids))
    links = [a["href"] for _, a, _ in page.elements if "href" in a]
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert set(re.findall(r"url\(#([\w-]+)\)", text)) <= set(ids)
    assert {a["for"] for _, a, _ in page.elements if "for" in a} <= set(ids)
    assert {a["aria-labelledby"] for _, a, _ in page.elements if "aria-labelledby" in a} <= set(ids)


def test_ids_of_a_chapter_carry_its_number():
    page = Page(render([scenes(), digits()]))
    for _, attributes, chapter in page.elements:
        if chapter and "id" in attributes and attributes["id"] != "summary":
            assert attributes["id"].startswith(f"chapter-{chapter}"), attributes["id"]


def test_the_overview_links_each_model_with_its_worst_case_to_its_chapter():
    text = render([scenes(), digits()])
    overview = text[text.index('id="overview"') : text.index('id="chapter-1"')]
    assert re.findall(r'<li class="s\d"><a href="#(.*?)">', overview) == ["chapter-1-verdict"] * 2 + [
        "chapter-2-verdict"
    ]
    worths = re.findall(r'<span class="worth">([\d.]+)<i>%</i></span>', overview)
    told = summarise([scenes(), digits()])["studies"]
    assert [float(worth) for worth in worths] == [
        pytest.approx(100 * model["robust_accuracy"], abs=0.051) for one in told for model in one["models"]
    ]


def test_the_navigation_names_the_chapters():
    text = render([scenes(), digits()])
    top = text[text.index('<nav class="top"') : text.index("</nav>")]
    assert re.findall(r'href="#(.*?)"', top) == ["overview", "chapter-1", "chapter-2"]
    assert "Scenes" in top
    assert "Digits" in top
    assert len(re.findall(r'<nav class="contents"', text)) == 2


def test_each_chapter_tells_of_its_own_study():
    page = Page(render([scenes(), digits()]))
    assert "Correct on 2 of 4 images under both attacks" in page.words[2]
    assert "Correct on 2 of 4 images" not in page.words[1]
    for number in (1, 2):
        for section in ("Every attack", "Class by class", "Sample by sample", "Gallery", "Reproduce"):
            assert section in page.words[number], section


def test_headings_never_skip_a_level():
    for given in (scenes(), [scenes(), digits()]):
        levels = [int(tag[1]) for tag, _, _ in Page(render(given)).elements if re.fullmatch(r"h\d", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b <= a + 1 for a, b in pairwise(levels))


def test_one_study_in_a_sequence_is_shown_as_one_study():
    assert render([rich()]) == render((rich(),)) == render(rich())
    assert 'id="verdict"' in render([rich()])
    assert "chapter-1" not in render([rich()])


@pytest.mark.parametrize(
    ("given", "title", "expected"),
    [(1, None, "A study"), (1, "Mine", "Mine"), (2, None, "Robustness in 2 studies"), (2, "Mine", "Mine")],
)
def test_the_title(given, title, expected):
    text = render([digits(), rich()][-given:], title=title)
    assert f"<title>{expected}</title>" in text
    assert f"<h1><bdi>{expected}</bdi></h1>" in text


def test_the_summary_of_a_sequence_holds_that_of_each():
    pair = [scenes(), digits()]
    assert summarise(pair) == {"studies": [summarise(pair[0]), summarise(pair[1])]}
    assert [one["title"] for one in summarise(pair)["studies"]] == ["Scenes", "Digits"]
    assert [one["dataset"] for one in summarise(tuple(pair))["studies"]] == ["scenes", "digits"]
    assert summarise(pair[:1]) == {"studies": [summarise(pair[0])]}


def test_the_summary_is_embedded_as_it_is():
    pair = [scenes(), digits()]
    assert embedded(render(pair)) == json.loads(json.dumps(summarise(pair)))
    assert embedded(render(pair[:1])) == json.loads(json.dumps(summarise(pair[0])))


@pytest.mark.parametrize("call", [render, summarise])
def test_what_is_no_study_is_refused(call):
    with pytest.raises(ValueError, match="studies: expected at least one study, got none"):
        call([])
    with pytest.raises(TypeError, match=r"studies\[1\]: expected a study, got str"):
        call([digits(), "digits"])
    with pytest.raises(TypeError, match="studies: expected a study or a sequence of them, got int"):
        call(3)


def test_hostile_titles_stay_text():
    pair = [replace(poisoned(), title=payload) for payload in PAYLOADS]
    text = render(pair, title=PAYLOADS[0], cards=1)
    page = Page(text)
    clean = Page(render([rich(warnings=("w",) * 3), rich()]))
    assert {tag for tag, _, _ in page.elements} <= {tag for tag, _, _ in clean.elements}
    assert sum(tag == "script" for tag, _, _ in page.elements) == 2
    assert not [name for _, a, _ in page.elements for name in a if name.startswith("on") or name == "style"]
    assert len(page.ids()) == len(set(page.ids()))
    for payload in PAYLOADS:
        if "<" in payload:
            assert payload not in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    text.encode("utf-8")


def test_studies_of_the_same_name_are_told_apart_by_their_number():
    text = render([rich(), rich()])
    assert text.count("<b>1</b> <bdi>A study</bdi>") == text.count("<b>2</b> <bdi>A study</bdi>") == 1


def test_studies_share_what_a_page_can_hold():
    small, large = (study(cell([B, S] * 60, side=side), side=side) for side in (32, 96))
    assert len(choose(small, among=2)) == 60
    assert len(choose(large)) == 60
    assert len(choose(large, among=2)) == 30
    assert len(choose(large, 50, among=2)) == 50
    with pytest.raises(ValueError, match="among: expected a whole number that is at least 1"):
        choose(large, among=0)


def test_every_outcome_is_still_shown_where_the_images_are_small():
    many = study(*[cell([B, S], attack=f"attack {i}") for i in range(55)])
    assert len(choose(many, among=2)) == 110
    assert len(choose(study(*[cell([B, S], attack=f"attack {i}", side=96) for i in range(55)], side=96), among=4)) == 30


def test_two_galleries_of_sixty_small_cards_stay_under_four_megabytes(tmp_path):
    def noisy(seed):
        generator = torch.Generator().manual_seed(seed)
        x = torch.rand(60, 3, 32, 32, generator=generator)
        attacked = (x + 8 / 255 * torch.randn(60, 3, 32, 32, generator=generator)).clamp(0, 1)
        saliency = torch.nn.functional.interpolate(torch.rand(60, 1, 6, 6, generator=generator), size=32)
        found = cell([B, B, S] * 20, side=32, clean=x, images=attacked)
        return study(found, side=32, x=x, saliency=saliency, masks=(saliency > 0.5).float())

    path = write_report([noisy(0), noisy(1)], tmp_path / "two.html")
    assert path.read_text(encoding="utf-8").count('<article class="card') == 120
    assert path.stat().st_size < 4_000_000


def test_the_same_studies_give_the_same_page():
    assert render([rich(), digits()]) == render([rich(), digits()])
