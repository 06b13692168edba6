"""Robust training: objectives, recipes, and a trainer that loses nothing when it is stopped."""

from assay.training.objectives import OBJECTIVES, Batch, TrainingObjective, Update, make
from assay.training.recipe import Recipe, paper
from assay.training.records import Epoch, Moment, Trained
from assay.training.stored import with_stored
from assay.training.trainer import train

__all__ = [
    "OBJECTIVES",
    "Batch",
    "Epoch",
    "Moment",
    "Recipe",
    "Trained",
    "TrainingObjective",
    "Update",
    "make",
    "paper",
    "train",
    "with_stored",
]
