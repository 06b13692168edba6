"""Data on the command line: errors name the flag."""

from assay.data.dataset import Dataset
from assay.data.registry import load
from assay.util.validate import name_argument


def load_data(data: str, *, split: str, limit: int | None = None, seed: int = 0) -> Dataset:
    """As `assay.data.load`, for ``--data``.

    Raises:
        ValueError, FileNotFoundError: the data are not there or cannot be used; the message names ``data``.
    """
    with name_argument("data", inner="spec"):
        return load(data, split=split, limit=limit, seed=seed)
