import re
import shutil
import subprocess
from urllib.parse import quote

import pytest

from assay.report import write_report

from .hostile import poisoned
from .made import rich

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")]


@pytest.fixture
def browse(tmp_path):
    """Open a file of the test's folder; return its document after the script ran, and what the console said."""
    runs = iter(range(100))

    def open_page(path, *options, fragment=""):
        folder = tmp_path / f"profile{next(runs)}"
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
            "--enable-logging=stderr", "--v=0", "--virtual-time-budget=4000", f"--user-data-dir={folder}",
            *options, path.as_uri() + (f"#{fragment}" if fragment else ""),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return open_page


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_report(rich(), tmp_path_factory.mktemp("report") / "report.html")


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
    [("model=trained", "model", "1"), ("outcome=broken", "outcome", "broken"), ("class=dog", "class", "1"),
     ("attack=" + quote("Square · 8/255"), "attack", "2")],
)  # fmt: skip
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
