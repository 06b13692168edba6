"""The attacks of the transfer literature: momentum with another source of gradients."""

from assay.attacks.pgd import falling_rate, is_round, step_rate
from assay.attacks.transfer.gradients import (
    AveragedGradient,
    GradientSource,
    PlainGradient,
)
from assay.attacks.transfer.input_transforms import Admixed, DiverseInput, ScaledCopies
from assay.attacks.transfer.mixing import MADE, MixingImages
from assay.attacks.transfer.patch_wise import PatchWise
from assay.attacks.transfer.tuned_gradients import Lookahead, SmoothedGradient, VarianceTuned
from assay.attacks.transfer.with_gradient import WithGradient
from assay.core.objective import Objective
from assay.core.types import Eps
from assay.parts.balls import Ball, as_ball
from assay.parts.first_order import FirstOrder
from assay.parts.losses import objective
from assay.parts.step_rules import Momentum, StepRule
from assay.util.hints import with_hints
from assay.util.validate import number


@with_hints
def DIFGSM(
    eps: Eps | Ball,
    *,
    norm: str = "linf",
    steps: int = 10,
    step_size: Eps | None = None,
    decay: float = 1.0,
    p: float = 0.5,
    smallest: float = 0.9,
    loss: str | Objective = "ce",
) -> WithGradient:
    """Momentum iterations through random resizing and padding (DI²-FGSM with momentum).

    Args:
        eps: radius in input units, or a ball.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        steps: gradient steps.
        step_size: in input units; by default ``eps/steps``, and for l2 one that falls to 0 as in `PGD`.
        decay: factor on the old sum of gradients (μ); 0 for no momentum.
        p: probability that a step changes the image.
        smallest: least side of the shrunk image, as a share.
        loss: objective or its name.

    Returns:
        An attack of two passes forward and one backward a step.

    Example:
        >>> DIFGSM(16/255).describe()
        'DI-FGSM-10 linf 16/255'

    Source: Xie et al., "Improving transferability of adversarial examples with input diversity", CVPR 2019; deviation
    in `assay.attacks.transfer.DiverseInput`.
    """
    source = AveragedGradient((DiverseInput(p, smallest),))
    return _momentum("DI-FGSM", eps, norm, steps, step_size, decay, loss, source)


@with_hints
def TIFGSM(
    eps: Eps | Ball,
    *,
    norm: str = "linf",
    steps: int = 10,
    step_size: Eps | None = None,
    decay: float = 1.0,
    kernel: int | None = None,
    p: float = 0.5,
    smallest: float = 0.9,
    loss: str | Objective = "ce",
) -> WithGradient:
    """Momentum iterations along a smoothed gradient, through random resizing (TI-DIM).

    Args:
        eps: radius in input units, or a ball.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        steps: gradient steps.
        step_size: in input units; by default ``eps/steps``, and for l2 one that falls to 0 as in `PGD`.
        decay: factor on the old sum of gradients (μ).
        kernel: side of the Gaussian kernel in pixels, odd; by default 5 % of the image's side, at least 3.
        p: probability that a step resizes the image; 0 for the translation-invariant attack alone.
        smallest: least side of the shrunk image, as a share.
        loss: objective or its name.

    Example:
        >>> TIFGSM(16/255).describe()
        'TI-FGSM-10 linf 16/255'

    Source: Dong, Pang, Su & Zhu, "Evading defenses to transferable adversarial examples by translation-invariant
    attacks", CVPR 2019.
    """
    inner: GradientSource = AveragedGradient((DiverseInput(p, smallest),)) if p else PlainGradient()
    return _momentum("TI-FGSM", eps, norm, steps, step_size, decay, loss, SmoothedGradient(inner, kernel))


@with_hints
def SINIFGSM(
    eps: Eps | Ball,
    *,
    norm: str = "linf",
    steps: int = 10,
    step_size: Eps | None = None,
    decay: float = 1.0,
    copies: int = 5,
    loss: str | Objective = "ce",
) -> WithGradient:
    """Nesterov's momentum, over copies of the image at falling brightness (SI-NI-FGSM).

    Args:
        eps: radius in input units, or a ball.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        steps: gradient steps.
        step_size: in input units; by default ``eps/steps``.
        decay: factor on the old sum of gradients (μ).
        copies: scaled copies a step (m).
        loss: objective or its name.

    Example:
        >>> SINIFGSM(16/255).describe()
        'SI-NI-FGSM-10 linf 16/255'

    Source: Lin et al., "Nesterov accelerated gradient and scale invariance for adversarial attacks", ICLR 2020.
    """
    ball = eps if isinstance(eps, Ball) else as_ball("eps", eps, norm)
    rate = step_rate(ball, step_size, 1 / max(steps, 1))
    source = Lookahead(ball, rate, AveragedGradient((ScaledCopies(copies),)), decay)
    return _momentum("SI-NI-FGSM", ball, norm, steps, rate * ball.eps or None, decay, loss, source)


@with_hints
def VMIFGSM(
    eps: Eps | Ball,
    *,
    norm: str = "linf",
    steps: int = 10,
    step_size: Eps | None = None,
    decay: float = 1.0,
    samples: int = 20,
    reach: float = 1.5,
    loss: str | Objective = "ce",
) -> WithGradient:
    """Momentum iterations with the variance of the gradient around the last image (VMI-FGSM).

    Args:
        eps: radius in input units, or a ball.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        steps: gradient steps.
        step_size: in input units; by default ``eps/steps``, and for l2 one that falls to 0 as in `PGD`.
        decay: factor on the old sum of gradients (μ).
        samples: neighbours a step (N).
        reach: how far they lie, in budgets (β).
        loss: objective or its name.

    Returns:
        An attack of ``1 + samples`` passes forward and backward a step.

    Example:
        >>> VMIFGSM(16/255).describe()
        'VMI-FGSM-10 linf 16/255'

    Source: Wang & He, "Enhancing the transferability of adversarial attacks through variance tuning", CVPR 2021.
    """
    ball = eps if isinstance(eps, Ball) else as_ball("eps", eps, norm)
    source = VarianceTuned(ball, PlainGradient(), samples, reach)
    return _momentum("VMI-FGSM", ball, norm, steps, step_size, decay, loss, source)


@with_hints
def PIFGSM(
    eps: Eps | Ball,
    *,
    steps: int = 10,
    step_size: Eps | None = None,
    amplification: float = 10.0,
    kernel: int = 3,
    loss: str | Objective = "ce",
) -> FirstOrder:
    """Patch-wise iterations: long steps whose excess goes to neighbouring pixels (PI-FGSM), for linf.

    Args:
        eps: radius in input units, or a linf ball.
        steps: gradient steps.
        step_size: in input units, before it is amplified; by default ``eps/steps``.
        amplification: factor on the step size (β); 10 as in the paper for normally trained networks, 2.5 is its choice
            together with DI or momentum.
        kernel: side in pixels of the square that takes the excess, odd.
        loss: objective or its name.

    Example:
        >>> PIFGSM(16/255).describe()
        'PI-FGSM-10 linf 16/255'

    Source: Gao et al., "Patch-wise attack for fooling deep neural network", ECCV 2020.
    """
    ball = eps if isinstance(eps, Ball) else as_ball("eps", eps, "linf")
    rule = PatchWise(ball, step_rate(ball, step_size, 1 / max(steps, 1)), amplification, kernel)
    return FirstOrder("PI-FGSM", ball, objective(loss), rule, steps)


@with_hints
def Admix(
    eps: Eps | Ball,
    *,
    norm: str = "linf",
    steps: int = 10,
    step_size: Eps | None = None,
    decay: float = 1.0,
    data: str = MADE,
    share: float = 0.2,
    samples: int = 3,
    copies: int = 5,
    loss: str | Objective = "ce",
) -> WithGradient:
    """Momentum iterations over images with a share of others mixed in, each at falling brightness (Admix).

    Args:
        eps: radius in input units, or a ball.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        steps: gradient steps.
        step_size: in input units; by default ``eps/steps``, and for l2 one that falls to 0 as in `PGD`.
        decay: factor on the old sum of gradients (μ).
        data: the images that are mixed in, as in `assay.data.load` (its training part); by default made ones, best
            those of the attacked classifier.
        share: weight of the other image (η).
        samples: other images a step (m₂).
        copies: scaled copies of each (m₁).
        loss: objective or its name.

    Returns:
        An attack of ``1 + samples·copies`` passes forward, all but one of them backward, too.

    Example:
        >>> Admix(16/255).describe()
        'Admix-10 linf 16/255'

    Source: Wang, He, Wang & He, "Admix: enhancing the transferability of adversarial attacks", ICCV 2021; deviation in
    `assay.attacks.transfer.Admixed`.
    """
    source = AveragedGradient((Admixed(MixingImages(data), share, samples), ScaledCopies(copies)))
    return _momentum("Admix", eps, norm, steps, step_size, decay, loss, source)


def _momentum(
    name: str,
    eps: Eps | Ball,
    norm: str,
    steps: int,
    step_size: Eps | None,
    decay: float,
    loss: str | Objective,
    source: GradientSource,
) -> WithGradient:
    """Momentum iterations from the clean image, with gradients from a source."""
    ball = eps if isinstance(eps, Ball) else as_ball("eps", eps, norm)
    number("decay", decay, least=0)
    falls = step_size is None and is_round(ball)
    rate = falling_rate(steps) if falls else step_rate(ball, step_size, 1 / max(steps, 1))
    rule: StepRule[object] = Momentum(ball, rate, decay, steps if falls else None)  # type: ignore[assignment]
    return WithGradient(FirstOrder(name, ball, objective(loss), rule, steps), source)
