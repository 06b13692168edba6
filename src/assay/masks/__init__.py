"""Where people look: saliency models, foreground masks, the foreground score."""

from assay.masks.foreground import folder_masks, salient_mask, threshold_mask
from assay.masks.learned_saliency import load_saliency
from assay.masks.saliency import Learned, SpectralResidual, gaussian_centre_bias
from assay.masks.score import ForegroundScore, foreground_score

__all__ = [
    "ForegroundScore",
    "Learned",
    "SpectralResidual",
    "folder_masks",
    "foreground_score",
    "gaussian_centre_bias",
    "load_saliency",
    "salient_mask",
    "threshold_mask",
]
