"""Attributional robustness by input gradients that are aligned with the image."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.model_calls import classify
from assay.core.model_state import preserve_state
from assay.core.smooth_activations import Softened
from assay.core.types import Images, Labels, PerRow
from assay.training.objectives.batch import Batch
from assay.util.validate import number, whole


@dataclass(frozen=True)
class Alignment:
    """``ℓ(x̃) + λ·log(1 + exp(d(g_y, x̃) − d(g_i*, x̃)))`` at the x̃ in the linf ball that maximises the second term.

    ``g_i`` is the gradient of logit i by the image, i* the largest other logit, and d one minus the cosine: on every
    image nearby the gradient of the label's logit is to look more like the image than that of another class.

    Args:
        eps: linf budget of x̃.
        weight: λ.
        steps: of the search for x̃, from a random start.
        step_size: of each; None for ``2.5·eps/steps``.
        smoothness: β of the softplus that stands for ReLU.

    Source: Singh, Kumari, Mangla, Sinha, Balasubramanian & Krishnamurthy, "Attributional robustness training using
    input-gradient spatial alignment", ECCV 2020, equations 3–6 and algorithm 1. Deviation: x̃ is searched for with the
    network in evaluation mode, as every inner attack of assay is.
    """

    eps: float
    weight: float = 0.5
    steps: int = 3
    step_size: float | None = None
    smoothness: float = 50.0

    def __post_init__(self) -> None:
        number("eps", self.eps, least=0)
        number("weight", self.weight, least=0)
        whole("steps", self.steps, least=1)
        if self.step_size is not None:
            number("step_size", self.step_size, least=0, above=True)
        number("smoothness", self.smoothness, least=0, above=True)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond images and labels."""
        return ()

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy and misalignment of the images that are found, means over the batch."""
        image = self._search(model, batch).requires_grad_()
        with Softened(self.smoothness):
            logits, apart = misalignment(model, image, batch.y)
            return F.cross_entropy(logits, batch.y) + self.weight * apart.mean()

    def _search(self, model: nn.Module, batch: Batch) -> Images:
        rate = 2.5 * self.eps / self.steps if self.step_size is None else self.step_size
        start = 2 * batch.uniform("alignment", tuple(batch.x.shape[1:])) - 1
        image = (batch.x + self.eps * start).clamp(0, 1)
        with preserve_state(model), Softened(self.smoothness), torch.enable_grad():
            for _ in range(self.steps):
                leaf = image.clone().requires_grad_()
                (slope,) = torch.autograd.grad(misalignment(model, leaf, batch.y)[1].sum(), leaf)
                moved = image + rate * slope.sign()
                image = torch.minimum(torch.maximum(moved, batch.x - self.eps), batch.x + self.eps).clamp(0, 1)
        return image


def misalignment(model: nn.Module, x: Images, y: Labels) -> tuple[Tensor, PerRow]:
    """Logits and ``log(1 + exp(d(g_y, x) − d(g_i*, x)))`` of each row, with a graph to images and weights.

    Args:
        model: the classifier, of two classes at least.
        x: images that require gradients.
        y: labels.
    """
    logits = classify(model, x)
    other = logits.detach().scatter(1, y[:, None], -torch.inf).argmax(1)
    distances = []
    for label in (y, other):
        (slope,) = torch.autograd.grad(logits.gather(1, label[:, None]).sum(), x, create_graph=True)
        distances.append(1 - F.cosine_similarity(slope.flatten(1), x.flatten(1), eps=1e-12))
    return logits, F.softplus(distances[0] - distances[1])
