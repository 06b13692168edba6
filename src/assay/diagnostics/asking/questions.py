"""From a context to an answer: what each diagnostic is asked about."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from assay.attacks.registry import background_budget
from assay.core.combinators import unfold
from assay.diagnostics.answer import Answer
from assay.diagnostics.asking.default_attacks import (
    FACTORS,
    compared_attacks,
    filter_attacks,
    measuring_attack,
    targeted_attacks,
    transferred_attack,
    universal_attack,
)
from assay.diagnostics.attribution import attribution
from assay.diagnostics.budgets import budgets
from assay.diagnostics.context import DiagnosticContext
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
from assay.diagnostics.suspicion import LAMBDAS, suspicion
from assay.diagnostics.targets import targets
from assay.diagnostics.tradeoff import tradeoff
from assay.diagnostics.trail import Trail
from assay.diagnostics.transfer import transfer
from assay.diagnostics.universality import universality

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def ask_learning(context: DiagnosticContext) -> Answer:
    """Accuracy by epoch, on training and test images."""
    parts = {"train": (context.train.images(), context.train.y), "test": (context.test.images(), context.test.y)}
    return learning(context.required_trail, parts, context.attacks_within, seed=context.seed, progress=context.progress)


def ask_stability(context: DiagnosticContext) -> Answer:
    """One attack, at each epoch."""
    return stability(
        context.required_trail,
        context.test.images(),
        context.test.y,
        context.single_attack,
        seed=context.seed,
        progress=context.progress,
    )


def ask_sharedness(context: DiagnosticContext) -> Answer:
    """One attack on test images, tried on training images."""
    own, others = (context.test.images(), context.test.y), (context.train.images(), context.train.y)
    return sharedness(
        context.required_trail, own, others, context.single_attack, seed=context.seed, progress=context.progress
    )


def ask_universality(context: DiagnosticContext) -> Answer:
    """Perturbations made on training and on test images."""
    parts = {"train": context.train, "test": context.test}
    return universality(
        context.required_trail,
        parts,
        context.test,
        universal_attack(context),
        seed=context.seed,
        progress=context.progress,
    )


def ask_destruction(context: DiagnosticContext) -> Answer:
    """Several attacks, at each epoch."""
    return destruction(
        context.required_trail,
        context.test.images(),
        context.test.y,
        context.several_attacks,
        seed=context.seed,
        progress=context.progress,
    )


def ask_detectability(context: DiagnosticContext) -> Answer:
    """A detector of each attack, at each epoch."""
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


def ask_transfer(context: DiagnosticContext) -> Answer:
    """One attack on each network."""
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


def ask_gradients(context: DiagnosticContext) -> Answer:
    """Of test images."""
    return gradients(
        context.networks, context.test.images(), context.test.y, masks=context.test.masks, progress=context.progress
    )


def ask_surface(context: DiagnosticContext) -> Answer:
    """Around 64 test images."""
    part = context.test.head(64, context.seed)
    return surface(
        context.networks, part.images(), part.y, eps=2 * context.eps, seed=context.seed, progress=context.progress
    )


def ask_profile(context: DiagnosticContext) -> Answer:
    """Every corruption."""
    return profile(context.networks, context.test, seed=context.seed, progress=context.progress)


def ask_tradeoff(context: DiagnosticContext) -> Answer:
    """Clean and robust accuracy of each network."""
    models: Mapping[str, nn.Module] | Trail = context.models or context.required_trail
    attack = measuring_attack(context.eps)
    return tradeoff(models, context.test.images(), context.test.y, attack, seed=context.seed, progress=context.progress)


def ask_budgets(context: DiagnosticContext) -> Answer:
    """Five budgets about the context's."""
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


def ask_suspicion(context: DiagnosticContext) -> Answer:
    """Dual perturbations with weights λ."""
    return suspicion(
        context.networks,
        context.test.images(),
        context.test.y,
        context.required_masks,
        eps=context.eps,
        eps_background=background_budget(context.eps, context.norm, context.eps_background),
        norm=context.norm,
        lambdas=context.lambdas or LAMBDAS,
        saliency=context.saliency,
        seed=context.seed,
        progress=context.progress,
    )


def ask_attribution(context: DiagnosticContext) -> Answer:
    """Explanations under attack."""
    return attribution(
        context.networks,
        context.test.images(),
        context.test.y,
        eps=context.eps,
        explanation=context.explanation,
        seed=context.seed,
        progress=context.progress,
    )


def ask_interpretability(context: DiagnosticContext) -> Answer:
    """Targeted attacks on one network, towards random classes."""
    part = context.test
    places = torch.randint(1, len(part.classes), part.y.shape, generator=torch.Generator().manual_seed(context.seed))
    attacks = targeted_attacks(context)
    target = (part.y + places) % len(part.classes)
    return interpretability(
        context.single_model, part.images(), part.y, target, attacks, seed=context.seed, progress=context.progress
    )


def ask_targets(context: DiagnosticContext) -> Answer:
    """Targeted attacks on one network, towards all classes."""
    part = context.test
    return targets(
        context.single_model,
        part.images(),
        part.y,
        len(part.classes),
        compared_attacks(context),
        seed=context.seed,
        progress=context.progress,
    )


def ask_parameters(context: DiagnosticContext) -> Answer:
    """Filters of one network under several attacks."""
    own = context.test.images(), context.test.y
    attacks = filter_attacks(context)
    return parameters(context.single_model, *own, attacks, own, seed=context.seed, progress=context.progress)


def pictures(answer: Answer) -> "Figure":
    """The pictures of an answer that has some."""
    figure: Figure = answer.pictures()  # type: ignore[attr-defined]
    return figure
