"""Defences that draw random numbers: resize and pad, and networks with noise in their layers."""

from dataclasses import dataclass

from torch import nn
from torch.nn import functional as F

from assay.core.expectation import Expectation
from assay.core.rng import Rng
from assay.core.types import Count, Images, Labels, Logits
from assay.defences.adaptation import Adaptation, around, attackable
from assay.util.validate import number, whole


@dataclass(frozen=True)
class ResizePad:
    """Each image shrunk to a random size and put at a random place of a grey frame of its old size.

    Args:
        least: the smallest side, as a share of the old one.
        fill: value of the frame.

    Source: Xie, Wang, Zhang, Ren & Yuille, "Mitigating adversarial effects through randomization", ICLR 2018, section
    3.2. Deviations: the paper enlarges 299 pixels to at most 331 and feeds the larger image; here the frame keeps the
    image's size, so that any network fits (331/299 is a least side of 0.9); bilinear, not nearest.
    """

    least: float = 0.9
    fill: float = 0.5

    def __post_init__(self) -> None:
        number("least", self.least, least=0, most=1, above=True)
        number("fill", self.fill, least=0, most=1)

    def __call__(self, x: Images, rng: Rng, keys: Labels, step: Count, purpose: str) -> Images:
        """Each row by its own draw."""
        drawn = rng.uniform(keys, (3,), purpose, step).to(x)
        scale = self.least + (1 - self.least) * drawn[:, 0]
        shift = (1 - scale)[:, None] * (2 * drawn[:, 1:] - 1)
        theta = x.new_zeros(len(x), 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale
        theta[:, :, 2] = -shift / scale[:, None]
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x - self.fill, grid, padding_mode="zeros", align_corners=False) + self.fill


class RandomInput(nn.Module):
    """A classifier that sees random versions of its input and averages its answers.

    Args:
        model: maps images in [0, 1] to logits.
        transform: such as `ResizePad`.
        draws: versions a prediction is made of.
        attack_draws: versions that the adaptive attack averages at each step, drawn afresh.
    """

    def __init__(self, model: nn.Module, transform: ResizePad, *, draws: int = 8, attack_draws: int = 8) -> None:
        super().__init__()
        self.model, self.transform = model, transform
        self.attack_draws = whole("attack_draws", attack_draws, least=1)
        self.mean = Expectation(model, draws, transform=transform, average="probabilities")

    def forward(self, x: Images) -> Logits:
        """Log-probabilities, the mean over the draws; the same draws for every image and call."""
        logits: Logits = self.mean(x)
        return logits

    def adaptation(self) -> Adaptation:
        """Expectation over the transformation."""
        mean = Expectation(attackable(self.model), self.attack_draws, transform=self.transform)
        how = f"EOT over {self.transform}, {self.attack_draws} fresh draws a step"
        return around(self.model, Adaptation(how, surrogate=mean, methods=("EOT",)))


class SelfEnsemble(nn.Module):
    """A noisy network averaged over a few passes (RSE).

    Args:
        model: a network that draws random numbers itself, such as `models.with_noise_layers` makes.
        draws: passes of a prediction.
        attack_draws: passes that the adaptive attack averages at each step.
    """

    def __init__(self, model: nn.Module, *, draws: int = 10, attack_draws: int = 10) -> None:
        super().__init__()
        self.model = model
        self.attack_draws = whole("attack_draws", attack_draws, least=1)
        self.mean = Expectation(model, draws, average="probabilities")

    def forward(self, x: Images) -> Logits:
        """Log-probabilities, the mean over the passes."""
        logits: Logits = self.mean(x)
        return logits

    def adaptation(self) -> Adaptation:
        """Expectation over the noise."""
        mean = Expectation(attackable(self.model), self.attack_draws)
        how = f"EOT over the noise layers, {self.attack_draws} passes a step"
        return around(self.model, Adaptation(how, surrogate=mean, methods=("EOT",)))
