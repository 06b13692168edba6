"""Running evaluations: results on disk as they come, the same command goes on."""

from assay.runs.evaluate import Evaluation, Question, evaluate
from assay.runs.settings import Settings

__all__ = ["Evaluation", "Question", "Settings", "evaluate"]
