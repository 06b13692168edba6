"""Training on noise: Gaussian augmentation, and stability training."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.model_calls import classify
from assay.training.objectives.batch import Batch
from assay.util.validate import number


@dataclass(frozen=True)
class Gaussian:
    """Cross-entropy of images with Gaussian noise: the base classifier of randomised smoothing.

    Args:
        sigma: standard deviation in input units; the image is not clipped, as the smoothed classifier does not clip.

    Source: Cohen, Rosenfeld & Kolter, "Certified adversarial robustness via randomized smoothing", ICML 2019,
    section 3.3.
    """

    sigma: float = 0.25

    def __post_init__(self) -> None:
        number("sigma", self.sigma, least=0)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond images and labels."""
        return ()

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy on one draw a sample."""
        return F.cross_entropy(classify(model, batch.x + self.sigma * batch.normal("gaussian")), batch.y)


@dataclass(frozen=True)
class Stability:
    """``CE(f(x), y) + α·KL(f(x) ‖ f(x + η))``: predictions that noise does not move.

    Args:
        sigma: standard deviation of the noise in input units.
        weight: α.

    Source: Zheng, Song, Leung & Goodfellow, "Improving the robustness of deep neural networks via stability training",
    CVPR 2016, equations 7 and 9. Deviation: α is larger than its 0.01, as losses here are means, and noise is no task
    of its own.
    """

    sigma: float = 0.1
    weight: float = 1.0

    def __post_init__(self) -> None:
        number("sigma", self.sigma, least=0)
        number("weight", self.weight, least=0)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond images and labels."""
        return ()

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy and divergence, means over the batch."""
        clean = classify(model, batch.x)
        noisy = classify(model, batch.x + self.sigma * batch.normal("stability"))
        apart = F.kl_div(noisy.log_softmax(1), clean.log_softmax(1), log_target=True, reduction="batchmean")
        return F.cross_entropy(clean, batch.y) + self.weight * apart
