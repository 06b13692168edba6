"""``assay init``: a study to begin with."""

import os
from importlib.resources import files
from pathlib import Path

from assay.cli.output import print_line
from assay.data.registry import check as check_data
from assay.util.validate import reject


def init(path: Path = Path("study.yaml"), /, *, data: str = "digits", title: str = "Two networks") -> int:
    """Write a study file with comments, to begin with.

    Parameters
    ----------
    path
        Where it is written; a file that is there is left alone.
    data
        Where its images come from (see: assay ls data).
    title
        Heading of the report.
    """
    check_data(data)
    if not title.strip() or len(title) > 200 or not title.isprintable():
        reject("title", "a heading of 1 to 200 characters in one line", title)
    text = files("assay.study").joinpath("template.yaml").read_text("utf-8")
    text = text.replace("MODEL_TITLE", _quoted(title)).replace("DATA_SPEC", _quoted(data))
    if not path.parent.is_dir():
        reject("path", "a file in a folder that is there", str(path))
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        reject("path", "a file that is not there yet (init writes over nothing)", str(path))
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    print_line(f"study: {path}")
    print_line(f"next: assay run {path} --plan")
    return 0


def _quoted(text: str) -> str:
    """Text as YAML takes it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
