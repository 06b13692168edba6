"""The checks that make a robust accuracy believable, and the grade that they give it."""

from assay.trust.answer import Found, Level
from assay.trust.context import Exam, Result
from assay.trust.grade import GRADES, Grade, grade
from assay.trust.registry import CHECKS, Asking, Check, askings, by_check, examine

__all__ = [
    "CHECKS",
    "GRADES",
    "Asking",
    "Check",
    "Exam",
    "Found",
    "Grade",
    "Level",
    "Result",
    "askings",
    "by_check",
    "examine",
    "grade",
]
