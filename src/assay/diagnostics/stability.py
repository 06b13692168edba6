"""Does training remove an input's perturbations, or only exchange them?

Metzen, 2018, section 3.1, appendix B.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from assay.core.call_context import with_images_on_the_cpu
from assay.core.combinators import AnyAttack
from assay.core.types import Images, Labels, PerRow
from assay.diagnostics.plots import SERIES, canvas, matrix, scatter
from assay.diagnostics.trail import Trail, logits_of, perturb_images, same_length
from assay.util.progress import WorkCallback, no_progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("robust", "oscillating", "stable")
_NUMBERED = tuple(enumerate(KINDS))


@dataclass(frozen=True)
class Stability:
    """Temporal stability profiles.

    Attributes:
        epochs: T epochs.
        profile: ``(n, T, T)``: the probability of the true class, of the image attacked at the first epoch, by the
            network of the second.
    """

    epochs: tuple[int, ...]
    profile: Tensor

    @property
    def max_min(self) -> PerRow:
        """``min_t1 max_t2 P``: small where one perturbation fools every network."""
        return self.profile.amax(2).amin(1)

    @property
    def min_max(self) -> PerRow:
        """``max_t2 min_t1 P``: large where one network withstands every perturbation."""
        return self.profile.amin(1).amax(1)

    @property
    def kind(self) -> Tensor:
        """Per input, a place in `KINDS`.

        Robust: one network withstands all of its perturbations (MinMax ≥ 1/2). Oscillating: each perturbation is
        withstood by some network (MaxMin ≥ 1/2). Stable: one fools them all.
        """
        return torch.where(self.min_max >= 0.5, 0, torch.where(self.max_min >= 0.5, 1, 2))

    def frame(self) -> list[dict[str, Any]]:
        """One record an input."""
        rows = zip(self.max_min.tolist(), self.min_max.tolist(), self.kind.tolist(), strict=True)
        return [
            {"sample": i, "MaxMin": a, "MinMax": b, "kind": KINDS[k], **{name: int(k == j) for j, name in _NUMBERED}}
            for i, (a, b, k) in enumerate(rows)
        ]

    def figure(self) -> "Figure":
        """The scatter of MinMax and MaxMin, and a profile of each kind."""
        figure, axes = canvas(11.0, 3.2, columns=4)
        scatter(axes[0], self.min_max, self.max_min, ("MinMax", "MaxMin"))
        axes[0].plot([0, 1], [0, 1], color=SERIES[1], linewidth=0.8)
        names = [str(epoch) for epoch in self.epochs]
        for k, (place, name) in enumerate(zip(axes[1:], KINDS, strict=True)):
            members = (self.kind == k).nonzero().squeeze(1)
            place.set_title(f"{name} ({len(members)})", fontsize=10)
            if not len(members):
                place.set_axis_off()
            else:
                gap = (self.max_min - self.min_max)[members]
                shown = members[gap.argmax() if name == "oscillating" else 0]
                matrix(
                    place, self.profile[shown], names, names, ("attacked at epoch", "network of epoch"), numbers=False
                )
        return figure

    def verdict(self) -> str:
        """The three shares."""
        share = [100 * (self.kind == k).double().mean().item() for k in range(3)]
        return (
            f"Of {len(self.profile)} inputs, training makes {share[0]:.0f} % robust against all of their "
            f"perturbations; {share[2]:.0f} % keep a perturbation that fools every network, {share[1]:.0f} % only "
            "exchange one for another."
        )


@with_images_on_the_cpu
def stability(
    trail: Trail, x: Images, y: Labels, attack: AnyAttack, *, seed: int = 0, progress: WorkCallback = no_progress
) -> Stability:
    """Profiles ``P[t1, t2](x) = p(y | x + ξ_t1; θ_t2)``.

    Args:
        trail: the networks.
        x: images, ``(n, c, h, w)``.
        y: labels.
        attack: makes ξ_t1 on the network of epoch t1, with the true labels.
        seed: of the attack.
        progress: progress.

    Source: Metzen, "Universality, robustness, and detectability of adversarial perturbations under
    adversarial training", 2018, section 3.1.
    """
    same_length(x, y)
    count = len(trail.epochs)
    profile = torch.zeros(len(x), count, count)
    for first, (_, attacker) in enumerate(trail):
        moved = perturb_images(attacker, x, y, attack, seed=seed)
        for second, (_, model) in enumerate(trail):
            profile[:, first, second] = logits_of(model, moved).softmax(1).gather(1, y[:, None]).squeeze(1)
        progress("stability", first + 1, count)
    return Stability(trail.epochs, profile)
