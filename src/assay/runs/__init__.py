"""Run evaluations: results are stored as they arrive, and the same command resumes a run."""

from assay.runs.evaluate import Evaluation, Question, evaluate
from assay.runs.settings import Settings
from assay.util.progress import Progress, Reporter

__all__ = ["Evaluation", "Progress", "Question", "Reporter", "Settings", "evaluate"]
