"""The training objectives by name: a new one is a file and a line here."""

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from assay.attacks.registry import ATTACKS
from assay.attacks.registry import make as make_attack
from assay.core.combinators import AnyAttack
from assay.training.objectives.adversarial import Adversarial, Fast
from assay.training.objectives.alignment import Alignment
from assay.training.objectives.attribution import RobustAttribution
from assay.training.objectives.batch import TrainingObjective
from assay.training.objectives.certified import BoundTraining, SmallBoxes
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
from assay.util.registry import Registry
from assay.util.spec import read_arguments, split_spec
from assay.util.validate import described, reject


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


_STEPS = 10
"""Steps of an inner attack where nobody says how many."""

OPTIONS = ("eps", "eps_background", "norm", "attack", "attack_steps")
"""Options of a recipe that only some objectives read."""

OBJECTIVES: Registry[Entry] = Registry(
    "objective",
    {
        "clean": Entry(Clean, "cross-entropy of the images as they are"),
        "fgsm-at": Entry(Adversarial, "cross-entropy of FGSM's images", "fgsm"),
        "pgd-at": Entry(Adversarial, "cross-entropy of PGD's images", "pgd"),
        "at-dual": Entry(Adversarial, "cross-entropy of dual-perturbation images (needs masks)", "dual"),
        "mixed": Entry(Mixed, "σ clean + (1 − σ) adversarial, predicted labels against label leaking", "bim"),
        "free": Entry(Free, "one backward pass moves weights and perturbation"),
        "fast": Entry(Fast, "one step from a random start"),
        "trades": Entry(Trades, "clean loss and divergence of the adversarial prediction", "pgd:loss=kl"),
        "mart": Entry(Mart, "boosted loss, divergence weighted by misclassification", "pgd"),
        "alp": Entry(Pairing, "adversarial logit pairing", "pgd"),
        "iat": Entry(Interpolated, "mixup on clean and on adversarial images", "pgd"),
        "avmixup": Entry(VertexMixup, "points up to the adversarial vertex, soft labels", "pgd"),
        "awp": Entry(WeightPerturbation, "adversarial images and adversarial weights", "pgd"),
        "ibp": Entry(BoundTraining, "clean loss and that of the worst logits that intervals allow"),
        "crown-ibp": Entry(partial(BoundTraining, linear=True, clean=0.0), "the same, of linear bounds at first"),
        "sabr": Entry(SmallBoxes, "intervals of a small box around an adversarial image"),
        "gaussian": Entry(Gaussian, "Gaussian noise, for randomised smoothing"),
        "stability": Entry(Stability, "predictions that noise does not move"),
        "distillation": Entry(Distillation, "a teacher's softened predictions"),
        "cure": Entry(Curvature, "small curvature of the loss"),
        "llr": Entry(LocalLinearity, "a loss close to its tangent"),
        "attribution": Entry(RobustAttribution, "attributions that an attack does not move", "pgd"),
        "alignment": Entry(Alignment, "input gradients that look like the image (attributional robustness)"),
    },
)


def make(
    spec: str,
    *,
    eps: float | None,
    norm: str = "linf",
    eps_background: float | None = None,
    steps: int | None = None,
    attack: str | None = None,
    load: Callable[[str], Any] | None = None,
) -> TrainingObjective:
    """An objective from ``name`` or ``name:key=value,…``.

    Budgets and steps that an objective does not read have no effect; `check_options` refuses them.

    Args:
        spec: a name of `OBJECTIVES` and arguments of its class, such as ``trades:beta=6``.
        eps: budget of the inner attack (the foreground's, for dual attacks).
        norm: of the budgets.
        eps_background: the background budget.
        steps: of the inner attack, where it has steps and its own words do not say how many; by default 10.
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
    name, text = split_spec("objective", spec)
    entry = OBJECTIVES.find(name)
    known = inspect.signature(entry.make).parameters
    typed = {k: p.replace(annotation="str") if k == "teacher" else p for k, p in known.items() if k != "attack"}
    arguments = read_arguments(name, text, typed, what="objective")
    if "teacher" in known:
        if "teacher" not in arguments or load is None:
            reject(f"{name}:teacher", "the weights of a trained model, as in teacher=runs/t/model.safetensors", None)
        arguments["teacher"] = load(str(arguments["teacher"]))
    if entry.attack is not None:
        arguments["attack"] = _inner(name, attack or entry.attack, eps, norm, eps_background, steps)
    elif attack is not None:
        reject("attack", f"nothing, as {name} has no inner attack", attack)
    if "eps" in known and "eps" not in arguments:
        arguments["eps"] = _budget(name, eps)
    if "norm" in known:
        arguments.setdefault("norm", norm)
    return entry.make(**arguments)


def options_of(spec: str, attack: str | None = None) -> frozenset[str]:
    """Those of `OPTIONS` that an objective reads.

    Args:
        spec: as in `make`.
        attack: the inner attack, if not the objective's usual one.

    Raises:
        ValueError: an unknown objective.

    Example:
        >>> sorted(options_of("fgsm-at")), sorted(options_of("clean"))
        (['attack', 'eps', 'norm'], [])
    """
    name = spec.partition(":")[0]
    entry = OBJECTIVES.find(name)
    own = inspect.signature(entry.make).parameters
    options = {option for option in ("eps", "norm") if option in own}
    if entry.attack is not None:
        inner = _parameters(attack or entry.attack)
        options |= {"eps", "norm", "attack"}
        options |= {"attack_steps"} if "steps" in inner else set()
        options |= {"eps_background"} if "eps_background" in inner else set()
    return frozenset(options)


def check_options(spec: str, chosen: Collection[str], attack: str | None = None) -> None:
    """Refuse options of a recipe that an objective does not read.

    Args:
        spec: as in `make`.
        chosen: the options that the user has set, any of `OPTIONS`.
        attack: the inner attack, if not the objective's usual one.

    Raises:
        ValueError: one that would have no effect, with what does have one.

    Example:
        >>> check_options("fgsm-at", ["attack_steps"])
        Traceback (most recent call last):
        ValueError: attack_steps: expected nothing, as the inner attack fgsm takes no steps (choose attack pgd ...
    """
    name = spec.partition(":")[0]
    entry, options = OBJECTIVES.find(name), options_of(spec, attack)
    inner = (attack or entry.attack or "").partition(":")[0]
    for option in (o for o in OPTIONS if o in chosen and o not in options):
        if entry.attack is None:
            own = ", ".join(k for k in inspect.signature(entry.make).parameters if k not in ("attack", "teacher"))
            budgets = "one budget" if "eps" in options else "no budget"
            reason = f"{name} has no inner attack" if "attack" in option else f"{name} has {budgets}"
            hint = f"its own options: {own}" if own else "leave it out"
        elif option == "attack_steps":
            reason = f"the inner attack {inner} takes no steps"
            hint = "choose attack pgd or bim for several, or leave it out"
        else:
            reason, hint = f"the inner attack {inner} has one budget", "choose attack dual for two, or leave it out"
        reject(option, f"nothing, as {reason} ({hint})", described("a value"))


def _parameters(spec: str) -> Collection[str]:
    """Names of the arguments of an attack; none for a name that is not known."""
    name = spec.partition(":")[0]
    return inspect.signature(ATTACKS[name].make).parameters if name in ATTACKS else ()


def _inner(
    name: str, spec: str, eps: float | None, norm: str, eps_background: float | None, steps: int | None
) -> AnyAttack:
    if name == "at-dual" and eps_background is None:
        reject("eps_background", f"the background budget, which {name} needs", None)
    kind, _, text = spec.partition(":")
    words = [part for part in text.split(",") if part.strip()]
    stated = any(word.partition("=")[0].strip() == "steps" for word in words)
    if "steps" in _parameters(spec) and not stated:
        spec = f"{kind}:" + ",".join([*words, f"steps={_STEPS if steps is None else steps}"])
    return make_attack(spec, eps=_budget(name, eps), norm=norm, eps_background=eps_background)


def _budget(name: str, eps: float | None) -> float:
    if eps is None:
        reject("eps", f"a budget, which {name} needs", None)
    return eps
