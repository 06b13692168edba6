"""The diagnostics by name: a new one is a file and a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import assay.diagnostics.asking.costs as costs
import assay.diagnostics.asking.questions as questions
from assay.diagnostics.answer import Answer
from assay.diagnostics.context import DiagnosticContext
from assay.util.registry import Registry, instance_of
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


DIAGNOSTICS: Registry[Diagnostic] = Registry(
    "diagnostic",
    {
        "learning": Diagnostic(
            questions.ask_learning,
            "Learning curves",
            "How do accuracy and robustness grow with training?",
            costs.of_learning,
        ),
        "stability": Diagnostic(
            questions.ask_stability,
            "Stability",
            "Does training remove perturbations, or replace them?",
            costs.of_stability,
        ),
        "sharedness": Diagnostic(
            questions.ask_sharedness,
            "Sharedness",
            "Do perturbations that fool many inputs disappear sooner?",
            costs.of_sharedness,
        ),
        "universality": Diagnostic(
            questions.ask_universality,
            "Universal perturbations",
            "Does training remove universal perturbations?",
            costs.of_universality,
            more=questions.pictures,
        ),
        "destruction": Diagnostic(
            questions.ask_destruction,
            "Destruction",
            "Do adversarial images survive light, blur and noise?",
            costs.of_destruction,
        ),
        "detectability": Diagnostic(
            questions.ask_detectability,
            "Detectability",
            "Can adversarial images be detected?",
            costs.of_detectability,
            more=questions.pictures,
        ),
        "transfer": Diagnostic(
            questions.ask_transfer,
            "Transfer",
            "Do one network's adversarial images fool another?",
            costs.of_transfer,
            trail=False,
        ),
        "gradients": Diagnostic(
            questions.ask_gradients, "Gradients", "Which pixels does it look at?", costs.of_gradients, trail=False
        ),
        "surface": Diagnostic(
            questions.ask_surface,
            "Loss surface",
            "Is the loss around an image a slope or a cliff?",
            costs.of_surface,
            trail=False,
        ),
        "profile": Diagnostic(
            questions.ask_profile, "Corruptions", "Which corruptions is it robust to?", costs.of_profile, trail=False
        ),
        "budgets": Diagnostic(
            questions.ask_budgets, "Budgets", "How much perturbation does it take?", costs.of_budgets, trail=False
        ),
        "suspicion": Diagnostic(
            questions.ask_suspicion,
            "Suspicion",
            "Can a large change of the background be kept unsuspicious?",
            costs.of_suspicion,
            trail=False,
            masks=True,
        ),
        "attribution": Diagnostic(
            questions.ask_attribution,
            "Explanations",
            "Can the explanation be changed while the prediction stays?",
            costs.of_attribution,
            trail=False,
            more=questions.pictures,
        ),
        "interpretability": Diagnostic(
            questions.ask_interpretability,
            "Interpretability",
            "Do perturbations fall where it is sensitive?",
            costs.of_interpretability,
            trail=False,
            more=questions.pictures,
        ),
        "targets": Diagnostic(
            questions.ask_targets,
            "Targets",
            "How much does it take to reach the easiest, a random and the hardest class?",
            costs.of_targets,
            trail=False,
        ),
        "parameters": Diagnostic(
            questions.ask_parameters,
            "Filters",
            "Which filters does an attack activate?",
            costs.of_parameters,
            trail=False,
            more=questions.pictures,
        ),
        "tradeoff": Diagnostic(
            questions.ask_tradeoff,
            "Trade-off",
            "What does robustness cost in accuracy?",
            costs.of_tradeoff,
            trail=False,
        ),
    },
    group="assay.diagnostics",
    adapt=instance_of(Diagnostic, "docs/plugins.md"),
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
