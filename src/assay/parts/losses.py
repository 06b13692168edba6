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
        odds = _odds(logits, rows)
        return -rows.goal.signed(torch.add(F.softplus(odds), odds, alpha=_FLOOR))

    def slope(self, logits: Logits, rows: Rows, *, scaled: bool) -> Logits:
        """Of the log-odds, the class against the rest; by their sigmoid it is that of the loss."""
        focus = rows.goal.focus
        rest = logits.scatter(1, focus, -torch.inf).softmax(1).scatter_(1, focus, -1.0)
        if scaled:
            rest = rest * (_odds(logits, rows).sigmoid() + _FLOOR)[:, None]
        return -rows.goal.signed(rest)

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

    def slope(self, logits: Logits, rows: Rows, *, scaled: bool) -> Logits | None:
        """One at the class of interest, less one at the best other, or the reverse; None if the margin is capped."""
        return _margin_slope(logits, rows) if self.confidence == math.inf else None

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

    def slope(self, logits: Logits, rows: Rows, *, scaled: bool) -> Logits | None:
        """That of the quotient, times the denominator where the length does not matter."""
        goal = rows.goal
        if goal.kind == "mixed":
            return None
        if logits.shape[1] < 3:
            return _margin_slope(logits, rows)
        top, order = logits.topk(min(4, logits.shape[1]), dim=1)
        label = goal.label[:, None]
        at_label = logits.gather(1, label)
        if goal.kind == "away":
            is_first = order[:, :1] == label
            rival, third = torch.where(is_first, order[:, 1:2], order[:, :1]), order[:, 2:3]
            gap = torch.where(is_first, top[:, 1:2], top[:, :1]) - at_label
            spread = top[:, :1] - top[:, 2:3] + _FLOOR
        else:
            rival, third = goal.focus, order[:, -2:]
            gap = logits.gather(1, rival) - at_label
            spread = top[:, :1] - top[:, -2:].mean(1, keepdim=True) + _FLOOR
        ratio = gap / spread
        one = torch.ones_like(ratio)
        classes = torch.cat((rival, label, order[:, :1], third), 1)
        share = 1 / third.shape[1]
        slopes = torch.cat((one, -one, -ratio, (share * ratio).expand_as(third)), 1)
        slope = torch.zeros_like(logits).scatter_add_(1, classes, slopes)
        return slope / spread if scaled else slope

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


def _odds(logits: Logits, rows: Rows) -> PerRow:
    """Log of (probability of the rest / probability of the class of interest)."""
    focus = rows.goal.focus
    return logits.scatter(1, focus, -torch.inf).logsumexp(1) - logits.gather(1, focus).squeeze(1)


def _aimed_margin(logits: Logits, rows: Rows) -> PerRow:
    focus = rows.goal.focus
    gap = logits.gather(1, focus).squeeze(1) - logits.scatter(1, focus, -torch.inf).amax(1)
    return rows.goal.signed(gap)


def _margin_slope(logits: Logits, rows: Rows) -> Logits:
    focus = rows.goal.focus
    rival = logits.scatter(1, focus, -torch.inf).argmax(1, keepdim=True)
    return rows.goal.signed(torch.zeros_like(logits).scatter_(1, focus, 1.0).scatter_(1, rival, -1.0))


def _at(logits: Logits, index: Labels) -> PerRow:
    return logits.gather(1, index[:, None]).squeeze(1)
