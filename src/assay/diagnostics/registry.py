"""The diagnostics by name: a new one is a file and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import nn

from assay.attacks import APGD, FGSM, PGD, CarliniWagnerL2, CarliniWagnerLinf, DeepFool, Patch, StrAttack
from assay.attacks.universal.perturbation import UniversalSign
from assay.diagnostics.answer import Answer
from assay.diagnostics.attribution import attribution
from assay.diagnostics.budgets import budgets
from assay.diagnostics.context import Case
from assay.diagnostics.corruption_profile import profile
from assay.diagnostics.destruction import destruction
from assay.diagnostics.detectability import detectability
from assay.diagnostics.gradients import gradients
from assay.diagnostics.interpretability import interpretability
from assay.diagnostics.learning import learning
from assay.diagnostics.parameters import parameters
from assay.diagnostics.sharedness import sharedness
from assay.diagnostics.stability import stability
from assay.diagnostics.surface import surface
from assay.diagnostics.suspicion import suspicion
from assay.diagnostics.tradeoff import tradeoff
from assay.diagnostics.trail import Trail
from assay.diagnostics.transfer import transfer
from assay.diagnostics.universality import universality
from assay.util.spec import names_of
from assay.util.validate import reject

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Entry:
    """One diagnostic.

    Attributes:
        ask: makes the answer.
        title: heading.
        question: what it asks.
        trail: whether it needs a trail.
        masks: whether it needs images with foreground masks.
        more: further figures of the answer.
    """

    ask: Callable[[Case], Answer]
    title: str
    question: str
    trail: bool = True
    masks: bool = False
    more: Callable[[Answer], "Figure"] | None = None


def _learning(case: Case) -> Answer:
    parts = {"train": (case.train.images(), case.train.y), "test": (case.test.images(), case.test.y)}
    attacks = {"FGSM": FGSM(case.eps), "BIM": case.bim}
    return learning(case.over_time, parts, attacks, seed=case.seed, progress=case.progress)


def _stability(case: Case) -> Answer:
    return stability(case.over_time, case.test.images(), case.test.y, case.bim, seed=case.seed, progress=case.progress)


def _sharedness(case: Case) -> Answer:
    own, others = (case.test.images(), case.test.y), (case.train.images(), case.train.y)
    return sharedness(case.over_time, own, others, case.bim, seed=case.seed, progress=case.progress)


def _universality(case: Case) -> Answer:
    attack = UniversalSign(2.5 * case.eps, updates=case.updates, batches=4)
    parts = {"train": case.train, "test": case.test}
    return universality(case.over_time, parts, case.test, attack, seed=case.seed, progress=case.progress)


def _destruction(case: Case) -> Answer:
    attacks = {"BIM": case.bim, "FGSM": FGSM(case.eps), "DeepFool": DeepFool(norm="linf", steps=20)}
    return destruction(case.over_time, case.test.images(), case.test.y, attacks, seed=case.seed, progress=case.progress)


def _detectability(case: Case) -> Answer:
    attacks = {"BIM": case.bim, "FGSM": FGSM(case.eps)}
    return detectability(
        case.over_time,
        case.train,
        case.test,
        attacks,
        eps=2.5 * case.eps,
        updates=case.updates,
        seed=case.seed,
        progress=case.progress,
    )


def _transfer(case: Case) -> Answer:
    models: Mapping[str, nn.Module] | Trail = case.models or case.over_time.thinned(8)
    attack = PGD(case.eps, steps=20)
    return transfer(models, case.test.images(), case.test.y, attack, seed=case.seed, progress=case.progress)


def _gradients(case: Case) -> Answer:
    return gradients(case.networks, case.test.images(), case.test.y, masks=case.test.masks, progress=case.progress)


def _surface(case: Case) -> Answer:
    part = case.test.head(64, case.seed)
    return surface(case.networks, part.images(), part.y, eps=2 * case.eps, seed=case.seed, progress=case.progress)


def _profile(case: Case) -> Answer:
    return profile(case.networks, case.test, seed=case.seed, progress=case.progress)


def _tradeoff(case: Case) -> Answer:
    models: Mapping[str, nn.Module] | Trail = case.models or case.over_time
    attack = APGD(case.eps, steps=20)
    return tradeoff(models, case.test.images(), case.test.y, attack, seed=case.seed, progress=case.progress)


def _budgets(case: Case) -> Answer:
    eps = [case.eps * factor for factor in (0.25, 0.5, 1, 2, 4)]
    return budgets(
        case.networks,
        case.test.images(),
        case.test.y,
        lambda e: APGD(e, steps=20),
        eps,
        seed=case.seed,
        progress=case.progress,
    )


def _suspicion(case: Case) -> Answer:
    masks = case.test.masks
    if masks is None:
        return reject("data", "images with foreground masks", case.test.name)
    return suspicion(
        case.networks,
        case.test.images(),
        case.test.y,
        masks,
        eps=case.eps,
        eps_background=5 * case.eps,
        seed=case.seed,
        progress=case.progress,
    )


def _attribution(case: Case) -> Answer:
    return attribution(
        case.networks, case.test.images(), case.test.y, eps=case.eps, seed=case.seed, progress=case.progress
    )


def _interpretability(case: Case) -> Answer:
    part = case.test.head(32, case.seed)
    places = torch.randint(1, len(part.classes), part.y.shape, generator=torch.Generator().manual_seed(case.seed))
    steps = case.search_steps
    attacks = {"StrAttack": StrAttack(steps=steps), "C&W l2": CarliniWagnerL2(steps=steps, rounds=6)}
    target = (part.y + places) % len(part.classes)
    return interpretability(
        case.subject, part.images(), part.y, target, attacks, seed=case.seed, progress=case.progress
    )


def _parameters(case: Case) -> Answer:
    side = max(min(case.test.x.shape[2:]) // 4, 1)
    attacks = {
        "PGD": PGD(case.eps, steps=20),
        "DeepFool": DeepFool(),
        "C&W l2": CarliniWagnerL2(steps=case.search_steps, rounds=3),
        "C&W linf": CarliniWagnerLinf(steps=50, searches=10, eps=case.eps),
        "patch": Patch(side, steps=40),
    }
    own = case.test.images(), case.test.y
    return parameters(case.subject, *own, attacks, own, seed=case.seed, progress=case.progress)


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
        "detectability": Entry(
            _detectability, "Detectability", "Can adversarial images be told from clean ones?", more=_pictures
        ),
        "transfer": Entry(_transfer, "Transfer", "Do one network's adversarial images fool another?", trail=False),
        "gradients": Entry(_gradients, "Gradients", "Which pixels does it look at?", trail=False),
        "surface": Entry(_surface, "Loss surface", "Is the loss around an image a slope or a cliff?", trail=False),
        "profile": Entry(_profile, "Corruptions", "Which kinds of damage does it withstand?", trail=False),
        "budgets": Entry(_budgets, "Budgets", "How much perturbation does it take?", trail=False),
        "suspicion": Entry(
            _suspicion,
            "Suspicion",
            "Can a large change of the background be kept unsuspicious?",
            trail=False,
            masks=True,
        ),
        "attribution": Entry(
            _attribution,
            "Explanations",
            "Can the explanation be changed while the answer stays?",
            trail=False,
            more=_pictures,
        ),
        "interpretability": Entry(
            _interpretability,
            "Interpretability",
            "Do perturbations fall where it is sensitive?",
            trail=False,
            more=_pictures,
        ),
        "parameters": Entry(
            _parameters, "Filters", "Which filters does an attack set off?", trail=False, more=_pictures
        ),
        "tradeoff": Entry(_tradeoff, "Trade-off", "What does robustness cost in accuracy?", trail=False),
    }
)


def chosen(which: str | None, *, trail: bool, masks: bool = True) -> tuple[str, ...]:
    """The diagnostics of a comma-separated list; without one, all that can be asked.

    Raises:
        ValueError: an unknown name, or one that needs a trail or masks where there are none.
    """
    if which is None:
        return tuple(name for name, entry in DIAGNOSTICS.items() if entry.trail <= trail and entry.masks <= masks)
    names = names_of("which", which, DIAGNOSTICS)
    for name in names:
        if DIAGNOSTICS[name].trail and not trail:
            reject("which", "diagnostics of single models, as no training trail is given", name)
        if DIAGNOSTICS[name].masks and not masks:
            reject("which", "diagnostics that need no foreground masks, as the data has none", name)
    return names
