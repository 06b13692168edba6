"""Randomised smoothing: prediction with abstention, and a certified l2 radius."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from assay.core.call_context import in_neutral_context
from assay.core.expectation import Expectation
from assay.core.model_calls import classify
from assay.core.model_state import preserve_state
from assay.core.rng import Rng, content_keys
from assay.core.types import Eps, Images, Labels, Logits
from assay.defences.adaptation import Adaptation, around, attackable
from assay.defences.denoised import DiffusionDenoiser
from assay.util.validate import number, radius, reject, whole

ABSTAIN = -1
"""The label of an image whose classes are too close to call."""


class Certificate(NamedTuple):
    """Labels ``(n,)`` (`ABSTAIN` where there is none) and l2 radii ``(n,)`` in input units, 0 where it abstains."""

    label: Labels
    radius: Tensor

    def accuracy_at(self, eps: Eps, y: Labels) -> float:
        """Share of samples whose label is right on every image within an l2 budget, but for the chance ``alpha``.

        Args:
            eps: the budget in input units.
            y: labels, ``(n,)``.

        Example:
            >>> Certificate(torch.tensor([0, 1]), torch.tensor([0.5, 0.2])).accuracy_at(0.3, torch.tensor([0, 1]))
            0.5
        """
        held = (self.label == y.to(self.label)) & (self.radius >= radius("eps", eps)) & (self.radius > 0)
        return float(held.double().mean()) if len(held) else float("nan")


class Smoothed(nn.Module):
    """The classifier that says what ``model`` says most often of noisy images.

    Args:
        model: maps images to logits; trained on noise of the same size (objective ``gaussian``).
        sigma: standard deviation of the noise in input units.
        draws: noises of a `forward` pass, which averages probabilities and never abstains (for attacks and tables);
            `predict` and `certify` vote.
        attack_draws: noises that the adaptive attack averages at each step.
        seed: of the noise.

    Example:
        >>> class Half(nn.Module):
        ...     def forward(self, x):
        ...         z = x.mean((1, 2, 3)) - 0.5
        ...         return torch.stack([z, -z], 1)
        >>> smooth = Smoothed(Half(), sigma=0.25)
        >>> smooth.predict(torch.ones(1, 1, 2, 2), n=50).tolist()
        [0]

    Source: Cohen, Rosenfeld & Kolter, "Certified adversarial robustness via randomized smoothing", ICML 2019, section
    3.2 (PREDICT and CERTIFY, theorem 1). With one noise there is no test and no abstention (Tong et al., 2020, appendix
    J.2). Each image's noise depends on its pixels and ``seed`` alone, so that a label does not depend on the batch.
    """

    def __init__(
        self, model: nn.Module, sigma: float, *, draws: int = 16, attack_draws: int = 8, seed: int = 0
    ) -> None:
        super().__init__()
        self.model = model
        self.sigma = number("sigma", sigma, least=0, above=True)
        self.attack_draws = whole("attack_draws", attack_draws, least=1)
        self.rng = Rng(seed)
        for own in model.modules():
            if isinstance(own, DiffusionDenoiser) and own.sigma != self.sigma:
                reject("sigma", f"that of the denoiser, {own.sigma:g}", sigma)
        self.mean = Expectation(model, draws, sigma=sigma, average="probabilities", seed=seed)

    def forward(self, x: Images) -> Logits:
        """Log-probabilities, the mean over the noises."""
        logits: Logits = self.mean(x)
        return logits

    def adaptation(self) -> Adaptation:
        """Expectation over the noise."""
        mean = Expectation(attackable(self.model), self.attack_draws, sigma=self.sigma, seed=self.rng.seed)
        how = f"EOT over Gaussian noise of {self.sigma:g}, {self.attack_draws} fresh draws a step"
        return around(self.model, Adaptation(how, surrogate=mean, methods=("EOT",)))

    @in_neutral_context
    def predict(self, x: Images, *, n: int = 100, alpha: float = 0.001, batch: int = 1000) -> Labels:
        """The class with the most votes, or `ABSTAIN` where the two-sided binomial test cannot tell the first two.

        Args:
            x: images, ``(b, c, h, w)``.
            n: votes an image; 1 for no test.
            alpha: chance of a label that is not the smoothed classifier's.
            batch: images a pass.
        """
        votes = self.votes(x, whole("n", n, least=1), "predict", batch)
        from scipy.stats import binomtest  # slow to import, needed only here

        top = votes.topk(2, dim=1)
        label = top.indices[:, 0]
        if n == 1:
            return label
        number("alpha", alpha, least=0, most=1, above=True)
        sure = [binomtest(int(a), int(a + b)).pvalue <= alpha for a, b in top.values.tolist()]
        return torch.where(torch.tensor(sure, dtype=torch.bool), label, ABSTAIN)

    @in_neutral_context
    def certify(
        self, x: Images, *, n: int = 10_000, n0: int = 100, alpha: float = 0.001, batch: int = 1000
    ) -> Certificate:
        """A label and the l2 radius within which the smoothed classifier does not change it, but for ``alpha``.

        Args:
            x: images, ``(b, c, h, w)``.
            n: votes for the bound.
            n0: votes for the choice of the class, others than those.
            alpha: chance that a radius is wrong.
            batch: images a pass.
        """
        chosen = self.votes(x, whole("n0", n0, least=1), "choose", batch).argmax(1)
        counts = self.votes(x, whole("n", n, least=1), "certify", batch).gather(1, chosen[:, None]).squeeze(1)
        number("alpha", alpha, least=0, most=1, above=True)
        radii = [certified_radius(int(k), n, alpha, self.sigma) for k in counts.tolist()]
        certified = torch.tensor(radii, dtype=torch.float64)
        return Certificate(torch.where(certified > 0, chosen, ABSTAIN), certified)

    def votes(self, x: Images, n: int, purpose: str, batch: int = 1000) -> Labels:
        """How often each class is said of ``n`` noisy versions, int64 ``(b, k)``."""
        keys = content_keys(x, torch.zeros(len(x), dtype=torch.int64))
        counts: Labels | None = None
        with preserve_state(self.model), torch.no_grad():
            for start in range(0, n * len(x), whole("batch", batch, least=1)):
                flat = torch.arange(start, min(start + batch, n * len(x)))
                row, turn = flat // n, flat % n
                noise = self.rng.normal(keys[row], tuple(x.shape[1:]), purpose, turn).to(x)
                logits = classify(self.model, x[row.to(x.device)] + self.sigma * noise).cpu()
                if counts is None:
                    counts = torch.zeros(len(x), logits.shape[1], dtype=torch.int64)
                counts.index_put_((row, logits.argmax(1)), torch.ones_like(row), accumulate=True)
        return torch.zeros(0, 2, dtype=torch.int64) if counts is None else counts


def certified_radius(count: int, n: int, alpha: float, sigma: float) -> float:
    """``σ·Φ⁻¹(p)``, p the lower Clopper–Pearson bound of ``count`` of ``n`` at confidence ``1 − alpha``; 0 if p ≤ 1/2.

    Example:
        >>> round(certified_radius(9990, 10_000, 0.001, 0.5), 4)
        1.4093
    """
    from scipy.special import betaincinv, ndtri  # slow to import, needed only here

    low = float(betaincinv(count, n - count + 1, alpha)) if count else 0.0
    return float(sigma * ndtri(low)) if low > 0.5 else 0.0
