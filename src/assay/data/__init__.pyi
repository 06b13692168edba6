from .batches import random_batches
from .dataset import Dataset
from .registry import SOURCES, load
from .synthetic import scenes

__all__ = ["SOURCES", "Dataset", "load", "random_batches", "scenes"]
