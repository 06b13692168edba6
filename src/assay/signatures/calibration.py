"""Calibrate a trained recogniser: temperature, reference features, thresholds for "unknown" and for an attack."""

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.core.call_context import in_neutral_context
from assay.signatures.examples import Examples
from assay.signatures.identifier import Identifier, taken_for
from assay.signatures.novelty import describe_images, fit_novelty
from assay.signatures.recognition import Recognition
from assay.util.validate import described, number, reject

_LEAST = 4
"""Images whose examples set thresholds or are judged by them: two in each half."""


@in_neutral_context
def calibrate(
    recognition: Recognition,
    train: Examples,
    held_out: Examples,
    *,
    refused: float = 0.05,
    accused: float = 0.03,
    extractor: str = "",
    seed: int = 0,
) -> Identifier:
    """Fit temperature and thresholds on examples that the recogniser was not trained on.

    Half of ``held_out`` sets them, the other half gives the confusion matrix; all that was made of one image is in
    one half.

    Args:
        recognition: trained without the true perturbation, which is unavailable at test time.
        train: what it was trained on.
        held_out: known attacks on other images.
        refused: share of known examples that may be called unknown.
        accused: share of images that no attack made, which may be said to be of one: of those with noise and other
            corruptions where there are any, else of clean ones.
        extractor: in words, for the record.
        seed: which half, and which features are kept.

    Raises:
        ValueError: a recogniser of true perturbations, or too few examples.
    """
    number("refused", refused, least=0, most=0.5)
    number("accused", accused, least=0, most=1)
    if recognition.plan.sees == "truth":
        reject("recognition", "one that sees images alone, or REDRL", "one that needs the true perturbation")
    images = len(held_out.clean.flatten(1).unique(dim=0))
    if images < _LEAST:
        reject("held_out", f"examples of at least {_LEAST} images", described(f"{len(held_out)} of {images}"))
    tuning, judging = _halves(held_out, seed)
    logits = recognition.logits(tuning)
    temperature = fitted_temperature(logits, tuning.kind)
    probability = (logits / temperature).softmax(1)
    evidence = _evidence(probability[:, 0], tuning, accused)
    measured, kinds = describe_images(recognition, tuning.images), taken_for(probability, evidence)
    novelty = fit_novelty(recognition, train, measured, kinds, seed)
    channels, height, width = train.images.shape[1:]
    identifier = Identifier(
        recognition=recognition,
        kinds=train.kinds,
        temperature=temperature,
        novelty=novelty,
        threshold=float(novelty(*measured, kinds).quantile(1 - refused)),
        refused=refused,
        evidence=evidence,
        accused=accused,
        confusion=torch.zeros(len(train.kinds), len(train.kinds) + 1, dtype=torch.int64),
        settings=train.settings,
        victims=train.victims,
        extractor=extractor,
        shape=(channels, height, width),
    )
    return replace(identifier, confusion=identifier.confusion_of(judging))


def _evidence(clean_probability: Tensor, tuning: Examples, accused: float) -> float:
    """The probability of an attack that all but a share of the images that no attack made stay below.

    With fewer than ``1 / accused`` of them all stay below.

    Source: the quantile of split conformal prediction, Vovk, Gammerman & Shafer, "Algorithmic learning in a random
    world", 2005: the share holds in expectation over tuning and other images of the same kind.
    """
    unattacked = tuning.innocent if bool(tuning.innocent.any()) else tuning.kind == 0
    evidence = (1 - clean_probability[unattacked]).sort().values
    rank = min(math.ceil((len(evidence) + 1) * (1 - accused)), len(evidence))
    return float(torch.nextafter(evidence[rank - 1], torch.tensor(2.0))) if rank > 0 else 0.0


def _halves(held: Examples, seed: int) -> tuple[Examples, Examples]:
    """Two halves of the clean images, and what was made of each."""
    _, source = held.clean.flatten(1).unique(dim=0, return_inverse=True)
    count = int(source.max()) + 1
    first = torch.zeros(count, dtype=torch.bool)
    first[torch.randperm(count, generator=torch.Generator().manual_seed(seed))[: (count + 1) // 2]] = True
    return held.take(first[source].nonzero().squeeze(1)), held.take((~first[source]).nonzero().squeeze(1))


def fitted_temperature(logits: Tensor, kind: Tensor) -> float:
    """The temperature with the least cross-entropy, among 200 between 0.1 and 10.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2.
    """
    candidates = torch.logspace(-1, 1, 200)
    losses = torch.stack([F.cross_entropy(logits / t, kind) for t in candidates])
    return float(candidates[int(losses.argmin())])
