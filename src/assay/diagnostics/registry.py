"""The diagnostics by name: a new one is a file and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from torch import nn

from assay.attacks import APGD, BIM, FGSM, PGD, DeepFool
from assay.attacks.universal import UniversalSign
from assay.core.arguments import described, nearest, reject
from assay.core.combinators import AnyAttack
from assay.data import Dataset
from assay.diagnostics.answer import Answer
from assay.diagnostics.destruction import destruction
from assay.diagnostics.detectability import detectability
from assay.diagnostics.gradients import gradients
from assay.diagnostics.learning import learning
from assay.diagnostics.profile import profile
from assay.diagnostics.sharedness import sharedness
from assay.diagnostics.stability import stability
from assay.diagnostics.surface import surface
from assay.diagnostics.tradeoff import tradeoff
from assay.diagnostics.trail import Told, Trail, quiet
from assay.diagnostics.transfer import transfer
from assay.diagnostics.universality import universality

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Case:
    """What the diagnostics are asked of.

    Attributes:
        trail: networks by epoch; None without.
        models: networks by name.
        train: images that detectors and universal perturbations are made on, and other inputs are drawn from.
        test: images that are attacked.
        eps: linf budget of FGSM and BIM (step eps/4, 10 steps, as in paper 001); universal perturbations have 2.5
            times as much.
        seed: of all draws.
        told: progress.
        updates: of universal perturbations.
    """

    trail: Trail | None
    models: Mapping[str, nn.Module]
    train: Dataset
    test: Dataset
    eps: float
    seed: int = 0
    told: Told = quiet
    updates: int = 50

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The models; of a trail the first, the last and others between."""
        return self.models or {f"epoch {e}": model for e, model in self.over_time.thinned(4)}

    @property
    def over_time(self) -> Trail:
        """The trail."""
        if self.trail is None:
            return reject("model", "a training trail (the folder of assay train --trail), not single models", None)
        return self.trail

    @property
    def bim(self) -> AnyAttack:
        """The attack of paper 001."""
        return BIM(self.eps, steps=10, step_size=self.eps / 4)


@dataclass(frozen=True)
class Entry:
    """One diagnostic.

    Attributes:
        ask: makes the answer.
        title: heading.
        question: what it asks.
        trail: whether it needs a trail.
        more: further figures of the answer.
    """

    ask: Callable[[Case], Answer]
    title: str
    question: str
    trail: bool = True
    more: Callable[[Answer], "Figure"] | None = None


def _learning(case: Case) -> Answer:
    parts = {"train": (case.train.images(), case.train.y), "test": (case.test.images(), case.test.y)}
    attacks = {"FGSM": FGSM(case.eps), "BIM": case.bim}
    return learning(case.over_time, parts, attacks, seed=case.seed, told=case.told)


def _stability(case: Case) -> Answer:
    return stability(case.over_time, case.test.images(), case.test.y, case.bim, seed=case.seed, told=case.told)


def _sharedness(case: Case) -> Answer:
    own, others = (case.test.images(), case.test.y), (case.train.images(), case.train.y)
    return sharedness(case.over_time, own, others, case.bim, seed=case.seed, told=case.told)


def _universality(case: Case) -> Answer:
    attack = UniversalSign(2.5 * case.eps, updates=case.updates, batches=4)
    parts = {"train": case.train, "test": case.test}
    return universality(case.over_time, parts, case.test, attack, seed=case.seed, told=case.told)


def _destruction(case: Case) -> Answer:
    attacks = {"BIM": case.bim, "FGSM": FGSM(case.eps), "DeepFool": DeepFool(norm="linf", steps=20)}
    return destruction(case.over_time, case.test.images(), case.test.y, attacks, seed=case.seed, told=case.told)


def _detectability(case: Case) -> Answer:
    attacks = {"BIM": case.bim, "FGSM": FGSM(case.eps)}
    return detectability(case.over_time, case.train, case.test, attacks, eps=2.5 * case.eps, updates=case.updates,
                         seed=case.seed, told=case.told)  # fmt: skip


def _transfer(case: Case) -> Answer:
    models: Mapping[str, nn.Module] | Trail = case.models or case.over_time.thinned(8)
    attack = PGD(case.eps, steps=20)
    return transfer(models, case.test.images(), case.test.y, attack, seed=case.seed, told=case.told)


def _gradients(case: Case) -> Answer:
    return gradients(case.networks, case.test.images(), case.test.y, masks=case.test.masks, told=case.told)


def _surface(case: Case) -> Answer:
    part = case.test.take(slice(0, 64))
    return surface(case.networks, part.images(), part.y, eps=2 * case.eps, seed=case.seed, told=case.told)


def _profile(case: Case) -> Answer:
    return profile(case.networks, case.test, seed=case.seed, told=case.told)


def _tradeoff(case: Case) -> Answer:
    models: Mapping[str, nn.Module] | Trail = case.models or case.over_time
    attack = APGD(case.eps, steps=20)
    return tradeoff(models, case.test.images(), case.test.y, attack, seed=case.seed, told=case.told)


def _pictures(answer: Answer) -> "Figure":
    drawn: Figure = answer.pictures()  # type: ignore[attr-defined]
    return drawn


DIAGNOSTICS: Mapping[str, Entry] = MappingProxyType(
    {
        "learning": Entry(_learning, "Learning curves", "How do accuracy and robustness grow with training?"),
        "stability": Entry(_stability, "Stability", "Are perturbations removed, or exchanged for others?"),
        "sharedness": Entry(_sharedness, "Sharedness", "Do perturbations that fool many inputs live shorter?"),
        "universality": Entry(_universality, "Universal perturbations", "Does training remove them?", more=_pictures),
        "destruction": Entry(_destruction, "Destruction", "Do adversarial images survive light, blur and noise?"),
        "detectability": Entry(_detectability, "Detectability", "Can adversarial images be told from clean ones?",
                               more=_pictures),
        "transfer": Entry(_transfer, "Transfer", "Do one network's adversarial images fool another?", trail=False),
        "gradients": Entry(_gradients, "Gradients", "Which pixels does it look at?", trail=False),
        "surface": Entry(_surface, "Loss surface", "Is the loss around an image a slope or a cliff?", trail=False),
        "profile": Entry(_profile, "Corruptions", "Which kinds of damage does it withstand?", trail=False),
        "tradeoff": Entry(_tradeoff, "Trade-off", "What does robustness cost in accuracy?", trail=False),
    }
)  # fmt: skip


def chosen(which: str | None, *, trail: bool) -> tuple[str, ...]:
    """The diagnostics of a comma-separated list; without one, all that can be asked.

    Raises:
        ValueError: an unknown name, or one that needs a trail where there is none.
    """
    if which is None:
        return tuple(name for name, entry in DIAGNOSTICS.items() if trail or not entry.trail)
    names = tuple(filter(None, (part.strip() for part in which.split(","))))
    for name in names:
        if name not in DIAGNOSTICS:
            reject("which", "some of " + ", ".join(DIAGNOSTICS), described(f"{name!r}{nearest(name, DIAGNOSTICS)}"))
        if DIAGNOSTICS[name].trail and not trail:
            reject("which", "diagnostics of single models, as no training trail is given", name)
    return names
