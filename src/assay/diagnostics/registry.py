"""The diagnostics by name: a new one is a file and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

import assay.diagnostics.costs as costs
from assay.attacks.registry import background_budget
from assay.core.combinators import unfold
from assay.diagnostics.answer import Answer
from assay.diagnostics.attribution import attribution
from assay.diagnostics.budgets import budgets
from assay.diagnostics.context import DiagnosticContext
from assay.diagnostics.corruption_profile import profile
from assay.diagnostics.default_attacks import (
    FACTORS,
    filter_attacks,
    measuring_attack,
    targeted_attacks,
    transferred_attack,
    universal_attack,
)
from assay.diagnostics.destruction import destruction
from assay.diagnostics.detectability import detectability
from assay.diagnostics.gradients import gradients
from assay.diagnostics.interpretability import interpretability
from assay.diagnostics.learning import learning
from assay.diagnostics.parameters import parameters
from assay.diagnostics.sharedness import sharedness
from assay.diagnostics.stability import stability
from assay.diagnostics.surface import surface
from assay.diagnostics.suspicion import LAMBDAS, suspicion
from assay.diagnostics.tradeoff import tradeoff
from assay.diagnostics.trail import Trail
from assay.diagnostics.transfer import transfer
from assay.diagnostics.universality import universality
from assay.util.registry import Registry
from assay.util.spec import names_of
from assay.util.validate import reject

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Diagnostic:
    """One diagnostic.

    Attributes:
        ask: makes the answer.
        title: heading.
        question: what it asks.
        cost: what it costs at most, in passes of a network; None where nobody has said.
        trail: whether it needs a trail.
        masks: whether it needs images with foreground masks.
        more: further figures of the answer.
    """

    ask: Callable[[DiagnosticContext], Answer]
    title: str
    question: str
    cost: costs.Cost | None = None
    trail: bool = True
    masks: bool = False
    more: Callable[[Answer], "Figure"] | None = None


def _learning(context: DiagnosticContext) -> Answer:
    parts = {"train": (context.train.images(), context.train.y), "test": (context.test.images(), context.test.y)}
    return learning(context.required_trail, parts, context.attacks_within, seed=context.seed, progress=context.progress)


def _stability(context: DiagnosticContext) -> Answer:
    return stability(
        context.required_trail,
        context.test.images(),
        context.test.y,
        context.single_attack,
        seed=context.seed,
        progress=context.progress,
    )


def _sharedness(context: DiagnosticContext) -> Answer:
    own, others = (context.test.images(), context.test.y), (context.train.images(), context.train.y)
    return sharedness(
        context.required_trail, own, others, context.single_attack, seed=context.seed, progress=context.progress
    )


def _universality(context: DiagnosticContext) -> Answer:
    parts = {"train": context.train, "test": context.test}
    return universality(
        context.required_trail,
        parts,
        context.test,
        universal_attack(context),
        seed=context.seed,
        progress=context.progress,
    )


def _destruction(context: DiagnosticContext) -> Answer:
    return destruction(
        context.required_trail,
        context.test.images(),
        context.test.y,
        context.several_attacks,
        seed=context.seed,
        progress=context.progress,
    )


def _detectability(context: DiagnosticContext) -> Answer:
    return detectability(
        context.required_trail,
        context.train,
        context.test,
        context.attacks_within,
        eps=2.5 * context.eps,
        epochs=context.detector_epochs,
        updates=context.updates,
        seed=context.seed,
        progress=context.progress,
    )


def _transfer(context: DiagnosticContext) -> Answer:
    models: Mapping[str, nn.Module] | Trail = context.models or context.required_trail
    attack = transferred_attack(context)
    needs_mask = any("mask" in stage.attack.needs for stage in unfold(attack))
    return transfer(
        models,
        context.test.images(),
        context.test.y,
        attack,
        mask=context.required_masks if needs_mask else None,
        seed=context.seed,
        progress=context.progress,
    )


def _gradients(context: DiagnosticContext) -> Answer:
    return gradients(
        context.networks, context.test.images(), context.test.y, masks=context.test.masks, progress=context.progress
    )


def _surface(context: DiagnosticContext) -> Answer:
    part = context.test.head(64, context.seed)
    return surface(
        context.networks, part.images(), part.y, eps=2 * context.eps, seed=context.seed, progress=context.progress
    )


def _profile(context: DiagnosticContext) -> Answer:
    return profile(context.networks, context.test, seed=context.seed, progress=context.progress)


def _tradeoff(context: DiagnosticContext) -> Answer:
    models: Mapping[str, nn.Module] | Trail = context.models or context.required_trail
    attack = measuring_attack(context.eps)
    return tradeoff(models, context.test.images(), context.test.y, attack, seed=context.seed, progress=context.progress)


def _budgets(context: DiagnosticContext) -> Answer:
    eps = [context.eps * factor for factor in FACTORS]
    return budgets(
        context.networks,
        context.test.images(),
        context.test.y,
        measuring_attack,
        eps,
        seed=context.seed,
        progress=context.progress,
    )


def _suspicion(context: DiagnosticContext) -> Answer:
    return suspicion(
        context.networks,
        context.test.images(),
        context.test.y,
        context.required_masks,
        eps=context.eps,
        eps_background=background_budget(context.eps, context.norm, context.eps_background),
        norm=context.norm,
        lambdas=context.lambdas or LAMBDAS,
        seed=context.seed,
        progress=context.progress,
    )


def _attribution(context: DiagnosticContext) -> Answer:
    return attribution(
        context.networks,
        context.test.images(),
        context.test.y,
        eps=context.eps,
        seed=context.seed,
        progress=context.progress,
    )


def _interpretability(context: DiagnosticContext) -> Answer:
    part = context.test
    places = torch.randint(1, len(part.classes), part.y.shape, generator=torch.Generator().manual_seed(context.seed))
    attacks = targeted_attacks(context)
    target = (part.y + places) % len(part.classes)
    return interpretability(
        context.single_model, part.images(), part.y, target, attacks, seed=context.seed, progress=context.progress
    )


def _parameters(context: DiagnosticContext) -> Answer:
    own = context.test.images(), context.test.y
    attacks = filter_attacks(context)
    return parameters(context.single_model, *own, attacks, own, seed=context.seed, progress=context.progress)


def _pictures(answer: Answer) -> "Figure":
    figure: Figure = answer.pictures()  # type: ignore[attr-defined]
    return figure


DIAGNOSTICS: Registry[Diagnostic] = Registry(
    "diagnostic",
    {
        "learning": Diagnostic(
            _learning, "Learning curves", "How do accuracy and robustness grow with training?", costs.of_learning
        ),
        "stability": Diagnostic(
            _stability, "Stability", "Does training remove perturbations, or replace them?", costs.of_stability
        ),
        "sharedness": Diagnostic(
            _sharedness, "Sharedness", "Do perturbations that fool many inputs disappear sooner?", costs.of_sharedness
        ),
        "universality": Diagnostic(
            _universality,
            "Universal perturbations",
            "Does training remove universal perturbations?",
            costs.of_universality,
            more=_pictures,
        ),
        "destruction": Diagnostic(
            _destruction, "Destruction", "Do adversarial images survive light, blur and noise?", costs.of_destruction
        ),
        "detectability": Diagnostic(
            _detectability,
            "Detectability",
            "Can adversarial images be detected?",
            costs.of_detectability,
            more=_pictures,
        ),
        "transfer": Diagnostic(
            _transfer,
            "Transfer",
            "Do one network's adversarial images fool another?",
            costs.of_transfer,
            trail=False,
        ),
        "gradients": Diagnostic(
            _gradients, "Gradients", "Which pixels does it look at?", costs.of_gradients, trail=False
        ),
        "surface": Diagnostic(
            _surface, "Loss surface", "Is the loss around an image a slope or a cliff?", costs.of_surface, trail=False
        ),
        "profile": Diagnostic(
            _profile, "Corruptions", "Which corruptions is it robust to?", costs.of_profile, trail=False
        ),
        "budgets": Diagnostic(
            _budgets, "Budgets", "How much perturbation does it take?", costs.of_budgets, trail=False
        ),
        "suspicion": Diagnostic(
            _suspicion,
            "Suspicion",
            "Can a large change of the background be kept unsuspicious?",
            costs.of_suspicion,
            trail=False,
            masks=True,
        ),
        "attribution": Diagnostic(
            _attribution,
            "Explanations",
            "Can the explanation be changed while the prediction stays?",
            costs.of_attribution,
            trail=False,
            more=_pictures,
        ),
        "interpretability": Diagnostic(
            _interpretability,
            "Interpretability",
            "Do perturbations fall where it is sensitive?",
            costs.of_interpretability,
            trail=False,
            more=_pictures,
        ),
        "parameters": Diagnostic(
            _parameters,
            "Filters",
            "Which filters does an attack activate?",
            costs.of_parameters,
            trail=False,
            more=_pictures,
        ),
        "tradeoff": Diagnostic(
            _tradeoff, "Trade-off", "What does robustness cost in accuracy?", costs.of_tradeoff, trail=False
        ),
    },
)


def select_diagnostics(which: str | None, *, trail: bool, masks: bool = True) -> tuple[str, ...]:
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
