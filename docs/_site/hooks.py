"""What the site adds to the pages that are there: pages made of the code, a folder to run tutorials in, notebooks."""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

from generated_pages import PAGES  # noqa: E402  (beside this file)
from notebooks import to_notebook  # noqa: E402

_TUTORIAL = re.compile(r"tutorials/(?!index)[\w-]+\.md")
_PYODIDE = "_markdown_exec_pyodide"
_STATE: dict[str, Any] = {}
"""The folder of this build, and where the build was called."""


def on_startup(command: str, dirty: bool) -> None:
    """Make a folder in which the tutorials run: nothing of them stays in the repository."""
    sys.path.insert(0, str(HERE))  # mkdocs takes it away after the import of this file
    _STATE["folder"], _STATE["called"] = tempfile.TemporaryDirectory(prefix="tutorials-"), Path.cwd()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ.update(COLUMNS="110", NO_COLOR="1", OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "2"))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add pages that are made of the code, those of the repository's root, and notebooks of the tutorials."""
    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    for name, source in {"contributing.md": "CONTRIBUTING.md", "changes.md": "CHANGELOG.md"}.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=_from_root(text)))
    for image in sorted((ROOT / "benchmarks" / "results").glob("*.png")):
        files.append(File.generated(config, f"results/{image.name}", content=image.read_bytes()))
    for file in list(files.documentation_pages()):
        if _TUTORIAL.fullmatch(file.src_uri):
            notebook = to_notebook(file.content_string)
            files.append(File.generated(config, file.src_uri.replace(".md", ".ipynb"), content=notebook))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to the repository's files at their pages, and give tutorials a folder and a notebook."""
    text = markdown.replace("](../CONTRIBUTING.md", "](contributing.md").replace(
        "](../benchmarks/results/", "](results/"
    )
    if _TUTORIAL.fullmatch(page.file.src_uri):
        name = Path(page.file.src_uri).stem
        folder = Path(_STATE["folder"].name) / name
        folder.mkdir(exist_ok=True)
        os.chdir(folder)
        link = f"[Download this page as a notebook]({name}.ipynb){{ .download download }}"
        first, _, rest = text.partition("\n")
        text = f"{first}\n\n{link}\n{rest}"
    return text


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Tables and code may be wider than a phone: then a keyboard has to be able to scroll them."""
    content = content.replace("<table>", '<table tabindex="0">')
    return re.sub(r"(<pre[^>]*>(?:<span></span>)?)<code>", r'\1<code tabindex="0">', content)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """No style for running Python in the browser: no page does, and it is fetched from elsewhere."""
    return re.sub(rf'<link rel="stylesheet" href="[^"]*{_PYODIDE}[^"]*">', "", output)


def on_post_build(config: MkDocsConfig) -> None:
    """Back to where the build was called."""
    for file in Path(config.site_dir).rglob(f"*{_PYODIDE}*"):
        file.unlink()
    os.chdir(_STATE["called"])


def on_shutdown() -> None:
    """The tutorials' folder goes."""
    os.chdir(_STATE["called"])
    _STATE["folder"].cleanup()


def _from_root(text: str) -> str:
    """Links of a page in the root, from the folder of the documentation."""
    return re.sub(r"\]\(docs/", "](", text)
