"""A classifier that can refuse: one logit more, for images that a detector takes for adversarial."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from assay.core.model_calls import Classifier, call, classify
from assay.core.rows import Test
from assay.core.types import Flag, Images, Logits, PerRow
from assay.defences.adaptation import Adaptation, adaptation_of, around, attackable
from assay.defences.transformed import Transformed
from assay.parts.losses import Evasion
from assay.util.validate import described, number, reject

Score = Callable[[Images], PerRow]
"""Above 0 where an image is taken for adversarial."""


class Guarded(nn.Module):
    """The logits of ``model``, and ``max_k z_k + score(x)`` for the refusal: the largest iff the score is above 0.

    Refusing a clean image counts as an error (clean accuracy); refusing an attacked one as a success of the defence.
    Around a classifier that refuses already, the refusal is the larger one of both: an image is refused by either.

    Args:
        model: maps images in [0, 1] to ``k`` logits.
        score: above 0 where an image is to be refused; a module, so that its weights travel with the classifier.

    Source: Carlini & Wagner, "Adversarial examples are not easily detected: bypassing ten detection methods", AISec
    2017, section 3.3, for the combined classifier and the attack on it.
    """

    def __init__(self, model: nn.Module, score: Score) -> None:
        super().__init__()
        for name, value in (("model", model), ("score", score)):
            if not callable(value):
                reject(name, "a module or a function of images", value, error=TypeError)
        self.model, self.score = model, score
        behind = adaptation_of(model)
        self.refused_behind = behind is not None and behind.test is accepted

    def forward(self, x: Images) -> Logits:
        """Logits, ``(b, k + 1)``."""
        logits = classify(self.model, x)
        kept = logits[:, :-1] if self.refused_behind else logits
        score = call(self.score, x)
        if score.shape != x.shape[:1]:
            shape = described(f"shape {tuple(score.shape)}")
            reject("score", f"one number an image, a tensor of shape ({len(x)},)", shape)
        refusal = kept.amax(1, keepdim=True) + score[:, None]
        return torch.cat([kept, torch.maximum(refusal, logits[:, -1:]) if self.refused_behind else refusal], 1)

    def adaptation(self) -> Adaptation:
        """Misclassified and not refused, by one objective for both."""
        seen = self.score.smooth() if isinstance(self.score, Squeezing) else self.score
        model = attackable(self.model)
        surrogate = None if seen is self.score and model is self.model else Guarded(model, seen)
        if surrogate is not None:
            surrogate.refused_behind = self.refused_behind
        past = "" if seen is self.score else ", past the squeezers by BPDA"
        behind = adaptation_of(self.model)
        other = None if behind is None or self.refused_behind else behind.test
        joint = Adaptation(
            f"joint attack: wrong and not refused (classifier and detector in one objective){past}",
            surrogate=surrogate,
            test=accepted if other is None else _AcceptedAnd(other),
            objective=Evasion(),
            methods=("joint",) if seen is self.score else ("joint", "BPDA"),
        )
        return around(self.model, joint)


def accepted(logits: Logits, x: Images) -> Flag:
    """Whether the last class, the refusal, is not the answer."""
    return logits.argmax(1) != logits.shape[1] - 1


@dataclass(frozen=True)
class _AcceptedAnd:
    """Accepted, and a success by what the classifier behind the detector declares, of its own logits."""

    behind: Test

    def __call__(self, logits: Logits, x: Images) -> Flag:
        held = self.behind(logits[:, :-1], x)
        if held.shape != x.shape[:1]:
            reject("test", f"one truth value an image, of shape ({len(x)},)", described(f"shape {tuple(held.shape)}"))
        return accepted(logits, x) & held


class Squeezing(nn.Module):
    """Feature squeezing: predictions that change when the image is squeezed are suspicious.

    ``max_s ‖softmax f(x) − softmax f(s(x))‖₁ − threshold`` over the squeezers s.

    Args:
        model: the classifier.
        squeezers: changes of images, such as `BitDepth` and `Median`; attacks take the gradients that `Transformed`
            takes.
        threshold: distance, in [0, 2], above which an image is refused; see `threshold_at`.

    Source: Xu, Evans & Qi, "Feature squeezing: detecting adversarial examples in deep neural networks", NDSS 2018,
    section V.
    """

    def __init__(
        self,
        model: nn.Module,
        squeezers: tuple[Callable[[Images], Images], ...],
        threshold: float = 1.0,
        *,
        straight: bool = False,
    ) -> None:
        super().__init__()
        if not squeezers:
            reject("squeezers", "at least one change of images", squeezers)
        self.model, self.squeezers, self.straight = model, squeezers, straight
        self.threshold = number("threshold", threshold, least=0)

    def extra_repr(self) -> str:
        """The squeezers, so that two detectors never look the same in a record."""
        return f"squeezers={self.squeezers}, threshold={self.threshold:g}"

    def forward(self, x: Images) -> PerRow:
        """The score."""
        return self.distance(x) - self.threshold

    def distance(self, x: Images) -> PerRow:
        """The largest l1 distance of two predictions, ``(b,)``."""
        plain = classify(attackable(self.model) if self.straight else self.model, x).softmax(1)
        squeezed = [classify(self._behind(change), x.clone()) for change in self.squeezers]
        return torch.stack([(plain - z.softmax(1)).abs().sum(1) for z in squeezed]).amax(0)

    def _behind(self, change: Callable[[Images], Images]) -> Classifier:
        """The classifier behind a squeezer, or what an attack takes for it."""
        defended = Transformed(self.model, change)
        return (defended.adaptation().surrogate if self.straight else None) or defended

    def smooth(self) -> "Squeezing":
        """The same with a gradient past every squeezer that has none (BPDA)."""
        return Squeezing(self.model, self.squeezers, self.threshold, straight=True)


class Detector(nn.Module):
    """A small convolutional network that tells adversarial from clean images; trained by `defences.fit.fit_detector`.

    Args:
        channels: of the images.
        size: their side.
        width: channels of the first layer.

    Source: Metzen, Genewein, Fischer & Bischoff, "On detecting adversarial perturbations", ICLR 2017, section 3.2.
    Deviation: it looks at the image, not at an inner layer of the classifier, so that it fits any of them.
    """

    def __init__(self, channels: int, size: int, width: int = 32) -> None:
        super().__init__()
        self.threshold = 0.0
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(2 * width, 2)

    def extra_repr(self) -> str:
        """The threshold."""
        return f"threshold={self.threshold:g}"

    def logits(self, x: Images) -> Logits:
        """Two logits, of clean and of adversarial."""
        result: Logits = self.head(self.body(2 * x - 1).mean((2, 3)))
        return result

    def forward(self, x: Images) -> PerRow:
        """The difference of the two, less the threshold."""
        z = self.logits(x)
        return z[:, 1] - z[:, 0] - self.threshold


class Reconstruction(nn.Module):
    """MagNet's detector: images that an autoencoder does not reconstruct are far from the data.

    Args:
        autoencoder: maps images to images.
        threshold: mean error above which an image is refused.
        order: 1 or 2, of the mean error.
    """

    def __init__(self, autoencoder: nn.Module, threshold: float, order: int = 1) -> None:
        super().__init__()
        self.autoencoder, self.order = autoencoder, order
        self.threshold = number("threshold", threshold, least=0, above=True)

    def extra_repr(self) -> str:
        """The threshold."""
        return f"threshold={self.threshold:g}, order={self.order}"

    def error(self, x: Images) -> PerRow:
        """Mean error of each image."""
        error: PerRow = (x - self.autoencoder(x)).abs().pow(self.order).flatten(1).mean(1)
        return error

    def forward(self, x: Images) -> PerRow:
        """How far above the threshold, in thresholds."""
        return self.error(x) / self.threshold - 1


def threshold_at(values: PerRow, rate: float) -> float:
    """The smallest of the values that at most a share ``rate`` of them exceeds.

    Example:
        >>> threshold_at(torch.arange(100.0), 0.05)
        94.0
    """
    number("rate", rate, least=0, most=1)
    ordered = values.sort().values
    return float(ordered[max(math.ceil((1 - rate) * len(ordered) - 1e-9), 1) - 1])


def roc(clean: PerRow, attacked: PerRow) -> tuple[torch.Tensor, torch.Tensor, float]:
    """False and true positive rates over all thresholds, and the area under the curve.

    Args:
        clean: scores of clean images.
        attacked: scores of attacked ones.

    Returns:
        Rates from (0, 0) to (1, 1), and the area (ties count half).
    """
    both = torch.cat([clean, attacked]).double()
    label = torch.cat([torch.zeros(len(clean)), torch.ones(len(attacked))]).double()
    values, place = both.unique(return_inverse=True)
    bad = torch.zeros(len(values), dtype=torch.float64).index_add(0, place, label).flip(0).cumsum(0)
    good = torch.zeros(len(values), dtype=torch.float64).index_add(0, place, 1 - label).flip(0).cumsum(0)
    true, false = F.pad(bad / max(len(attacked), 1), (1, 0)), F.pad(good / max(len(clean), 1), (1, 0))
    return false, true, float(torch.trapezoid(true, false))
