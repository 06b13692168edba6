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
        identity: what its training is, in a digest that is the same for models that are trained alike.
    """

    source: ModelSource
    folder: Path | None = None
    identity: str = ""
