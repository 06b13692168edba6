"""HTML reports of robustness studies."""

from assay.report.gallery_selection import Pick, choose
from assay.report.page import render, write_report
from assay.store.results import CellResult, CheckAnswer, GradeReport, Study
from assay.store.summary import summarise
from assay.store.verdict import Verdict, verdicts

__all__ = [
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
