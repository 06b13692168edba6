"""Expectation over the randomness of a model (EOT), as a model.

Averaging losses, logits or probabilities are three different goals; each is offered by name.
"""

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from assay.core.model_calls import Classifier, as_logits, call, fill_masked
from assay.core.rng import Rng
from assay.core.types import Count, Images, Labels, Logits
from assay.util.validate import number, one_of, whole


class RandomTransform(Protocol):
    """A random change of images whose draws have addresses: a frozen dataclass or a module."""

    def __call__(self, x: Images, rng: Rng, keys: Labels, step: Count, purpose: str) -> Images:
        """Change each image by the draws of (seed, key, step, purpose)."""
        ...


@runtime_checkable
class SeveralAnswers(Protocol):
    """A classifier with several answers to one image: draws of a random one, or members of an ensemble."""

    @property
    def draws(self) -> int:
        """How many answers."""
        ...

    @property
    def average(self) -> str:
        """``"logits"`` or ``"probabilities"``, averaged before a loss is taken; else each answer has its own loss."""
        ...

    def sample(
        self, x: Images, keys: Labels, passes: Count, *, purpose: str = "attack"
    ) -> tuple[Float[Tensor, "d b c h w"], Float[Tensor, "d b k"]]:
        """The images of each answer, and its logits."""
        ...

    def combine(self, logits: Float[Tensor, "d b k"]) -> Logits:
        """One row of logits from those of the answers."""
        ...

    def reduce(self, losses: Float[Tensor, "d b"]) -> Float[Tensor, "b"]:
        """One loss from those of the answers."""
        ...


AVERAGES = ("loss", "logits", "probabilities")


class Expectation(nn.Module):
    """A randomised classifier averaged over ``draws``.

    With ``sigma`` it is the classifier smoothed by Gaussian noise: the noise belongs to (seed, row, pass, draw), so
    that an attack on it is independent of the batch. Without, the model is run ``draws`` times and its own
    randomness (which assay cannot address by row) does the rest.

    Args:
        model: maps images in [0, 1] to logits.
        draws: how many times each image is evaluated, at least 1.
        sigma: standard deviation of the noise added to the image, in input units; 0 for none.
        transform: any other random change of the image, besides the noise.
        average: what an attack averages: ``"loss"`` (equation 9; each draw has its own loss), ``"logits"`` or
            ``"probabilities"``. Predictions average probabilities, except with ``"logits"``.
        seed: seed of the noise.

    Raises:
        TypeError, ValueError: a wrong argument, by name.

    Example:
        >>> smooth = Expectation(nn.Flatten(), draws=8, sigma=0.25)
        >>> smooth(torch.zeros(2, 1, 1, 3)).shape
        torch.Size([2, 3])

    Source: Athalye et al., "Synthesizing robust adversarial examples", ICML 2018 (EOT); Tong et al., 2020,
    appendix J, equations 9 and 10, for the dual-perturbation attack on smoothed classifiers.
    """

    def __init__(
        self,
        model: Classifier,
        draws: int,
        *,
        sigma: float = 0.0,
        transform: RandomTransform | None = None,
        average: str = "loss",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.draws = whole("draws", draws, least=1)
        self.sigma = number("sigma", sigma, least=0)
        self.transform = transform
        self.average = one_of("average", average, AVERAGES)
        self.rng = Rng(seed)

    def extra_repr(self) -> str:
        """The settings, so that two different models never look the same in a record."""
        other = "" if self.transform is None else f"transform={self.transform}, "
        return f"draws={self.draws}, sigma={self.sigma}, {other}average={self.average!r}, seed={self.rng.seed}"

    def forward(self, x: Images) -> Logits:
        """Averaged logits (``average="logits"``) or the logarithm of averaged probabilities, ``(b, k)``.

        The same noise, which no attack draws, is used for every image and every call: with ``sigma`` the average is a
        deterministic function. So the referee always measures with the same ``draws`` noises; an attack that asks
        often enough can find images that fool these. Take more draws, and measure the final images under another
        ``seed``, before a small difference is believed. (Voting with abstention is another classifier.)
        """
        keys = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return self.combine(self.sample(x, keys, torch.zeros_like(keys), purpose="prediction")[1])

    def sample(
        self, x: Images, keys: Labels, passes: Count, *, purpose: str = "attack"
    ) -> tuple[Float[Tensor, "d b c h w"], Float[Tensor, "d b k"]]:
        """The images of each draw and their logits.

        Args:
            x: images, ``(b, c, h, w)``.
            keys: address of each row's noise.
            passes: how many passes each row has had (fresh noise at each).
            purpose: part of the noise's address.
        """
        noisy = [self._noised(x, keys, passes * self.draws + i, purpose) for i in range(self.draws)]
        stacked = torch.stack(noisy)
        logits = fill_masked(as_logits(call(self.model, stacked.flatten(0, 1)), len(x) * self.draws))
        return stacked, logits.reshape(self.draws, len(x), -1)

    def combine(self, logits: Float[Tensor, "d b k"]) -> Logits:
        """One row of logits from those of the draws."""
        if self.average == "logits":
            return logits.mean(0)
        return logits.log_softmax(2).logsumexp(0) - math.log(self.draws)

    def reduce(self, losses: Float[Tensor, "d b"]) -> Float[Tensor, "b"]:
        """The mean of the draws' losses."""
        return losses.mean(0)

    def _noised(self, x: Images, keys: Labels, step: Count, purpose: str) -> Images:
        if self.transform is not None:
            x = self.transform(x.clone(), self.rng, keys, step, f"transform {purpose}")
        if self.sigma == 0:
            return x
        noise = self.rng.normal(keys, tuple(x.shape[1:]), f"expectation {purpose}", step)
        return x + self.sigma * noise.to(x)
