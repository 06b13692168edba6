"""The inputs of a diagnostic: models or a trail, data, and settings."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from assay.attacks.pgd import BIM
from assay.core.combinators import AnyAttack
from assay.data.dataset import Dataset
from assay.diagnostics.trail import Trail
from assay.util.progress import WorkCallback, no_progress
from assay.util.validate import reject


@dataclass(frozen=True)
class DiagnosticContext:
    """The inputs of a diagnostic: models or a trail, data, and settings.

    Attributes:
        trail: networks by epoch; None without.
        models: networks by name.
        train: images that detectors and universal perturbations are made on, and other inputs are drawn from.
        test: images that are attacked.
        eps: linf budget of FGSM and BIM (step eps/4, 10 steps, as in Metzen, 2018); universal perturbations have 2.5
            times as much.
        seed: of all draws.
        progress: progress.
        updates: of universal perturbations.
        search_steps: steps a round of StrAttack and C&W.
    """

    trail: Trail | None
    models: Mapping[str, nn.Module]
    train: Dataset
    test: Dataset
    eps: float
    seed: int = 0
    progress: WorkCallback = no_progress
    updates: int = 50
    search_steps: int = 200

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The models; of a trail the first, the last and others between."""
        return self.models or {f"epoch {e}": model for e, model in self.required_trail.thinned(4)}

    @property
    def single_model(self) -> nn.Module:
        """The one network that a question of a single one is about: the first model, or the trail's last."""
        return (
            next(iter(self.models.values()))
            if self.models
            else self.required_trail.model(self.required_trail.epochs[-1])
        )

    @property
    def required_trail(self) -> Trail:
        """The trail."""
        if self.trail is None:
            return reject("model", "a training trail (the folder of assay train --trail), not single models", None)
        return self.trail

    @property
    def bim(self) -> AnyAttack:
        """The attack of Metzen, 2018."""
        return BIM(self.eps, steps=10, step_size=self.eps / 4)
