"""One HTML file that shows how classifiers break."""

from assay.report.gallery_selection import Pick, choose
from assay.report.page import render, write_report
from assay.store.results import Answered, Cell, Checked, Study
from assay.store.summary import summarise
from assay.store.verdict import Verdict, verdicts

__all__ = [
    "Answered", "Cell", "Checked", "Pick", "Study", "Verdict", "choose", "render", "summarise", "verdicts",
    "write_report",
]  # fmt: skip
