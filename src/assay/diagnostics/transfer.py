"""Do one network's adversarial images fool another?

Metzen, 2018, appendix A, figure 9; Tong et al., 2020, appendix D.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from assay.core.call_context import with_images_on_the_cpu
from assay.core.combinators import AnyAttack
from assay.core.types import Images, Labels, Mask
from assay.diagnostics.plots import canvas, matrix
from assay.diagnostics.trail import Trail, perturb_images, right_of, same_length
from assay.util.progress import WorkCallback, no_progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Transfer:
    """Accuracy of each network on each network's adversarial images.

    Attributes:
        names: of the N networks.
        accuracy: ``(N, N)``: images made on the first, tried on the second.
        clean: ``(N,)``.
        attack: what made them.
        n: images.
    """

    names: tuple[str, ...]
    accuracy: Tensor
    clean: Tensor
    attack: str
    n: int = 0

    def frame(self) -> list[dict[str, Any]]:
        """One record a pair."""
        return [
            {
                "attack": self.attack,
                "made on": a,
                "tried on": b,
                "accuracy": float(self.accuracy[i, j]),
                "clean": float(self.clean[j]),
                "n": self.n,
            }
            for i, a in enumerate(self.names)
            for j, b in enumerate(self.names)
        ]

    def figure(self) -> "Figure":
        """The matrix."""
        side = 2.0 + 0.55 * len(self.names)
        figure, (axes,) = canvas(side + 1.5, side)
        matrix(axes, self.accuracy, self.names, self.names, ("made on", "tried on"))
        return figure

    def verdict(self) -> str:
        """White box beside the strongest black box."""
        own = self.accuracy.diagonal()
        away = self.accuracy.clone().fill_diagonal_(torch.inf)
        if len(self.names) < 2:
            return f"{self.attack}: {100 * own[0]:.0f} % on this network."
        least = away.amin(0)
        worst = int((least - own).argmin())
        masked = bool(least[worst] < own[worst] - 0.02)
        text = (
            f"{self.names[worst]} is fooled more by images made on another network "
            f"({100 * least[worst]:.0f} %) than by its own ({100 * own[worst]:.0f} %): its gradients mislead"
            if masked
            else "no network is fooled more by another's images than by its own"
        )
        return (
            f"Accuracy under {self.attack} is {100 * own.mean():.0f} % on the network attacked and "
            f"{100 * self._away():.0f} % on others; {text}."
        )

    def _away(self) -> float:
        off = ~torch.eye(len(self.names), dtype=torch.bool)
        return float(self.accuracy[off].mean())


@with_images_on_the_cpu
def transfer(
    models: Mapping[str, nn.Module] | Trail,
    x: Images,
    y: Labels,
    attack: AnyAttack,
    *,
    mask: Mask | None = None,
    seed: int = 0,
    progress: WorkCallback = no_progress,
) -> Transfer:
    """Attack every network, and try its images on all of them.

    Args:
        models: networks by name, or a trail (epochs are the names).
        x: images.
        y: labels.
        attack: run on each network, every step.
        mask: foreground of the images, where the attack needs it.
        seed: of the attack.
        progress: progress.
    """
    same_length(x, y)
    networks = {f"epoch {e}": m for e, m in models} if isinstance(models, Trail) else dict(models)
    table = torch.zeros(len(networks), len(networks))
    clean = torch.tensor([right_of(model, x, y).double().mean().item() for model in networks.values()])
    for i, model in enumerate(networks.values()):
        moved = perturb_images(model, x, y, attack, mask=mask, seed=seed)
        for j, other in enumerate(networks.values()):
            table[i, j] = right_of(other, moved, y).double().mean()
        progress("transfer", i + 1, len(networks))
    return Transfer(tuple(networks), table, clean, attack.describe(), len(x))
