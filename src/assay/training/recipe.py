"""How to train: one frozen record, which is also what a run directory is checked against."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from assay.core.arguments import number, one_of, reject, whole
from assay.training.objectives import OBJECTIVES

OPTIMISERS = ("adam", "sgd")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training run makes.

    Args:
        arch: a name of ``assay.models.ARCHITECTURES``.
        normalize: a name of ``assay.models.normalize.STATISTICS``.
        objective: ``"clean"``, ``"pgd-at"`` or ``"at-dual"``.
        eps: budget of the inner attack in input units (the foreground's, for ``"at-dual"``).
        eps_background: background budget of ``"at-dual"``.
        norm: of the budgets.
        attack_steps: steps of the inner attack.
        epochs: passes over the data.
        batch: images a step.
        optimiser: ``"adam"`` or ``"sgd"`` (momentum 0.9).
        rate: first learning rate.
        milestones: epochs after which the rate is multiplied by ``drop``.
        drop: the factor.
        decay: weight decay.
        flip: whether images are mirrored at random.
        seed: of weights, order, flips and attacks.

    Raises:
        TypeError, ValueError: a wrong argument, by name.

    Source: the defaults for Segment-6 of Tong et al., 2020, appendix C, see `paper`.
    """

    arch: str = "tiny-cnn"
    normalize: str = "half"
    objective: str = "clean"
    eps: float | None = None
    eps_background: float | None = None
    norm: str = "linf"
    attack_steps: int = 10
    epochs: int = 10
    batch: int = 128
    optimiser: str = "adam"
    rate: float = 1e-3
    milestones: tuple[int, ...] = ()
    drop: float = 0.1
    decay: float = 0.0
    flip: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("objective", self.objective, tuple(OBJECTIVES))
        one_of("optimiser", self.optimiser, OPTIMISERS)
        one_of("norm", self.norm, ("linf", "l2", "l1"))
        for name, least in (("epochs", 0), ("batch", 1), ("attack_steps", 1), ("seed", 0)):
            whole(name, getattr(self, name), least=least)
        number("rate", self.rate, least=0, above=True)
        number("decay", self.decay, least=0)
        number("drop", self.drop, least=0, above=True, most=1)
        object.__setattr__(self, "milestones", tuple(whole("milestones", m, least=1) for m in self.milestones))
        for name in ("eps", "eps_background"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), least=0)
        if self.objective != "clean" and self.eps is None:
            reject("eps", f"a budget, which {self.objective} needs", None)
        if self.objective == "at-dual" and self.eps_background is None:
            reject("eps_background", "the background budget, which at-dual needs", None)

    def learning_rate(self, epoch: int) -> float:
        """The rate of an epoch, counted from 0."""
        return self.rate * self.drop ** sum(epoch >= m for m in self.milestones)

    def canonical(self) -> str:
        """The recipe as JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


def paper(dataset: str, objective: str, **more: Any) -> Recipe:
    """The settings of paper 000.

    Args:
        dataset: ``"segment-6"`` (60 epochs, batches of 128, rate × 0.1 every 20 epochs) or ``"stl-10"`` and
            ``"imagenet-10"`` (20 epochs, batches of 64, rate × 0.1 after the 8th and 15th).
        objective: ``"clean"`` (rate 1e-4), ``"pgd-at"`` or ``"at-dual"`` (rate 1e-3).
        more: other fields, such as the budgets.

    Source: Tong et al., 2020, appendix C. Deviation: networks start from random weights, not from ImageNet's.
    """
    one_of("dataset", dataset, ("segment-6", "stl-10", "imagenet-10"))
    long = {"epochs": 60, "batch": 128, "milestones": (20, 40)}
    short = {"epochs": 20, "batch": 64, "milestones": (8, 15)}
    settings = {
        "arch": "resnet34",
        "normalize": "imagenet",
        "optimiser": "adam",
        "objective": objective,
        "rate": 1e-4 if objective == "clean" else 1e-3,
        "attack_steps": 10 if more.get("norm", "linf") == "linf" else 50,
        **(long if dataset == "segment-6" else short),
    }
    return Recipe(**{**settings, **more})
