"""Answers of diagnostics, as files and the page hold them."""

import math
from typing import Any

from assay.diagnostics import Answer


def rows_of(answer: Answer) -> list[dict[str, Any]]:
    """An answer's records as JSON can hold them: None for what is not finite."""
    return [{key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}
            for row in answer.frame()]  # fmt: skip
