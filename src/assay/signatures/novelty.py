"""How unlike the training examples an image is: by features of the recogniser, and by how its residual is built."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from assay.core.types import Images, PerRow
from assay.defences.transforms import Median
from assay.signatures.examples import Examples
from assay.signatures.plan import Plan
from assay.signatures.recognition import Recognition
from assay.signatures.residual_statistics import COUNT, residual_statistics

NEIGHBOURS = 10
BANK = 4000
"""Most features that are kept for comparison."""
_FEWEST = 8
"""Examples of a setting from which a Gaussian is fitted."""
_ROUNDING = 1e-4
"""Known examples that are nearer by no more than this share are as far: another processor may order them otherwise."""
_SHRINK = 0.05
"""Share of the unit matrix in a covariance."""


@dataclass(frozen=True, eq=False)
class Novelty:
    """How unlike the training examples images are; more is further.

    Two measures: the distance of the recogniser's features to the tenth nearest of the training examples, and the
    likelihood of the statistics of the residual under a Gaussian for each setting of an attack. Each is a p-value among
    known examples that were set aside and taken for the same kind; the novelty is ``−Σ log p``.

    Attributes:
        bank: features of training examples, ``(m, f)``, of length 1.
        centre: of the statistics, ``(s,)``.
        scale: of the statistics, ``(s,)``.
        means: of each Gaussian, ``(g, s)``; without any, the novelty is the distance.
        precisions: inverse covariances, ``(g, s, s)``.
        log_determinants: of the covariances, ``(g,)``.
        known: both measures of the known examples, ``(2, t)``.
        known_kinds: what each of them was taken for, ``(t,)``.

    Source: Sun et al., "Out-of-distribution detection with deep nearest neighbors", ICML 2022, section 3; Lee, Lee, Lee
    & Shin, "A simple unified framework for detecting out-of-distribution samples and adversarial attacks", NeurIPS
    2018, section 2, for Gaussians of classes (theirs share a covariance, and are of features); Fisher, "Statistical
    methods for research workers", 1932, section 21.1, for the sum; Vovk, Gammerman & Shafer, "Algorithmic learning in a
    random world", 2005, section 4.5 (Mondrian), for p-values among examples of a kind.
    """

    bank: Tensor
    centre: Tensor
    scale: Tensor
    means: Tensor
    precisions: Tensor
    log_determinants: Tensor
    known: Tensor
    known_kinds: Tensor

    def __call__(self, features: Tensor, statistics: Tensor, kinds: Tensor) -> PerRow:
        """The novelty of images, ``(n,)``.

        Args:
            features: of the recogniser, ``(n, f)``.
            statistics: of their residuals, ``(n, s)``.
            kinds: what they are taken for, ``(n,)``; one that no known example was taken for is held against all.
        """
        if not len(self.means):
            return distance(features, self.bank)
        measured = self.measures(features, statistics)
        novelty = torch.zeros(len(kinds))
        for kind in kinds.unique():
            alike, rows = self.known_kinds == kind, kinds == kind
            known = self.known[:, alike if bool(alike.any()) else slice(None)].sort(1).values
            least = measured[:, rows] - _ROUNDING * measured[:, rows].abs()
            below = torch.searchsorted(known, least.contiguous())
            count = 1 + known.shape[1]
            novelty[rows] = -((count - below).float() / count).log().sum(0)
        return novelty

    def measures(self, features: Tensor, statistics: Tensor) -> Tensor:
        """Distance and negative log-likelihood (twice, but for a constant), ``(2, n)``."""
        apart = ((statistics - self.centre) / self.scale)[:, None] - self.means
        surprise = torch.einsum("ngs,gst,ngt->ng", apart, self.precisions, apart) + self.log_determinants
        return torch.stack([distance(features, self.bank), surprise.amin(1)])

    def tensors(self) -> Mapping[str, Tensor]:
        """All of it, by name."""
        return {name: getattr(self, name) for name in _NAMES}


_NAMES = ("bank", "centre", "scale", "means", "precisions", "log_determinants", "known", "known_kinds")


def novelty_of(tensors: Mapping[str, Tensor]) -> Novelty:
    """From what `Novelty.tensors` gave; of a file that has features alone, by the distance."""
    none = torch.zeros(0)
    return Novelty(**{name: tensors.get(name, none) for name in _NAMES})


def fit_novelty(
    recognition: Recognition, train: Examples, known: tuple[Tensor, Tensor], known_kinds: Tensor, seed: int
) -> Novelty:
    """Fit to training examples, and to known ones that were set aside.

    Args:
        recognition: the networks.
        train: what they were trained on.
        known: features and statistics of examples of other images, as `describe_images` gives them.
        known_kinds: what each of these is taken for.
        seed: which features are kept.
    """
    kept = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:BANK]
    features, statistics = describe_images(recognition, train.images)
    centre, scale = statistics.mean(0), statistics.std(0).nan_to_num(1.0).clamp_min(1e-6)
    standard = (statistics - centre) / scale
    groups = (
        train.kind * (len(train.settings) + 2) + torch.where(train.innocent, len(train.settings), train.setting) + 1
    )
    by_group = (standard[groups == group] for group in groups.unique())
    samples = [part for part in by_group if len(part) >= _FEWEST]
    unit = torch.eye(statistics.shape[1])
    covariances = [(1 - _SHRINK) * torch.cov(part.T) + _SHRINK * unit for part in samples]
    novelty = Novelty(
        bank=features[kept],
        centre=centre,
        scale=scale,
        means=torch.stack([part.mean(0) for part in samples]) if samples else unit[:0],
        precisions=torch.stack([torch.linalg.inv(one) for one in covariances]).contiguous()
        if samples
        else unit[None, :0],
        log_determinants=torch.stack([torch.logdet(one) for one in covariances]) if samples else unit[0, :0],
        known=torch.zeros(2, 0),
        known_kinds=torch.zeros(0, dtype=torch.int64),
    )
    if not samples:
        return novelty
    return replace(novelty, known=novelty.measures(*known), known_kinds=known_kinds)


def describe_images(recognition: Recognition, images: Tensor, batch: int = 256) -> tuple[Tensor, Tensor]:
    """Features of the recogniser ``(n, f)`` and statistics of residuals ``(n, s)`` of 8-bit images."""
    parts = []
    with torch.no_grad():
        for part in images.split(batch):
            image, residual = recognition.inputs(part.float() / 255)
            parts.append(
                (recognition.recogniser.features(image, residual), statistics_of(recognition, image, residual))
            )
    return torch.cat([features for features, _ in parts]), torch.cat([statistics for _, statistics in parts])


def statistics_of(recognition: Recognition, image: Images, residual: Images) -> Tensor:
    """Statistics of the reconstructor's residual, where there is one, and of what a median filter takes away."""
    views = [residual] if recognition.plan.sees == "redrl" else []
    return torch.cat([residual_statistics(view, image) for view in (*views, image - Median(3)(image))], 1)


def statistics_count(plan: Plan, channels: int) -> int:
    """How many `statistics_of` gives for images of so many channels."""
    return (1 + (plan.sees == "redrl")) * (COUNT + channels)


def distance(features: Tensor, bank: Tensor) -> Tensor:
    """Euclidean, from features ``(n, f)`` to the tenth nearest of the bank ``(m, f)``: ``(n,)``."""
    near = torch.cdist(features, bank).topk(min(NEIGHBOURS, len(bank)), dim=1, largest=False)
    return near.values[:, -1]
