"""Losses that attacks maximise: cross-entropy, margin, logit ratio, divergence."""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from assay.core.objective import Objective
from assay.core.rows import Rows, split_logit
from assay.core.types import Images, Labels, Logits, PerRow
from assay.util.validate import described, nearest, number, reject

_FLOOR = 1e-12


@dataclass(frozen=True)
class _CrossEntropy:
    needs: tuple[str, ...] = ()

    def __call__(self, logits: Logits, x: Images, rows: Rows) -> PerRow:
        goal = rows.goal
        aimed = goal.aim >= 0
        at, others = split_logit(logits, torch.where(aimed, goal.aim, goal.label))
        odds = others.logsumexp(1) - at  # log of (probability of the rest / probability of the class)
        loss = F.softplus(odds) + _FLOOR * odds
        return torch.where(aimed, -loss, loss)

    def describe(self) -> str:
        """The name of the loss."""
        return "cross-entropy"


@dataclass(frozen=True)
class _PlainCrossEntropy:
    needs: tuple[str, ...] = ()

    def __call__(self, logits: Logits, x: Images, rows: Rows) -> PerRow:
        return F.cross_entropy(logits, rows.y, reduction="none")

    def describe(self) -> str:
        """The name of the loss."""
        return "plain cross-entropy"


@dataclass(frozen=True)
class _Margin:
    confidence: float
    needs: tuple[str, ...] = ()

    def __call__(self, logits: Logits, x: Images, rows: Rows) -> PerRow:
        margin = _aimed_margin(logits, rows)
        return margin if self.confidence == math.inf else margin.clamp_max(self.confidence)

    def describe(self) -> str:
        """The name of the loss."""
        return "margin"


@dataclass(frozen=True)
class _LogitRatio:
    needs: tuple[str, ...] = ()

    def __call__(self, logits: Logits, x: Images, rows: Rows) -> PerRow:
        goal = rows.goal
        aimed = goal.aim >= 0
        top = logits.topk(min(4, logits.shape[1]), dim=1).values
        if top.shape[1] < 3:
            return _aimed_margin(logits, rows)
        label, others = split_logit(logits, goal.label)
        rival = torch.where(aimed, _at(logits, goal.aim.clamp_min(0)), others.amax(1))
        third = torch.where(aimed, 0.5 * (top[:, -2] + top[:, -1]), top[:, 2])
        return (rival - label) / (top[:, 0] - third + _FLOOR)

    def describe(self) -> str:
        """The name of the loss."""
        return "DLR"


@dataclass(frozen=True)
class _KullbackLeibler:
    needs: tuple[str, ...] = ("reference",)

    def __call__(self, logits: Logits, x: Images, rows: Rows) -> PerRow:
        if rows.reference is None:
            reject("rows.reference", "the logits of the clean images", None)
        return F.kl_div(logits.log_softmax(1), rows.reference.log_softmax(1), reduction="none", log_target=True).sum(1)

    def describe(self) -> str:
        """The name of the loss."""
        return "KL divergence"


def CrossEntropy() -> Objective:
    """Cross-entropy: of the label where the goal is to leave it, minus that of the aim where there is one.

    Computed as softplus(o) with o the log-odds of all other classes, so that it neither overflows nor loses its
    gradient to rounding; a slope of 1e-12·o is added, so that the direction survives at any confidence (plain
    float32 cross-entropy has an exactly zero gradient beyond a gap of 104 in logits, and a wrong one beyond 17).
    The value is changed by at most 1e-12·|o|.

    Returns:
        An `Objective`.

    Example:
        >>> from assay.core.rows import Rows, untargeted
        >>> rows = Rows(torch.zeros(1, 1, 1, 1), untargeted(torch.tensor([0])), torch.tensor([0]))
        >>> round(CrossEntropy()(torch.tensor([[2.0, 2.0]]), rows.x, rows).item(), 4)
        0.6931

    Source: Goodfellow, Shlens & Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015.
    """
    return Objective(((1.0, _CrossEntropy()),))


def PlainCrossEntropy() -> Objective:
    """Cross-entropy as PyTorch computes it, whose gradient vanishes at high confidence. For comparisons only."""
    return Objective(((1.0, _PlainCrossEntropy()),))


def Margin(confidence: float = math.inf) -> Objective:
    """Logit margin: best other class minus the label, or the aim minus the best other class.

    Args:
        confidence: the margin beyond which nothing is gained, in logits (κ).

    Returns:
        An `Objective`, above 0 iff the class condition of the goal holds.

    Source: Carlini & Wagner, "Towards evaluating the robustness of neural networks", S&P 2017, section V-A, f6.
    """
    if confidence != math.inf:
        confidence = number("confidence", confidence, least=0)
    return Objective(((1.0, _Margin(confidence)),))


def DLR() -> Objective:
    """Difference of logits ratio, blind to the scale and offset of the logits.

    Untargeted: ``(max_{i≠y} z_i − z_y) / (z_π1 − z_π3)``; where the goal has an aim t:
    ``(z_t − z_y) / (z_π1 − (z_π3 + z_π4) / 2)``, with z_π the sorted logits.

    Returns:
        An `Objective`.

    Source: Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", ICML 2020, equations 6 and 7. Deviation: with three classes the targeted form has (z_π2 + z_π3) / 2, with
    two classes both are the plain margin, because the ratio is then undefined or constant.
    """
    return Objective(((1.0, _LogitRatio()),))


@dataclass(frozen=True)
class _Evasion:
    needs: tuple[str, ...] = ()

    def __call__(self, logits: Logits, x: Images, rows: Rows) -> PerRow:
        goal, reject_at = rows.goal, logits.shape[1] - 1
        aimed = goal.aim >= 0
        at, others = split_logit(logits, torch.where(aimed, goal.aim, goal.label))
        accepted = others[:, :reject_at].amax(1)
        away = accepted - torch.maximum(at, logits[:, reject_at])
        return torch.where(aimed, at - others.amax(1), away)

    def describe(self) -> str:
        """The name of the loss."""
        return "evasion"


def Evasion() -> Objective:
    """``max_{k≠y} z_k − max(z_y, z_reject)`` for a classifier that can reject, its last logit: wrong and not rejected.

    Targeted it is ``z_t − max_{k≠t} z_k``, the rejection among them. Positive iff the goal is reached.

    Source: Carlini & Wagner, "Adversarial examples are not easily detected", AISec 2017, section 3.3 (the combined
    classifier with a class for detected images).
    """
    return Objective(((1.0, _Evasion()),))


def KullbackLeibler() -> Objective:
    """Divergence of the prediction from that of the clean image, KL(clean ‖ now).

    Its gradient is zero at the clean image: start elsewhere.

    Returns:
        An `Objective`.

    Source: Zhang et al., "Theoretically principled trade-off between robustness and accuracy" (TRADES), ICML 2019.
    """
    return Objective(((1.0, _KullbackLeibler()),))


OBJECTIVES = {"ce": CrossEntropy, "margin": Margin, "dlr": DLR, "kl": KullbackLeibler, "evasion": Evasion}


def objective(name: "str | Objective") -> Objective:
    """The objective of a name (``"ce"``, ``"margin"``, ``"dlr"``, ``"kl"``); an objective is returned as it is.

    Raises:
        ValueError: an unknown name.
    """
    if isinstance(name, Objective):
        return name
    if not isinstance(name, str) or name not in OBJECTIVES:
        hint = _suggest(name) if isinstance(name, str) else ""
        reject("loss", "an Objective or one of " + ", ".join(map(repr, OBJECTIVES)), described(f"{name!r}{hint}"))
    return OBJECTIVES[name]()


def _suggest(name: str) -> str:
    """The end of a message, ``" (did you mean 'ce'?)"``, or nothing."""
    word = name.strip().lower()
    aliases = {"cross-entropy": "ce", "crossentropy": "ce", "xent": "ce", "cw": "margin", "logit": "margin"}
    return f" (did you mean {aliases[word]!r}?)" if word in aliases else nearest(word, OBJECTIVES)


def _aimed_margin(logits: Logits, rows: Rows) -> PerRow:
    goal = rows.goal
    aimed = goal.aim >= 0
    at, others = split_logit(logits, torch.where(aimed, goal.aim, goal.label))
    gap = at - others.amax(1)
    return torch.where(aimed, gap, -gap)


def _at(logits: Logits, index: Labels) -> PerRow:
    return logits.gather(1, index[:, None]).squeeze(1)
