"""Do perturbations that fool many inputs disappear sooner in training?

Metzen, 2018, section 3.1, figure 2, appendix C.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.call_context import with_images_on_the_cpu
from assay.core.combinators import AnyAttack
from assay.core.types import Images, Labels, PerRow
from assay.diagnostics.plots import INK, RULE, SERIES, canvas, scatter
from assay.diagnostics.trail import Trail, logits_of, losses_of, perturb_images, right_of, same_length
from assay.util.progress import WorkCallback, no_progress
from assay.util.statistics import correlation_interval, mean_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CORRELATION = ("correlation", "correlation from", "correlation to")
SHARED = 0.02
"""A perturbation that fools this share of other inputs is shared, else singular."""


class Spread(NamedTuple):
    """What each perturbation does to other inputs: mean cost change ``(m,)``, share that it fools ``(m,)``."""

    cost: PerRow
    fooled: PerRow


@with_images_on_the_cpu
def spread(model: nn.Module, deltas: Tensor, x: Images, y: Labels, *, batch: int = 2048) -> Spread:
    """Add every perturbation to every input.

    Args:
        model: the network.
        deltas: perturbations, ``(m, c, h, w)``.
        x: N other images; sums are clipped to [0, 1].
        y: their labels.
        batch: pairs a pass; memory is that of so many images, whatever m and N are.

    Returns:
        Mean cost change over the N, and the share of the N that turn from right to wrong.
    """
    same_length(x, y)
    clean, right = losses_of(model, x, y), right_of(model, x, y)
    cost, fooled = torch.zeros(len(deltas)), torch.zeros(len(deltas))
    group = max(batch // len(x), 1)
    for start in range(0, len(deltas), group):
        part = deltas[start : start + group]
        total, turned = torch.zeros(len(part)), torch.zeros(len(part))
        for at in torch.arange(len(x)).split(max(batch // len(part), 1)):
            moved = (x[at][None] + part[:, None]).clamp(0, 1).flatten(0, 1)
            logits = logits_of(model, moved, batch)
            labels = y[at].repeat(len(part))
            change = F.cross_entropy(logits, labels, reduction="none") - clean[at].repeat(len(part))
            total += change.view(len(part), -1).sum(1)
            wrong = (logits.argmax(1) != labels) & right[at].repeat(len(part))
            turned += wrong.view(len(part), -1).sum(1)
        cost[start : start + group] = total / len(x)
        fooled[start : start + group] = turned / len(x)
    return Spread(cost, fooled)


@dataclass(frozen=True)
class Sharedness:
    """Sharedness by epoch, and sharedness against stability for the first epoch's perturbations.

    Attributes:
        epochs: the epochs.
        ratio: by epoch, per effective perturbation the share of other inputs that it fools, ascending.
        current: mean cost change on other inputs under the first network, one a perturbation.
        future: mean cost change on its own input under the later networks.
        correlation: Pearson's of their logarithms (where both are positive); NaN without.
        p_value: of it, two-sided.
        within: the same within classes; easy and hard classes can hide or feign a correlation.
        within_p_value: of it.
    """

    epochs: tuple[int, ...]
    ratio: Mapping[int, PerRow]
    current: PerRow
    future: PerRow
    correlation: float
    p_value: float
    within: float
    within_p_value: float

    @property
    def shared(self) -> dict[int, float]:
        """By epoch, the share of perturbations that are shared."""
        return {
            epoch: (ratios >= SHARED).double().mean().item() if len(ratios) else float("nan")
            for epoch, ratios in self.ratio.items()
        }

    @property
    def mean(self) -> dict[int, float]:
        """By epoch, the mean ratio."""
        return {
            epoch: ratios.double().mean().item() if len(ratios) else float("nan")
            for epoch, ratios in self.ratio.items()
        }

    def frame(self) -> list[dict[str, Any]]:
        """One record an epoch."""
        pairs = int(((self.current > 0) & (self.future > 0)).sum())
        r = dict(zip(_CORRELATION, (self.correlation, *correlation_interval(self.correlation, pairs)), strict=True))
        none = dict.fromkeys(_CORRELATION, math.nan)  # it is of the first epoch's perturbations
        rows = []
        for epoch in self.epochs:
            ratios, mean = self.ratio[epoch].tolist(), self.mean[epoch]
            ends = dict(zip(("mean ratio from", "mean ratio to"), mean_interval(ratios), strict=True))
            row = {"epoch": epoch, "n": len(ratios), "mean ratio": mean, **ends, "shared": self.shared[epoch]}
            rows.append(row | (r if epoch == self.epochs[0] else none))
        return rows

    def figure(self) -> "Figure":
        """The scatter in logarithms, and the ratio by rank for each epoch."""
        figure, (left, right) = canvas(10.0, 3.8, columns=2)
        both = (self.current > 0) & (self.future > 0)
        names = ("cost change on other inputs", "cost change under later networks")
        scatter(left, self.current[both], self.future[both], names, log=bool(both.any()))
        chosen = self.epochs[:: max(len(self.epochs) // 6, 1)]
        for i, epoch in enumerate(chosen):
            result = self.ratio[epoch]
            right.plot(torch.linspace(0, 1, len(result)), 100 * result, color=SERIES[i % 8], label=f"epoch {epoch}")
        right.set_xlabel("effective perturbations, by rank")
        right.grid(axis="y", color=RULE, linewidth=0.8)
        right.set_ylabel("% of other inputs fooled")
        right.legend(frameon=False, fontsize=8, labelcolor=INK)
        return figure

    def verdict(self) -> str:
        """The mean ratio's ends, and the correlation."""
        first, last = self.epochs[0], self.epochs[-1]
        tail = (
            ""
            if self.correlation != self.correlation
            else f" The correlation between how widely and how long a perturbation works is {self.correlation:.2f} in "
            f"logarithms (p = {self.p_value:.1g}), within classes {self.within:.2f} "
            f"(p = {self.within_p_value:.1g})."
        )
        return (
            f"A perturbation fools {100 * self.mean[first]:.1f} % of other inputs at epoch {first} and "
            f"{100 * self.mean[last]:.1f} % at epoch {last}.{tail}"
        )


@with_images_on_the_cpu
def sharedness(
    trail: Trail,
    own: tuple[Images, Labels],
    others: tuple[Images, Labels],
    attack: AnyAttack,
    *,
    seed: int = 0,
    batch: int = 2048,
    progress: WorkCallback = no_progress,
) -> Sharedness:
    """How many other inputs the perturbation of one input fools, by epoch, and whether such perturbations last.

    Args:
        trail: the networks.
        own: images and labels that perturbations are made for.
        others: images and labels that they are tried on; the first epoch's cost change is taken over these too.
        attack: makes the perturbations, with the true labels.
        seed: of the attack.
        batch: pairs a pass.
        progress: progress.

    Source: Metzen, 2018, section 3.1 (``J^Δ``, figure 2) and appendix C (the ratio, over perturbations that are
    effective on their own input). Deviations: sums are clipped to [0, 1]; the paper takes the cost change over training
    images and the ratio over test images, here both are over ``others``.
    """
    x, y = own
    same_length(x, y)
    ratio: dict[int, PerRow] = {}
    current = torch.zeros(0)
    first: Tensor | None = None
    later = []
    for done, (epoch, model) in enumerate(trail):
        adversarial = perturb_images(model, x, y, attack, seed=seed)
        effective = right_of(model, x, y) & ~right_of(model, adversarial, y)
        if first is None:
            first = adversarial
            first_spread = spread(model, adversarial - x, *others, batch=batch)
            current = first_spread.cost
            ratio[epoch] = first_spread.fooled[effective].sort().values
        else:
            later.append(losses_of(model, first, y) - losses_of(model, x, y))
            ratio[epoch] = spread(model, (adversarial - x)[effective], *others, batch=batch).fooled.sort().values
        progress("sharedness", done + 1, len(trail.epochs))
    future = torch.stack(later).mean(0) if later else torch.zeros(len(x))
    return Sharedness(
        trail.epochs,
        MappingProxyType(ratio),
        current,
        future,
        *log_correlation(current, future),
        *log_correlation(current, future, y),
    )


def log_correlation(a: PerRow, b: PerRow, group: Labels | None = None) -> tuple[float, float]:
    """Pearson's correlation of the logarithms, over pairs that are both positive, and its two-sided p-value.

    NaN where there are fewer than three pairs or one side does not vary.

    Args:
        a: one side.
        b: the other.
        group: compare within groups: the mean logarithm of its group is taken from each value, and the degrees of
            freedom that this costs are counted.
    """
    from scipy.stats import t as student

    both = (a > 0) & (b > 0)
    first, second = a[both].double().log(), b[both].double().log()
    label = torch.zeros(len(first), dtype=torch.int64) if group is None else group[both].unique(return_inverse=True)[1]
    groups = int(label.max()) + 1 if len(label) else 1
    free = len(first) - groups - 1
    if free < 1:
        return float("nan"), float("nan")
    first, second = (_centred(values, label, groups) for values in (first, second))
    lengths = float(first.norm()), float(second.norm())
    if min(lengths) < 1e-6 * len(first) ** 0.5:
        return float("nan"), float("nan")
    r = min(max(float(first @ second) / (lengths[0] * lengths[1]), -1.0), 1.0)
    return r, float(2 * student.sf(abs(r) * (free / max(1 - r * r, 1e-300)) ** 0.5, free))


def _centred(values: Tensor, label: Tensor, groups: int) -> Tensor:
    total = torch.zeros(groups, dtype=values.dtype).index_add_(0, label, values)
    return values - (total / torch.bincount(label, minlength=groups))[label]
