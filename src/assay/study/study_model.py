"""A model of a study: where it is."""

from dataclasses import dataclass
from pathlib import Path

from assay.store.model_source import ModelSource


@dataclass(frozen=True)
class StudyModel:
    """A model of a study: its source, and the folder of its training.

    Attributes:
        source: from where it is loaded.
        folder: of its training; None for one that was loaded.
    """

    source: ModelSource
    folder: Path | None = None
