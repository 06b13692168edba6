import html
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from assay.report import write_report
from assay.store.judged_claims import ClaimResult
from assay.store.results import CheckAnswer, GradeReport
from assay.store.study_extras import DiagnosticResult, StudyExtras

from .builders import rich
from .hostile import PAYLOADS, poisoned

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")]


@pytest.fixture
def browse(tmp_path):
    """Open a file of the test's folder; return its document after the script ran, and what the console said."""
    runs = iter(range(100))

    def open_page(path, *options, fragment=""):
        folder = tmp_path / f"profile{next(runs)}"
        command = [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            "--v=0",
            "--virtual-time-budget=4000",
            f"--user-data-dir={folder}",
            *options,
            path.as_uri() + (f"#{fragment}" if fragment else ""),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return open_page


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_report(rich(), tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def chapters(tmp_path_factory):
    """A page about two studies that differ in name only."""
    pair = [rich(title="Scenes"), rich(title="Digits")]
    return write_report(pair, tmp_path_factory.mktemp("chapters") / "report.html")


def parts(document):
    """The chapters of a document, each as text."""
    return re.split(r'<article class="chapter"', document)[1:]


def driven(path, script):
    """A copy of a page that runs a script of ours at the end, and keeps what it returns in the title."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    ours = f"<script>document.title = JSON.stringify((() => {{ {script} }})())</script></body>"
    copy = path.with_name("driven.html")
    copy.write_text(text.replace("</body>", ours), encoding="utf-8")
    return copy


def visible(document):
    """Attributes of the cards that are not hidden."""
    cards = re.findall(r'<article class="card[^>]*>', document)
    return [dict(re.findall(r'data-(\w+)="([^"]*)"', card)) for card in cards if " hidden" not in card]


def test_the_script_runs_and_the_console_stays_silent(browse, page):
    document, said = browse(page, "--dump-dom")
    assert 'data-ready="1"' in document
    assert said == []
    assert "<canvas" in document
    assert len(visible(document)) == 24


def test_hostile_texts_do_not_run(browse, tmp_path):
    document, said = browse(write_report(poisoned(), tmp_path / "hostile.html"), "--dump-dom")
    assert 'data-ready="1"' in document
    assert said == []
    assert "<title>owned" not in document


@pytest.mark.parametrize(
    ("fragment", "name", "value"),
    [
        ("model=trained", "model", "1"),
        ("outcome=broken", "outcome", "broken"),
        ("class=dog", "class", "1"),
        ("attack=" + quote("Square · 8/255"), "attack", "2"),
    ],
)
def test_filters_live_in_the_address(browse, page, fragment, name, value):
    document, said = browse(page, "--dump-dom", fragment=fragment)
    found = visible(document)
    assert said == []
    assert found
    assert {card[name] for card in found} == {value}


def test_filters_combine_and_may_leave_nothing(browse, page):
    document, _ = browse(page, "--dump-dom", fragment="outcome=error&class=dog")
    assert visible(document) == []
    assert "no card fits" in document


@pytest.mark.parametrize(("power", "clipped"), [(0, 0), (2, 0), (6, 100)])
def test_the_slider_changes_the_drawing(browse, page, power, clipped):
    document, _ = browse(page, "--dump-dom", fragment=f"attack={quote('PGD 8/255')}&outcome=broken&gain={power}")
    assert f'aria-label="perturbation, amplified ×{2**power}"' in document
    shares = [int(share) for share in re.findall(r'title="(\d+) % of the values reach', document)]
    assert shares
    assert max(shares) == clipped


def test_a_card_can_be_linked_and_opens_enlarged(browse, page):
    document, said = browse(page, "--dump-dom", fragment="card=2")
    assert said == []
    assert re.search(r'<dialog id="viewer"[^>]* open', document)
    assert re.search(r'<div id="stage"><div class="tiles">', document)


def test_two_chapters_keep_the_console_silent_and_their_ids_apart(browse, chapters):
    document, said = browse(chapters, "--dump-dom")
    assert said == []
    assert 'data-ready="1"' in document
    ids = re.findall(r'\sid="([^"]+)"', document)
    assert len(ids) == len(set(ids))
    assert [len(visible(part)) for part in parts(document)] == [24, 24]


@pytest.mark.parametrize("number", [1, 2])
def test_an_address_names_its_chapter(browse, chapters, number):
    document, said = browse(chapters, "--dump-dom", fragment=f"chapter={number}&model=trained&outcome=broken&gain=2")
    assert said == []
    asked, other = parts(document) if number == 1 else parts(document)[::-1]
    assert {(card["model"], card["outcome"]) for card in visible(asked)} == {("1", "broken")}
    assert len(visible(other)) == 24
    assert 'aria-label="perturbation, amplified ×4"' in asked
    assert 'aria-label="perturbation, amplified ×4"' not in other


def test_a_card_of_a_chapter_opens_in_its_own_dialog(browse, chapters):
    document, said = browse(chapters, "--dump-dom", fragment="chapter=2&card=1")
    assert said == []
    assert re.findall(r'<dialog id="([\w-]+)"[^>]* open', document) == ["chapter-2-viewer"]
    assert re.search(r'<div id="chapter-2-stage"><div class="tiles">', document)
    assert '<div id="chapter-1-stage"></div>' in document


def test_the_controls_of_two_chapters_work_apart(browse, chapters):
    page = driven(
        chapters,
        """
        const one = (query) => document.querySelector(query);
        const state = () => [1, 2].map((i) => [
          document.querySelectorAll(`#chapter-${i}-cards .card:not([hidden])`).length,
          one(`#chapter-${i}-gain-shown`).textContent,
          one(`#chapter-${i}-cards .times`).textContent,
          one(`#chapter-${i}-gallery`).classList.contains("bare"),
          one(`#chapter-${i}-viewer`).open,
        ]).concat(location.hash);
        const told = [state()];
        const act = (run) => { run(); told.push(state()); };
        act(() => one("#chapter-2-more").click());
        act(() => one('#chapter-1-controls [name=outcome][value=error]').click());
        act(() => {
          one("#chapter-2-gain").value = 0;
          for (const kind of ["input", "change"]) one("#chapter-2-gain").dispatchEvent(new Event(kind));
        });
        act(() => one("#chapter-2-outlines").click());
        act(() => one("#chapter-1-cards .card:not([hidden]) .tiles").click());
        return told;
        """,
    )
    document, said = browse(page, "--dump-dom")
    assert said == []
    told = json.loads(re.search(r"<title>(.*?)</title>", document)[1].replace("&amp;", "&"))
    start, more, filtered, amplified, bare, opened = told
    (shown, gain, *_), (_, *rest), _ = start
    assert shown == 24
    assert more[0] == start[0]
    assert more[1][0] > 24
    assert more[1][1:] == rest
    assert filtered[0][0] == 2
    assert filtered[1] == more[1]
    assert filtered[2] == "#chapter=1&outcome=error"
    assert [part[1:3] for part in amplified[:2]] == [[gain, gain], ["×1", "×1"]]
    assert amplified[2] == "#chapter=2&gain=0"
    assert [part[3] for part in bare[:2]] == [False, True]
    assert [part[4] for part in opened[:2]] == [True, False]
    assert opened[2].startswith("#chapter=1&outcome=error&card=")


def test_the_chapter_that_is_read_is_marked(browse, chapters):
    document, _ = browse(chapters, "--dump-dom")
    assert re.findall(r'<a href="#([\w-]+)"[^>]*aria-current', document) == ["overview"]
    document, _ = browse(chapters, "--dump-dom", fragment="chapter=2")
    assert re.findall(r'<a href="#([\w-]+)"[^>]*aria-current', document) == ["chapter-2"]


def test_hostile_chapter_titles_do_not_run(browse, tmp_path):
    pair = [replace(poisoned(), title=PAYLOADS[i]) for i in (0, 2, 5)]
    document, said = browse(write_report(pair, tmp_path / "hostile.html", title=PAYLOADS[1], cards=5), "--dump-dom")
    assert 'data-ready="1"' in document
    assert said == []
    assert "<title>owned" not in document


def test_a_phone_scrolls_up_and_down_only(browse, chapters):
    page = driven(chapters, "return [document.documentElement.scrollWidth, innerWidth];")
    document, _ = browse(page, "--dump-dom", "--window-size=500,844")
    width, inner = json.loads(re.search(r"<title>(.*?)</title>", document)[1])
    assert width <= inner


AXE = Path(sys.prefix) / "axe.min.js"
_RUN = """axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']}).then((found) => {
  const told = document.createElement("pre");
  told.id = "axe";
  told.textContent = JSON.stringify(found.violations.map((v) => [v.id, v.impact, v.nodes.map((n) => n.html)]));
  document.body.append(told);
});"""


@pytest.mark.skipif(not AXE.is_file(), reason="no axe-core: make test-browser fetches it")
@pytest.mark.parametrize(
    "options",
    [(), ("--blink-settings=preferredColorScheme=0",), ("--window-size=390,800",)],
    ids=["light", "dark", "phone"],
)
def test_axe_finds_nothing(browse, tmp_path, options):
    """The page of a study with grades, claims and answers, by the rules of WCAG 2.1 A and AA and best practice."""
    answers = (
        CheckAnswer("B6", "converged", "warning", "twice the steps break more", "PGD"),
        CheckAnswer("A4", "logits", "passed", "unbounded"),
    )
    checked = {"plain": GradeReport("weak", ("B6",), answers), "trained": GradeReport("unusable", ("A4",), answers)}
    claims = (
        ClaimResult("So it is.", "table 1", "1", "2", "1 to 3", "holds", "at least 1 (our threshold)"),
        ClaimResult("Not.", "2", "", "3"),
    )
    extras = StudyExtras(
        "About it.", claims, (DiagnosticResult("answer-1", "Gradients", "Where?", "There.", (), ({"a": 1},)),)
    )
    path = write_report(rich(grades=checked, warnings=("Careful.",)), tmp_path / "report.html", extras=extras)
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text(encoding="utf-8"))
    axe = AXE.read_text(encoding="utf-8").replace("</script", "<\\/script")
    copy = path.with_name("axe.html")
    copy.write_text(text.replace("</body>", f"<script>{axe}</script><script>{_RUN}</script></body>"), encoding="utf-8")
    document, _ = browse(copy, "--dump-dom", "--virtual-time-budget=20000", *options)
    told = re.search(r'<pre id="axe">(.*?)</pre>', document, re.DOTALL)
    assert told, "axe did not run"
    assert json.loads(html.unescape(told[1])) == []
