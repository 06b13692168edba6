"""Losses of the recogniser and the reconstructor."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.model_calls import classify
from assay.core.types import Images
from assay.signatures.examples import Examples
from assay.signatures.networks import features_at, layer_of
from assay.signatures.plan import Plan
from assay.signatures.recognition import Recognition


@dataclass(frozen=True)
class Helpers:
    """Frozen networks that the reconstructor is trained through.

    Attributes:
        classifier: Φ, trained on clean images.
        extractor: ℱ, any network with convolutions.
    """

    classifier: nn.Module
    extractor: nn.Module


class Losses:
    """Equation 5 of Souri et al., 2021, with the frozen networks that it goes through."""

    def __init__(self, plan: Plan, helpers: Helpers, device: str = "cpu") -> None:
        self.plan, self.device = plan, device
        self.classifier = copy.deepcopy(helpers.classifier).eval().requires_grad_(False).to(device)
        self.extractor = copy.deepcopy(helpers.extractor).eval().requires_grad_(False).to(device)
        self.layer = layer_of(self.extractor, plan.layer) if plan.uses_features else None

    def __call__(self, recognition: Recognition, examples: Examples, at: Tensor) -> Tensor:
        """The loss of some of the examples."""
        plan, (images, clean) = self.plan, examples.pair(at, self.device)
        seen, residual = recognition.inputs(images, clean)
        logits = recognition.recogniser(seen, residual)
        loss: Tensor = F.cross_entropy(logits, examples.kind[at].to(self.device), label_smoothing=plan.smoothing)
        if recognition.reconstructor is None:
            return loss
        residual = residual.float()  # of small numbers, summed over all pixels
        reconstructed = images - residual
        loss = loss + plan.reconstruction * (clean - reconstructed).abs().flatten(1).sum(1).mean()
        if self.layer is not None:
            loss = loss + plan.feature * self.feature_distance(self.layer, clean, reconstructed)
        if plan.classification:
            loss = loss + plan.classification * self.cross_entropy(clean, reconstructed)
        return loss

    def feature_distance(self, layer: nn.Module, clean: Images, adversarial: Images) -> Tensor:
        """Equation 2, mean over images."""
        with torch.no_grad():
            clean_features = features_at(self.extractor, layer, clean)
        away = features_at(self.extractor, layer, adversarial) - clean_features
        distance: Tensor = away.flatten(1).norm(dim=1).mean()
        return distance

    def cross_entropy(self, clean: Images, adversarial: Images) -> Tensor:
        """Equation 3: of the class that the classifier gives the clean image."""
        with torch.no_grad():
            label = classify(self.classifier, clean).argmax(1)
        loss: Tensor = F.cross_entropy(classify(self.classifier, adversarial), label)
        return loss
