"""How to train: one frozen record, which is also what a run directory is checked against."""

import dataclasses
import inspect
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from torch import nn

from assay.models.normalize import STATISTICS
from assay.models.registry import parted
from assay.training.objectives.batch import TrainingObjective
from assay.training.objectives.registry import OBJECTIVES, make
from assay.util.fields import Budget, Count, Integer, Number, Seed, Whole
from assay.util.validate import number, one_of, radius, reject, whole

_TEACHER = re.compile("teacher=[^,]*")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training run makes.

    The options of ``assay train`` and the section ``train`` of a study's models are these fields.

    Args:
        arch: Architecture (see: assay ls models).
        normalize: Input normalisation, inside the model: half, imagenet, cifar10 or none.
        objective: What a step minimises, with arguments of its own, such as pgd-at or trades:beta=6 (see: assay ls
            training).
        eps: Budget of the inner attack in input units, such as 8/255; the foreground's for at-dual.
        eps_background: Background budget of at-dual.
        norm: Norm of the budgets.
        attack_steps: Steps of the inner attack.
        attack: Another inner attack than the objective's usual one, such as apgd:loss=dlr (see: assay ls attacks).
        epochs: How many times the data is gone through.
        batch: Images a step, over all processes.
        optimiser: Optimiser: adam, or sgd (momentum 0.9).
        rate: First learning rate.
        schedule: Learning-rate schedule: step (at the milestones) or cosine (to 0 at the last epoch).
        milestones: Epochs after which the rate drops, such as 20,40.
        drop: Factor of the drop.
        decay: Weight decay.
        flip: Mirror images at random.
        average: Decay of an exponential moving average of the weights, which is then what is measured and kept, such
            as 0.995; 0 for none.
        precision: Number format: float32, or mixed: bfloat16, float16.
        validate: Share of the data that is held out and measured after each epoch, clean, under PGD-10 and
            (ibp, crown-ibp, sabr) certified.
        patience: Stop after so many epochs without a better robust accuracy (clean, where there is no budget;
            certified, where that is trained for, once the budget is whole), and keep the best weights; 0 for never.
            It needs a share in validate.
        start: Weights to begin from (transfer); tensors of another shape, such as the last layer, start afresh.
        seed: Random seed of weights, order, flips and attacks.

    Raises:
        TypeError, ValueError: a wrong argument, by name.

    Source: the defaults for Segment-6 of Tong et al., 2020, appendix C, see `paper`. Early stopping on robust
    accuracy: Rice, Wong & Kolter, "Overfitting in adversarially robust deep learning", ICML 2020.
    """

    arch: str = "tiny-cnn"
    normalize: str = "half"
    objective: str = "clean"
    eps: Budget | None = None
    eps_background: Budget | None = None
    norm: Literal["linf", "l2", "l1"] = "linf"
    attack_steps: Whole = 10
    attack: str | None = None
    epochs: Count = 10
    batch: Whole = 128
    optimiser: Literal["adam", "sgd"] = "adam"
    rate: Number = 1e-3
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[Integer, ...] = ()
    drop: Number = 0.1
    decay: Number = 0.0
    flip: bool = False
    average: Number = 0.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    validate: Number = 0.0
    patience: Count = 0
    start: str | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        self._check_types()
        parted(self.arch)
        one_of("normalize", self.normalize, STATISTICS)
        for name, kind in get_type_hints(Recipe).items():
            if get_origin(kind) is Literal:
                one_of(name, getattr(self, name), get_args(kind))
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
                object.__setattr__(self, name, radius(name, getattr(self, name)))
        self._check_objective()
        if self.patience and not self.validate:
            reject("validate", "a share of the data to hold out, which patience needs", self.validate)

    def _check_types(self) -> None:
        for name in ("arch", "objective", *(name for name in ("attack", "start") if getattr(self, name) is not None)):
            text = getattr(self, name)
            if not isinstance(text, str) or not text.strip():
                reject(name, "text, such as a name", text, error=ValueError if isinstance(text, str) else TypeError)
        if not isinstance(self.flip, bool):
            reject("flip", "True or False", self.flip, error=TypeError)
        if not isinstance(self.milestones, tuple | list):
            reject("milestones", "epochs, such as (20, 40)", self.milestones, error=TypeError)

    def _check_objective(self) -> None:
        name = self.objective.partition(":")[0]
        entry = OBJECTIVES.find(name)
        budgeted = entry.attack is not None or "eps" in inspect.signature(entry.make).parameters
        if budgeted and self.eps is None and "eps=" not in self.objective:
            reject("eps", f"a budget, which {name} needs", None)
        if name == "at-dual" and self.eps_background is None:
            reject("eps_background", "the background budget, which at-dual needs", None)

    @property
    def needs(self) -> tuple[str, ...]:
        """Optional fields of `Rows` that the inner attack reads, such as ``("mask",)`` for dual attacks."""
        return self.make_objective(lambda _: nn.Identity()).needs

    def make_objective(self, load: Callable[[str], nn.Module]) -> TrainingObjective:
        """What a step minimises.

        Args:
            load: how a teacher that the objective names is read.

        Raises:
            ValueError: an unknown name or argument, or a budget that is missing.
        """
        return make(
            self.objective,
            eps=self.eps,
            norm=self.norm,
            eps_background=self.eps_background,
            steps=self.attack_steps,
            attack=self.attack,
            load=load,
        )

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
    """The settings of Tong et al., 2020.

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
