"""Where images, labels and foreground masks come from."""

from assay.data.batches import random_batches
from assay.data.dataset import Dataset
from assay.data.registry import SOURCES, load
from assay.data.scenes import scenes

__all__ = ["SOURCES", "Dataset", "load", "random_batches", "scenes"]
