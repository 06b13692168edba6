from .answer import CheckResult, Level
from .context import AttackResult, CheckContext
from .grading import GRADES, Grade, grade
from .registry import CHECKS, Check, CheckRequest, by_check, check_requests, run_checks

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
