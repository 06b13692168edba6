"""What a training step minimises: one file an objective."""

from assay.training.objectives.adversarial import Adversarial, Fast
from assay.training.objectives.attribution import RobustAttribution
from assay.training.objectives.batch import Batch, Stepwise, TrainingObjective, Update
from assay.training.objectives.clean import Clean
from assay.training.objectives.curvature import Curvature
from assay.training.objectives.distillation import Distillation
from assay.training.objectives.free import Free
from assay.training.objectives.interpolated import Interpolated, VertexMixup
from assay.training.objectives.linearity import LocalLinearity
from assay.training.objectives.mixed import Mixed
from assay.training.objectives.noise import Gaussian, Stability
from assay.training.objectives.pairing import Pairing
from assay.training.objectives.registry import OBJECTIVES, make
from assay.training.objectives.trades import Mart, Trades
from assay.training.objectives.weights import WeightPerturbation

__all__ = [
    "OBJECTIVES",
    "Adversarial",
    "Batch",
    "Clean",
    "Curvature",
    "Distillation",
    "Fast",
    "Free",
    "Gaussian",
    "Interpolated",
    "LocalLinearity",
    "Mart",
    "Mixed",
    "Pairing",
    "RobustAttribution",
    "Stability",
    "Stepwise",
    "Trades",
    "TrainingObjective",
    "Update",
    "VertexMixup",
    "WeightPerturbation",
    "make",
]
