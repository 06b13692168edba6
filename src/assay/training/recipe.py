"""How to train: one frozen record, which is also what a run directory is checked against."""

import dataclasses
import inspect
import json
import math
import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from assay.models.normalize import STATISTICS
from assay.models.registry import parted
from assay.training.objectives import OBJECTIVES, make
from assay.util.validate import described, nearest, number, one_of, reject, whole

OPTIMISERS = ("adam", "sgd")
SCHEDULES = ("step", "cosine")
PRECISIONS = ("float32", "bfloat16", "float16")
_TEACHER = re.compile("teacher=[^,]*")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training run makes.

    Args:
        arch: a name of ``assay.models.ARCHITECTURES``.
        normalize: a name of ``assay.models.normalize.STATISTICS``.
        objective: a name of ``assay.training.OBJECTIVES``, with arguments of its own: ``"trades:beta=6"``.
        eps: budget of the inner attack in input units (the foreground's, for ``"at-dual"``).
        eps_background: background budget of ``"at-dual"``.
        norm: of the budgets.
        attack_steps: steps of the inner attack.
        attack: another inner attack than the objective's usual one, such as ``"apgd:loss=dlr"``.
        epochs: passes over the data.
        batch: images a step, over all processes.
        optimiser: ``"adam"`` or ``"sgd"`` (momentum 0.9).
        rate: first learning rate.
        schedule: ``"step"`` (at the milestones) or ``"cosine"`` (to 0 at the last epoch).
        milestones: epochs after which the rate is multiplied by ``drop``.
        drop: the factor.
        decay: weight decay.
        flip: whether images are mirrored at random.
        average: decay of an exponential moving average of the weights, which is then what is measured and kept, such
            as 0.995; 0 for none.
        precision: ``"float32"``, or mixed: ``"bfloat16"``, ``"float16"``.
        validate: share of the data that is held out and measured after each epoch, clean and under PGD-10.
        patience: stop after so many epochs without a better robust accuracy (clean, where there is no budget), and
            keep the best weights; 0 for never.
        start: weights to begin from (transfer); tensors of another shape, such as the last layer, start afresh.
        seed: of weights, order, flips and attacks.

    Raises:
        TypeError, ValueError: a wrong argument, by name.

    Source: the defaults for Segment-6 of Tong et al., 2020, appendix C, see `paper`. Early stopping on robust
    accuracy: Rice, Wong & Kolter, "Overfitting in adversarially robust deep learning", ICML 2020.
    """

    arch: str = "tiny-cnn"
    normalize: str = "half"
    objective: str = "clean"
    eps: float | None = None
    eps_background: float | None = None
    norm: str = "linf"
    attack_steps: int = 10
    attack: str | None = None
    epochs: int = 10
    batch: int = 128
    optimiser: str = "adam"
    rate: float = 1e-3
    schedule: str = "step"
    milestones: tuple[int, ...] = ()
    drop: float = 0.1
    decay: float = 0.0
    flip: bool = False
    average: float = 0.0
    precision: str = "float32"
    validate: float = 0.0
    patience: int = 0
    start: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        parted(self.arch)
        one_of("normalize", self.normalize, STATISTICS)
        one_of("optimiser", self.optimiser, OPTIMISERS)
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("precision", self.precision, PRECISIONS)
        one_of("norm", self.norm, ("linf", "l2", "l1"))
        for name, least in (("epochs", 0), ("batch", 1), ("attack_steps", 1), ("patience", 0), ("seed", 0)):
            whole(name, getattr(self, name), least=least, most=2**63 - 1 if name == "seed" else 2**31 - 1)
        number("rate", self.rate, least=0, above=True)
        number("decay", self.decay, least=0)
        number("drop", self.drop, least=0, above=True, most=1)
        number("average", self.average, least=0, most=0.999999)
        number("validate", self.validate, least=0, most=0.9)
        object.__setattr__(self, "milestones", tuple(whole("milestones", m, least=1) for m in self.milestones))
        for name in ("eps", "eps_background"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), least=0)
        self._check_objective()
        if self.patience and not self.validate:
            reject("validate", "a share of the data to hold out, which patience needs", self.validate)

    def _check_objective(self) -> None:
        name = self.objective.partition(":")[0]
        if name not in OBJECTIVES:
            got = described(f"{name!r}{nearest(name, OBJECTIVES)}")
            reject("objective", "one of " + ", ".join(map(repr, OBJECTIVES)), got)
        entry = OBJECTIVES[name]
        budgeted = entry.attack is not None or "eps" in inspect.signature(entry.make).parameters
        if budgeted and self.eps is None and "eps=" not in self.objective:
            reject("eps", f"a budget, which {name} needs", None)
        if name == "at-dual" and self.eps_background is None:
            reject("eps_background", "the background budget, which at-dual needs", None)

    @property
    def needs(self) -> tuple[str, ...]:
        """Optional fields of `Rows` that the inner attack reads, such as ``("mask",)`` for dual attacks."""
        return make(
            self.objective,
            eps=self.eps,
            norm=self.norm,
            eps_background=self.eps_background,
            steps=self.attack_steps,
            attack=self.attack,
            load=lambda _: nn.Identity(),
        ).needs

    def require_milestones(self) -> None:
        """Refuse milestones that change nothing; a run that is to be continued for more epochs may have them.

        Raises:
            ValueError: milestones at or after the last epoch, or beside the cosine schedule.
        """
        late = [m for m in self.milestones if m >= self.epochs > 0]
        if self.milestones and self.schedule != "step":
            reject("milestones", "none with the cosine schedule, which does not use them", list(self.milestones))
        if late:
            reject("milestones", f"epochs below {self.epochs}, the number of epochs", late)

    def learning_rate(self, epoch: int) -> float:
        """The rate of an epoch, counted from 0."""
        if self.schedule == "cosine":
            return 0.5 * self.rate * (1 + math.cos(math.pi * epoch / max(self.epochs, 1)))
        return self.rate * self.drop ** sum(epoch >= m for m in self.milestones)

    def canonical(self) -> str:
        """The recipe as JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    def difference(self, canonical: str) -> str:
        """Describe how another recipe, in its canonical form, differs; empty if it does not.

        The number of epochs may differ, and where the start and the teacher are: what they are, a run's checkpoint
        knows by their digests. A field that was not there yet counts as having its default.
        """
        theirs: dict[str, Any] = json.loads(canonical)
        changed = []
        for field in dataclasses.fields(self):
            mine = json.loads(json.dumps(getattr(self, field.name)))
            old = theirs.get(field.name, json.loads(json.dumps(field.default)))
            irrelevant = (field.name == "epochs" and self.schedule == "step") or field.name == "start"
            if field.name == "objective":
                mine, old = (_TEACHER.sub("teacher", spec) for spec in (mine, old))
            if mine != old and not irrelevant:
                changed.append(f"{field.name} was {old!r}, is {mine!r}")
        return ", ".join(changed)


def paper(dataset: str, objective: str, **more: Any) -> Recipe:
    """The settings of paper 000.

    Args:
        dataset: ``"segment-6"`` (60 epochs, batches of 128, rate × 0.1 every 20 epochs) or ``"stl-10"`` and
            ``"imagenet-10"`` (20 epochs, batches of 64, rate × 0.1 after the 8th and 15th).
        objective: ``"clean"`` (rate 1e-4), ``"pgd-at"`` or ``"at-dual"`` (rate 1e-3).
        more: other fields, such as the budgets; ``start`` for ImageNet's weights, as the paper's networks have.

    Source: Tong et al., 2020, appendix C. Deviation: without ``start`` networks begin with random weights.
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
