"""The documentation site as `make site` builds it: nothing from elsewhere, no dead links, axe, spelling."""

import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = pytest.mark.site

ROOT = Path(__file__).parents[2]
SITE = ROOT / "site"
PAGES = [page for page in sorted(SITE.rglob("*.html")) if page.name != "404.html"] if SITE.is_dir() else []
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
AXE = Path(sys.prefix) / "axe.min.js"
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}
"""Attributes that make a browser fetch something."""
RUN = """axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']}).then((found) => {
  const told = document.createElement("pre");
  told.id = "axe";
  told.textContent = JSON.stringify(found.violations.map((v) => [v.id, v.impact, v.nodes.map((n) => n.html)]));
  document.body.append(told);
});"""


class Links(HTMLParser):
    """Where a page leads, what it loads, and its anchors."""

    def __init__(self, page):
        super().__init__()
        self.links, self.loads, self.anchors = set(), set(), set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and values.get("href"):
            self.links.add(values["href"])
        if tag in LOADING and values.get(LOADING[tag]) and values.get("rel") not in ("canonical", "prev", "next"):
            self.loads.add(values[LOADING[tag]])


@pytest.fixture(scope="module")
def read():
    assert PAGES, "no site: run make site"
    return {page.resolve(): Links(page) for page in PAGES}


def test_nothing_is_loaded_from_elsewhere(read):
    for page, found in read.items():
        assert not {load for load in found.loads if urlsplit(load).netloc}, page
    for style in SITE.rglob("*.css"):
        outside = re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^)\"']+)", style.read_text(encoding="utf-8"))
        assert not outside, style


def test_every_link_leads_somewhere(read):
    for page, found in read.items():
        for link in found.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{page.name}: {link}"
            if parts.fragment and target in read:
                assert unquote(parts.fragment) in read[target].anchors | {"__skip", ""}, f"{page.name}: {link}"


def test_every_tutorial_ran_and_is_a_notebook():
    names = {page.stem for page in (SITE / "tutorials").glob("*.html")} - {"index"}
    assert len(names) == 11
    for name in names:
        text = (SITE / "tutorials" / f"{name}.html").read_text(encoding="utf-8")
        assert f'href="{name}.ipynb"' in text
        assert "Traceback" not in text
        notebook = json.loads((SITE / "tutorials" / f"{name}.ipynb").read_text(encoding="utf-8"))
        assert sum(cell["cell_type"] == "code" for cell in notebook["cells"]) >= 2


def test_spelling_is_british():
    """What American dictionaries would write; names of functions and of papers are as they are."""
    pages = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    command = [sys.executable, "-m", "codespell_lib", "--builtin", "clear", *map(str, pages)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.stdout, done.stdout
    american = re.compile(
        r"\b(color|behavior|normalize[sd]?|normalization|defense|gray|neighbor|optimi[z]e)\w*\b", re.I
    )
    for page in pages:
        if page.name == "reference.md":  # names, made of the code
            continue
        text = page.read_text(encoding="utf-8")
        prose = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)|\"[^\"]*\"|“[^”]*”", " ", text, flags=re.S)
        wrong = {match[0] for match in american.finditer(prose)} - {"Defense", "Normalize", "Optimized"}
        assert not wrong, f"{page.name}: {wrong}"


@pytest.mark.skipif(not AXE.is_file() or CHROMIUM is None, reason="no Chromium, or no axe-core (make test-site)")
@pytest.mark.parametrize("scheme", ["default", "slate"])
@pytest.mark.parametrize("size", ["1300,900", "390,800"])
@pytest.mark.parametrize(
    "name", ["index", "tutorials/own-model", "attacks", "api/attack", "command-line", "study-files"]
)
def test_axe_finds_nothing(name, size, scheme):
    page = SITE / f"{name}.html"
    text = page.read_text(encoding="utf-8")
    text = re.sub(r'data-md-color-scheme="\w+"', f'data-md-color-scheme="{scheme}"', text)
    axe = AXE.read_text(encoding="utf-8").replace("</script", "<\\/script")
    text = re.sub(r"<script[^>]*>(?!\s*\{).*?</script>", "", text, flags=re.S)  # the page as it is without its script
    copy = page.with_name(f"axe-{page.name}")
    copy.write_text(text.replace("</body>", f"<script>{axe}</script><script>{RUN}</script></body>"), encoding="utf-8")
    try:
        with tempfile.TemporaryDirectory() as profile:
            command = [
                *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"),
                *(f"--window-size={size}", "--dump-dom", "--virtual-time-budget=30000", copy.as_uri()),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    finally:
        copy.unlink()
    told = re.search(r'<pre id="axe">(.*?)</pre>', done.stdout, re.S)
    assert told, "axe did not run"
    assert json.loads(html.unescape(told[1])) == []
