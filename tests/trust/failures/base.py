"""What a planted failure is made of: networks, images, an evaluation, and what is true of it."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, nn

from assay.attacks.plan import plan
from assay.core.outcome import Status
from assay.data import load
from assay.defences import adaptation_of
from assay.engine.api import attack
from assay.parts.balls import Ball
from assay.training import Recipe, train
from assay.trust import CheckContext
from trust.cases import examined

KINDS = (
    "squeezed outputs",
    "wrong gradients",
    "decoys and substitutes",
    "detectors",
    "randomness",
    "state and surroundings",
    "weak attacks",
    "wrong claims",
    "data",
    "masks and regions",
)
COUNT = 64
ATTACKS = ("apgd:steps=50", "apgd:steps=30,loss=dlr,targets=5", "square:queries=1000")
STRONG = ("apgd:steps=100", "apgd:steps=50,loss=dlr,targets=9", "square:queries=2000")


@dataclass(frozen=True)
class Setting:
    """A trained network, its images and a budget at which about half of them survive.

    Attributes:
        data: a spec.
        eps: budget of the evaluation.
        norm: its norm.
        objective: how it was trained.
        trained_for: budget of the training.
        epochs: of the training.
    """

    data: str
    eps: float
    norm: str = "linf"
    objective: str = "pgd-at"
    trained_for: float = 0.0
    epochs: int = 8


SETTINGS = {
    "digits": Setting("digits", 0.25, trained_for=0.2, epochs=10),
    "digits plain": Setting("digits", 0.1, objective="clean"),
    "digits l2": Setting("digits", 0.75, norm="l2", trained_for=1.0, epochs=10),
    "scenes": Setting("scenes:size=16,count=1200", 8 / 255, trained_for=8 / 255),
    "scenes plain": Setting("scenes:size=16,count=1200", 2 / 255, objective="clean", epochs=5),
}


@lru_cache
def network(setting: str = "digits") -> nn.Module:
    """The trained network of a setting: a sequence of normalisation and a small CNN, in evaluation mode."""
    chosen = SETTINGS[setting]
    robust = {} if chosen.objective == "clean" else {"eps": chosen.trained_for, "norm": chosen.norm, "attack_steps": 3}
    recipe = Recipe("tiny-cnn", objective=chosen.objective, epochs=chosen.epochs, batch=64, rate=3e-3, **robust)
    return train(load(chosen.data, split="train"), recipe, tempfile.mkdtemp()).model.eval()


@lru_cache
def images(setting: str = "digits", count: int = COUNT, split: str = "test") -> tuple[Tensor, Tensor]:
    """Images in [0, 1] and labels of a setting."""
    data = load(SETTINGS[setting].data, split=split, limit=count)
    return data.images(), data.y


@dataclass(frozen=True)
class Case:
    """An evaluation as somebody would publish it, and what an attacker who knows better can do.

    Attributes:
        model: what is evaluated; it may declare an `Adaptation`.
        setting: a name of `SETTINGS`: images and budget.
        attacks: what the evaluation ran, as on the command line.
        seen: a model with useful gradients, through which a better attacker attacks ``model``; None for itself.
        x: other images than the setting's; None for those.
        y: other labels.
        eps: another budget.
        norm: another norm.
        masks: foregrounds, ``(n, 1, h, w)``.
        adapted: whether the evaluation attacked as the model declares.
        truth: the robust share that is true, where a better attack on ``x`` does not tell.
        change: what is done to the context (results that lie, and the like).
    """

    model: nn.Module
    setting: str = "digits"
    attacks: tuple = ATTACKS
    seen: nn.Module | None = None
    x: Tensor | None = None
    y: Tensor | None = None
    eps: float | None = None
    norm: str | None = None
    masks: Tensor | None = None
    adapted: bool = True
    truth: Callable[[], float] | None = None
    change: Callable[[CheckContext], CheckContext] = field(default=lambda context: context)

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """Images and labels."""
        x, y = images(self.setting)
        return (x if self.x is None else self.x), (y if self.y is None else self.y)

    @property
    def budget(self) -> tuple[float, str]:
        """Radius and norm."""
        chosen = SETTINGS[self.setting]
        return chosen.eps if self.eps is None else self.eps, chosen.norm if self.norm is None else self.norm

    def evaluated(self) -> CheckContext:
        """The evaluation, as checks look at it."""
        (x, y), (eps, norm) = self.pair, self.budget
        masks = {} if self.masks is None else {"masks": self.masks}
        whole = load(SETTINGS[self.setting].data, split="test")
        claimed = Ball(norm, eps) if self.masks is None else None
        return self.change(
            examined(
                self.model,
                self.attacks,
                eps=eps,
                norm=norm,
                adapted=self.adapted,
                x=x,
                y=y,
                whole=whole,
                claimed=claimed,
                **masks,
            )
        )

    def true_share(self, context: CheckContext) -> float:
        """The share of samples that a better attacker leaves, or that is given."""
        if self.truth is not None:
            return self.truth()
        (x, y), (eps, norm) = self.pair, self.budget
        left = torch.ones(len(x), dtype=torch.bool)
        how = adaptation_of(self.model)
        test = None if how is None else how.test
        for spec in STRONG:
            what = plan(spec, eps=eps, norm=norm).attack
            outcome = attack(
                self.model,
                x,
                y,
                what,
                preflight=False,
                errors="record",
                surrogate=self.seen,
                test=test,
                mask=self.masks,
            )
            left &= outcome.status == int(Status.SURVIVED)
        return float((left & (reported(context) > 0)).float().mean())


def reported(context: CheckContext) -> Tensor:
    """Which samples the evaluation calls robust, as numbers 0 and 1."""
    survived = torch.stack([r.outcome.status == int(Status.SURVIVED) for r in context.counted])
    return survived.all(0).long()


@dataclass(frozen=True)
class Failure:
    """A planted failure.

    Attributes:
        name: a few words.
        kind: one of `KINDS`.
        make: the evaluation.
    """

    name: str
    kind: str
    make: Callable[[], Case]


class Around(nn.Module):
    """A model with something done to what goes in and what comes out."""

    def __init__(self, model: nn.Module, before: Callable = lambda x: x, after: Callable = lambda z: z) -> None:
        super().__init__()
        self.model, self.before, self.after = model, before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.model(self.before(x)))
