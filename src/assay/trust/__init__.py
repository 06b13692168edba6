"""Trust checks of robust accuracies, and the grade that they result in."""

from assay.trust.answer import CheckResult, Level
from assay.trust.context import AttackResult, CheckContext
from assay.trust.grade import GRADES, Grade, grade
from assay.trust.registry import CHECKS, Check, CheckRequest, by_check, check_requests, run_checks

__all__ = [
    "CHECKS",
    "GRADES",
    "AttackResult",
    "Check",
    "CheckContext",
    "CheckRequest",
    "CheckResult",
    "Grade",
    "Level",
    "by_check",
    "check_requests",
    "grade",
    "run_checks",
]
