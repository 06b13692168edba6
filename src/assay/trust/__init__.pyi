from .answer import CheckResult, Level
from .context import AttackResult, CheckContext
from .failure_indicators import Indicators, indicators
from .grading import GRADES, Grade, grade
from .more import Estimate, what_more_breaks
from .registry import CHECKS, Check
from .running import CheckRequest, by_check, check_requests, run_checks

__all__ = [
    "CHECKS",
    "GRADES",
    "AttackResult",
    "Check",
    "CheckContext",
    "CheckRequest",
    "CheckResult",
    "Estimate",
    "Grade",
    "Indicators",
    "Level",
    "by_check",
    "check_requests",
    "grade",
    "indicators",
    "run_checks",
    "what_more_breaks",
]
