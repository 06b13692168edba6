"""Training: clean, PGD adversarial, and adversarial with dual perturbations."""

from assay.training.objectives import OBJECTIVES, Adversarial, Clean
from assay.training.recipe import Recipe, paper
from assay.training.trainer import Epoch, Trained, train

__all__ = ["OBJECTIVES", "Adversarial", "Clean", "Epoch", "Recipe", "Trained", "paper", "train"]
