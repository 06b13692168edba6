"""Dual-perturbation: a small budget on the foreground, a large one on the background."""

from typing import Any

import torch

from assay.attacks.auto_pgd.apgd import APGD
from assay.attacks.pgd import default_rate, falling_rate
from assay.core.attack import Attack
from assay.core.combinators import Restarts, Targets
from assay.core.objective import Objective
from assay.core.types import Eps
from assay.masks.learned_saliency import load_saliency
from assay.masks.score import ForegroundScore
from assay.parts.balls import Ball, Split, as_ball
from assay.parts.first_order import FirstOrder
from assay.parts.losses import objective
from assay.parts.step_rules import Ascent
from assay.parts.variants import repeated
from assay.util.hints import with_hints
from assay.util.validate import number, one_of, radius, reject


@with_hints
def DualPerturbation(
    eps_foreground: Eps,
    eps_background: Eps,
    *,
    norm: str = "linf",
    steps: int | None = None,
    step_foreground: Eps | None = None,
    step_background: Eps | None = None,
    saliency: torch.nn.Module | str | None = None,
    lam: float = 0.0,
    restarts: int = 1,
    loss: str | Objective = "ce",
    random_start: bool = True,
) -> FirstOrder | Restarts:
    """Maximise ``L(h(x+δ), y) + λ·S(x+δ)`` over ``‖δ∘F‖ ≤ ε_F``, ``‖δ∘B‖ ≤ ε_B``.

    S is the foreground score under a saliency model, so a larger λ keeps the background inconspicuous. The foreground
    comes with the rows (``attack(..., mask=)``). It is `FirstOrder` on the `Split` geometry: ``APGD(Split(…))``,
    targets and restarts work the same way. Against a smoothed classifier (equations 9 and 10) wrap the model in
    `Expectation` with its σ: then loss and score are averaged over the noise.

    With ``stop="hit"`` a sample ends with its first misclassified image, whatever its score. For λ to shape the images,
    run every step: ``attack(..., stop="never")`` or `perturb`.

    Args:
        eps_foreground: budget where the mask is 1, in input units.
        eps_background: budget where it is 0.
        norm: of both budgets, ``"linf"`` or ``"l2"``.
        steps: gradient steps; by default the paper's, 20 for linf and 100 for l2.
        step_foreground: step size α_F, the same in every step; by default ``2.5·ε_F/steps``, and for l2 (where neither
            is given) one that falls to 0 as in `PGD`.
        step_background: step size α_B; by default ``2.5·ε_B/steps``, or as above.
        saliency: maps images ``(b, c, h, w)`` to a density ``(b, 1, h, w)`` that sums to 1, such as
            ``assay.masks.SpectralResidual()``, or the name or file of one (`assay.masks.load_saliency`); needed where
            ``lam`` is not 0.
        lam: weight λ of the score, at least 0.
        restarts: number of random starts.
        loss: objective or its name.
        random_start: start at a random point of both balls (step 1 of the paper's algorithm).

    Returns:
        An attack of ``steps`` passes forward and backward a restart.

    Example:
        >>> DualPerturbation(4/255, 20/255).describe()
        'Dual-20 linf F 4/255, B 20/255'

    Source: Tong, Guo, Prakash & Vorobeychik, "Towards robustness against unsuspicious adversarial examples", 2020,
    equations 3 and 5–10, appendix A. Deviations: random starts are uniform in the ball of each region (the paper draws
    in the ball of the whole image and cuts out the region, which for l2 starts nearer to the clean image); the paper's
    saliency model is DeepGaze II, which needs weights: `SpectralResidual` needs none, and `Learned` takes any network.
    """
    one_of("norm", norm, ("linf", "l2"))
    steps = {"linf": 20, "l2": 100}[norm] if steps is None else steps
    geometry = Split(as_ball("eps_foreground", eps_foreground, norm), as_ball("eps_background", eps_background, norm))
    falls = norm == "l2" and step_foreground is None and step_background is None
    rate = (
        (falling_rate(steps),) * 2
        if falls
        else (
            _rate("step_foreground", step_foreground, geometry.foreground, steps),
            _rate("step_background", step_background, geometry.background, steps),
        )
    )
    goal = objective(loss)
    model = load_saliency(saliency) if isinstance(saliency, str) else saliency
    if number("lam", lam, least=0) > 0:
        if model is None:
            reject("saliency", "a saliency model, which `lam` above 0 needs", None)
        goal = goal + lam * ForegroundScore(model)
    start = "inside" if random_start else "clean"
    name = "Dual" if not lam else f"Dual λ={lam:g}"
    attack = FirstOrder(name, geometry, goal, Ascent(geometry, rate, steps if falls else None), steps, start)
    return repeated(attack, restarts)


def _rate(name: str, step_size: Eps | None, ball: Ball, steps: int) -> float:
    if step_size is None:
        return default_rate(steps)
    size = radius(name, step_size, above=True)
    return size / ball.eps if ball.eps > 0 else 1.0


@with_hints
def DualAPGD(
    eps_foreground: Eps, eps_background: Eps, *, norm: str = "linf", steps: int = 100, restarts: int = 1
) -> Attack[Any] | Restarts | Targets:
    """`APGD` on the dual-perturbation set.

    Args:
        eps_foreground: budget of the foreground, in input units.
        eps_background: budget of the background.
        norm: ``"linf"`` or ``"l2"``.
        steps: gradient steps a restart.
        restarts: number of starts.

    Example:
        >>> DualAPGD(4/255, 20/255, steps=20).describe()
        'APGD-CE-20 linf F 4/255, B 20/255'
    """
    one_of("norm", norm, ("linf", "l2"))
    front, back = as_ball("eps_foreground", eps_foreground, norm), as_ball("eps_background", eps_background, norm)
    return APGD(Split(front, back), steps=steps, restarts=restarts)
