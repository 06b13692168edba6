"""One HTML file that shows how classifiers break."""

from assay.report.extras import Claimed, Extras, Finding
from assay.report.numbers import summary
from assay.report.page import render, write_report
from assay.report.select import Pick, choose
from assay.report.study import Answered, Cell, Checked, Study
from assay.report.verdict import Verdict, verdicts

__all__ = [
    "Answered", "Cell", "Checked", "Claimed", "Extras", "Finding", "Pick", "Study", "Verdict", "choose", "render",
    "summary", "verdicts", "write_report",
]  # fmt: skip
