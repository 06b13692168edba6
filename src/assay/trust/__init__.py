"""The checks that make a robust accuracy believable, and the grade that they give it."""

from assay.trust.answer import Found, Level
from assay.trust.exam import Exam, Result
from assay.trust.grade import GRADES, Grade, grade
from assay.trust.registry import CHECKS, Check, examine

__all__ = ["CHECKS", "GRADES", "Check", "Exam", "Found", "Grade", "Level", "Result", "examine", "grade"]
