from .batches import random_batches
from .convert import as_dataset
from .dataset import Dataset
from .registry import SOURCES, load
from .synthetic import scenes

__all__ = ["SOURCES", "Dataset", "as_dataset", "load", "random_batches", "scenes"]
