"""Can adversarial images be detected?

Metzen, 2018, section 3.4, figures 6 and 7, appendix G.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.attacks.universal_perturbations.perturbation import UniversalSign, universal
from assay.core.call_context import with_images_on_the_cpu
from assay.core.combinators import AnyAttack
from assay.core.model_state import preserve_state
from assay.core.types import Flag
from assay.data.dataset import Dataset
from assay.defences.detectors import Detector, roc
from assay.defences.fit import fit_detector
from assay.diagnostics.plots import canvas, lines, pictures
from assay.diagnostics.trail import Trail, perturb_images, right_of
from assay.util.progress import WorkCallback, no_progress
from assay.util.statistics import Interval, difference_interval, exact_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_HELD_OUT = 500
"""Most training images that detectors do not learn from and thresholds are set by."""


@dataclass(frozen=True)
class Detectability:
    """How well detectors do.

    Attributes:
        epochs: the epochs.
        accuracy: by attack, ``(T, T)``: of the detector trained at the first epoch, the mean of that on clean test
            images and that on effective adversarial ones of the second epoch; NaN where there are none.
        area: under the ROC curve, likewise.
        interval: of the accuracy, 95 %, ``(T, T, 2)``.
        deltas: by attack, ``(T, c, h, w)``: the perturbation that each epoch's detector finds most adversarial.
        suspicion: by attack, per epoch the mean probability of being adversarial of clean images with that added.
    """

    epochs: tuple[int, ...]
    accuracy: Mapping[str, Tensor]
    area: Mapping[str, Tensor]
    interval: Mapping[str, Tensor]
    deltas: Mapping[str, Tensor]
    suspicion: Mapping[str, tuple[float, ...]]

    def frame(self) -> list[dict[str, Any]]:
        """One record for each attack, epoch of training and epoch of trying; ``own`` where they are the same."""
        return [
            {
                "attack": attack,
                "trained at": a,
                "tried at": b,
                "own": a == b,
                "accuracy": float(result[i, j]),
                "accuracy from": float(self.interval[attack][i, j, 0]),
                "accuracy to": float(self.interval[attack][i, j, 1]),
                "area": float(self.area[attack][i, j]),
            }
            for attack, result in self.accuracy.items()
            for i, a in enumerate(self.epochs)
            for j, b in enumerate(self.epochs)
        ]

    def figure(self) -> "Figure":
        """Accuracy by epoch: each epoch's own detector, and those of the first, second and last epoch."""
        figure, axes = canvas(6.0 * len(self.accuracy), 4.0, columns=len(self.accuracy))
        for place, (attack, result) in zip(axes, self.accuracy.items(), strict=True):
            curves: dict[str, Any] = {"trained at this epoch": result.diagonal().numpy()}
            for i in sorted({0, min(1, len(self.epochs) - 1), len(self.epochs) - 1}):
                curves[f"trained at epoch {self.epochs[i]}"] = result[i].numpy()
            lines(place, self.epochs, curves, label="epoch", percent=True)
            place.set_title(attack, fontsize=10)
        return figure

    def pictures(self, factor: float = 10.0, most: int = 6) -> "Figure":
        """What each epoch's detector finds most adversarial, amplified, around grey."""
        attack, deltas = next(iter(self.deltas.items()))
        chosen = np.linspace(0, len(self.epochs) - 1, min(most, len(self.epochs))).round().astype(int)
        titles = [f"epoch {self.epochs[i]}: {100 * self.suspicion[attack][i]:.0f} %" for i in chosen]
        return pictures([(0.5 + factor * deltas[i]).numpy() for i in chosen], titles)

    def verdict(self) -> str:
        """The least and the mean accuracy of an epoch's own detector."""
        texts = []
        for attack, result in self.accuracy.items():
            own = result.diagonal()
            own = own[~own.isnan()]
            if len(own):
                texts.append(f"{attack} {100 * own.mean():.0f} % (least {100 * own.min():.0f} %)")
        return (
            f"A detector trained on an epoch's own adversarial images tells them from clean ones: {', '.join(texts)}."
        )


@with_images_on_the_cpu
def detectability(
    trail: Trail,
    train: Dataset,
    test: Dataset,
    attacks: Mapping[str, AnyAttack],
    *,
    eps: float,
    epochs: int = 30,
    updates: int = 50,
    seed: int = 0,
    progress: WorkCallback = no_progress,
) -> Detectability:
    """A detector for each epoch and attack, tried on every epoch's adversarial images.

    Args:
        trail: the networks.
        train: images that detectors learn from.
        test: images that they are tried on.
        attacks: by name.
        eps: linf budget of the perturbation that a detector finds most adversarial.
        epochs: passes over the data, a detector; with five the detectors of small networks were not trained yet.
        updates: of that perturbation.
        seed: of weights, draws and attacks.
        progress: progress.

    Source: Metzen, 2018, section 3.4. Deviations: a smaller detector (`assay.defences.Detector`), and accuracy is at
    the threshold that is best on training images held out (500, or a quarter): at 0 it would depend on the statistics
    of batch normalisation, which are of clean and adversarial images mixed.
    """
    x, y, count = test.images(), test.y, len(trail.epochs)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    held_out, learned = (train.take(at) for at in order.split(_divided(len(train))))
    accuracy, area, interval, deltas, suspicion = {}, {}, {}, {}, {}
    for attack_index, (name, attack) in enumerate(attacks.items()):
        detectors, moved, limits = [], [], []
        for done, (_, model) in enumerate(trail):
            fooling = perturb_images(model, learned.images(), learned.y, attack, seed=seed)
            detectors.append(fit_detector(learned, model, attack, epochs=epochs, moved=fooling, seed=seed))
            fooling = perturb_images(model, held_out.images(), held_out.y, attack, seed=seed)
            limits.append(best_threshold(_scores(detectors[-1], held_out.images()), _scores(detectors[-1], fooling)))
            adversarial = perturb_images(model, x, y, attack, seed=seed)
            moved.append(adversarial[right_of(model, x, y) & ~right_of(model, adversarial, y)])
            progress("detectability", attack_index * count + done + 1, len(attacks) * count)
        scores = [_scores(d, x) for d in detectors]
        table, under = torch.full((count, count), float("nan")), torch.full((count, count), float("nan"))
        ends = torch.full((count, count, 2), float("nan"))
        for i, detector in enumerate(detectors):
            for j, images in enumerate(moved):
                if len(images):
                    adversarial_scores = _scores(detector, images)
                    caught, passed = adversarial_scores > limits[i], scores[i] <= limits[i]
                    table[i, j] = 0.5 * (caught.double().mean() + passed.double().mean())
                    ends[i, j] = torch.tensor(_balanced_interval(caught, passed))
                    under[i, j] = roc(scores[i], adversarial_scores)[2]
        accuracy[name], area[name], interval[name] = table, under, ends
        perturbations = [_most_suspicious(d, train, eps, updates, seed) for d in detectors]
        deltas[name] = torch.cat(perturbations)
        suspicion[name] = tuple(
            _scores(d, (x + delta).clamp(0, 1)).sigmoid().mean().item()
            for d, delta in zip(detectors, perturbations, strict=True)
        )
    return Detectability(
        trail.epochs,
        MappingProxyType(accuracy),
        MappingProxyType(area),
        MappingProxyType(interval),
        MappingProxyType(deltas),
        MappingProxyType(suspicion),
    )


def _divided(count: int) -> list[int]:
    """How many images thresholds are set by, and how many detectors learn from."""
    held_out = min(_HELD_OUT, count // 4)
    return [held_out, count - held_out]


def _balanced_interval(first: Flag, second: Flag) -> Interval:
    """Of the mean of two shares, from the exact interval of each."""
    (a, of_a), (b, of_b) = (
        (part.double().mean().item(), exact_interval(int(part.sum()), len(part))) for part in (first, second)
    )
    low, high = difference_interval(a, of_a, -b, (-of_b[1], -of_b[0]))
    return low / 2, high / 2


def best_threshold(clean: Tensor, adversarial: Tensor) -> float:
    """The threshold with the best mean of the two accuracies; half way between neighbouring scores."""
    values = torch.cat([clean, adversarial]).double().unique()
    between = torch.cat([values[:1] - 1, (values[1:] + values[:-1]) / 2, values[-1:] + 1])
    right = (clean.double()[:, None] <= between).double().mean(0) + (
        adversarial.double()[:, None] > between
    ).double().mean(0)
    return float(between[int(right.argmax())])


class _TwoLogits(nn.Module):
    """A detector as a classifier of clean and adversarial."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, x: Tensor) -> Tensor:
        return self.detector.logits(x)


def _most_suspicious(detector: Detector, data: Dataset, eps: float, updates: int, seed: int) -> Tensor:
    stream = ((x, torch.zeros_like(y)) for x, y in data.batches(seed=seed))  # away from "clean"
    return universal(
        _TwoLogits(detector), lambda: stream, UniversalSign(eps, updates=updates, batches=2), seed=seed
    ).delta


def _scores(detector: Detector, x: Tensor) -> Tensor:
    with preserve_state(detector), torch.no_grad():
        return torch.cat([detector(part) for part in x.split(256)])
