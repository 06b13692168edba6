"""The inputs of a diagnostic: models or a trail, data, and settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from torch import nn

from assay.attacks.deepfool import DeepFool
from assay.attacks.fgsm import FGSM
from assay.attacks.pgd import BIM
from assay.core.combinators import AnyAttack
from assay.core.types import Mask
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
        eps: linf budget of FGSM and BIM (step eps/4, 10 steps, as in Metzen, 2018).
        attacks: by name, what questions about attacks ask about, the first where one is asked about alone; empty for
            those of Metzen, 2018: BIM, FGSM and, where only destruction is asked about, DeepFool.
        seed: of all draws.
        progress: progress.
        updates: of universal perturbations.
        search_steps: steps a round of StrAttack and C&W.
        norm: of the attacks of ``suspicion``.
        eps_background: of its background; None for five times ``eps``.
        lambdas: its weights of the foreground score; empty for the usual ones.
        batches: mini-batches an update of universal perturbations (the paper's K; it has 10).
        detector_epochs: passes of detectors over their training images.
        saliency: the saliency model of ``suspicion``; None for `SpectralResidual`.
        explanation: of ``attribution``: gradient, or integrated-gradients.
        universal_eps: linf budget of universal perturbations; None for 2.5 times ``eps``, as in Metzen, 2018.
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
    attacks: Mapping[str, AnyAttack] = field(default_factory=lambda: MappingProxyType({}))
    norm: str = "linf"
    eps_background: float | None = None
    lambdas: tuple[float, ...] = ()
    batches: int = 4
    detector_epochs: int = 30
    universal_eps: float | None = None
    saliency: nn.Module | None = None
    explanation: str = "gradient"

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
    def required_masks(self) -> Mask:
        """The foreground of the test images."""
        if self.test.masks is None:
            return reject("data", "images with foreground masks", self.test.name)
        return self.test.masks

    @property
    def several_attacks(self) -> Mapping[str, AnyAttack]:
        """The attacks by name."""
        return self.attacks or {**self.attacks_within, "DeepFool": DeepFool(norm="linf", steps=20)}

    @property
    def attacks_within(self) -> Mapping[str, AnyAttack]:
        """The attacks by name; by default those that have a budget."""
        return self.attacks or {"BIM": self._bim, "FGSM": FGSM(self.eps)}

    @property
    def single_attack(self) -> AnyAttack:
        """The first of the attacks; by default that of Metzen, 2018."""
        return next(iter(self.attacks.values())) if self.attacks else self._bim  # whose budget is in linf

    @property
    def _bim(self) -> AnyAttack:
        return BIM(self.eps, steps=10, step_size=self.eps / 4)
