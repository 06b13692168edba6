"""Run the blocks of one page in an empty folder and print what they print: python run_page.py PAGE."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from notebooks import to_notebook


def main() -> int:
    """Run a page as its notebook would, cell by cell."""
    page = Path(sys.argv[1]).read_text(encoding="utf-8")
    lines = ["import subprocess", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})"]
    for cell in nbformat.reads(to_notebook(page), 4).cells:
        if cell.cell_type != "code" or cell.source.startswith("from IPython.display import SVG"):
            continue
        commands = [line[1:] for line in cell.source.splitlines() if line.startswith("!")]
        for command in commands:
            lines.append(f"print('$', {command!r}); subprocess.run({command!r}, shell=True, check=True)")
        if not commands:
            lines.append(cell.source)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        call = [sys.executable, "-u", "-c", "\n".join(lines)]
        done = subprocess.run(call, cwd=folder, env={**os.environ, "PATH": path}, check=False)  # noqa: S603
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
