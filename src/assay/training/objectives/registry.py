"""The training objectives by name: a new one is a file and a line here."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from assay.attacks.registry import make as make_attack
from assay.core.arguments import described, nearest, reject
from assay.core.combinators import AnyAttack
from assay.core.spec import read_arguments
from assay.training.objectives.adversarial import Adversarial, Fast
from assay.training.objectives.attribution import RobustAttribution
from assay.training.objectives.batch import TrainingObjective
from assay.training.objectives.clean import Clean
from assay.training.objectives.curvature import Curvature
from assay.training.objectives.distillation import Distillation
from assay.training.objectives.free import Free
from assay.training.objectives.interpolated import Interpolated, VertexMixup
from assay.training.objectives.linearity import LocalLinearity
from assay.training.objectives.mixed import Mixed
from assay.training.objectives.noise import Gaussian, Stability
from assay.training.objectives.pairing import Pairing
from assay.training.objectives.trades import Mart, Trades
from assay.training.objectives.weights import WeightPerturbation


@dataclass(frozen=True)
class Entry:
    """One objective.

    Attributes:
        make: its class or factory.
        help: a line for tables.
        attack: the inner maximiser where the recipe names none; None where it has no part called ``attack``.
    """

    make: Callable[..., TrainingObjective]
    help: str
    attack: str | None = None


OBJECTIVES: Mapping[str, Entry] = MappingProxyType(
    {
        "clean": Entry(Clean, "cross-entropy of the images as they are"),
        "fgsm-at": Entry(Adversarial, "cross-entropy of FGSM's images", "fgsm"),
        "pgd-at": Entry(Adversarial, "cross-entropy of PGD's images", "pgd"),
        "at-dual": Entry(Adversarial, "cross-entropy of dual-perturbation images (needs masks)", "dual"),
        "mixed": Entry(Mixed, "σ clean + (1 − σ) adversarial, predicted labels against label leaking", "fgsm"),
        "free": Entry(Free, "one backward pass moves weights and perturbation"),
        "fast": Entry(Fast, "one step from a random start"),
        "trades": Entry(Trades, "clean loss and divergence of the adversarial prediction", "pgd:loss=kl"),
        "mart": Entry(Mart, "boosted loss, divergence weighted by misclassification", "pgd"),
        "alp": Entry(Pairing, "adversarial logit pairing", "pgd"),
        "iat": Entry(Interpolated, "mixup on clean and on adversarial images", "pgd"),
        "avmixup": Entry(VertexMixup, "points up to the adversarial vertex, soft labels", "pgd"),
        "awp": Entry(WeightPerturbation, "adversarial images and adversarial weights", "pgd"),
        "gaussian": Entry(Gaussian, "Gaussian noise, for randomised smoothing"),
        "stability": Entry(Stability, "predictions that noise does not move"),
        "distillation": Entry(Distillation, "a teacher's softened predictions"),
        "cure": Entry(Curvature, "small curvature of the loss"),
        "llr": Entry(LocalLinearity, "a loss close to its tangent"),
        "attribution": Entry(RobustAttribution, "attributions that an attack does not move", "pgd"),
    }
)


def make(
    spec: str,
    *,
    eps: float | None,
    norm: str = "linf",
    eps_background: float | None = None,
    steps: int = 10,
    attack: str | None = None,
    load: Callable[[str], Any] | None = None,
) -> TrainingObjective:
    """An objective from ``name`` or ``name:key=value,…``.

    Args:
        spec: a name of `OBJECTIVES` and arguments of its class, such as ``trades:beta=6``.
        eps: budget of the inner attack (the foreground's, for dual attacks).
        norm: of the budgets.
        eps_background: the background budget.
        steps: of the inner attack.
        attack: the inner attack, as in `assay.attacks.registry.make`, if not the objective's usual one.
        load: how a ``teacher`` named in the spec is read.

    Returns:
        The objective.

    Raises:
        ValueError: an unknown name or argument, or a budget that is missing.

    Example:
        >>> make("trades:beta=3", eps=8/255).beta
        3.0
    """
    name, _, text = spec.partition(":")
    if name not in OBJECTIVES:
        reject("objective", "one of " + ", ".join(OBJECTIVES), described(f"{name!r}{nearest(name, OBJECTIVES)}"))
    entry = OBJECTIVES[name]
    known = inspect.signature(entry.make).parameters
    typed = {k: p.replace(annotation="str") if k == "teacher" else p for k, p in known.items() if k != "attack"}
    given = read_arguments(name, text, typed, what="objective")
    if "teacher" in known:
        if "teacher" not in given or load is None:
            reject(f"{name}:teacher", "the weights of a trained model, as in teacher=runs/t/model.safetensors", None)
        given["teacher"] = load(str(given["teacher"]))
    if entry.attack is not None:
        given["attack"] = _inner(name, attack or entry.attack, eps, norm, eps_background, steps)
    elif attack is not None:
        reject("attack", f"nothing, as {name} has no inner attack", attack)
    if "eps" in known and "eps" not in given:
        given["eps"] = _budget(name, eps)
    if "norm" in known:
        given.setdefault("norm", norm)
    return entry.make(**given)


def _inner(name: str, spec: str, eps: float | None, norm: str, eps_background: float | None, steps: int) -> AnyAttack:
    if name == "at-dual" and eps_background is None:
        reject("eps_background", f"the background budget, which {name} needs", None)
    kind, colon, text = spec.partition(":")
    if kind in ("pgd", "dual", "bim", "mim", "apgd", "dual-apgd") and "steps=" not in text:
        spec = f"{kind}:{text}{',' if text else ''}steps={steps}" if colon else f"{kind}:steps={steps}"
    return make_attack(spec, eps=_budget(name, eps), norm=norm, eps_background=eps_background)


def _budget(name: str, eps: float | None) -> float:
    if eps is None:
        reject("eps", f"a budget, which {name} needs", None)
    return eps
