"""A look at a model before it is attacked: what would make a robust accuracy meaningless is named first."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assay.core.expectation import Expectation
from assay.core.model_calls import (
    OUTPUT_RULE,
    Classifier,
    as_logits,
    call_and_describe,
    classify,
    fill_masked,
    gradients,
)
from assay.core.model_parts import modules_in
from assay.core.model_state import lock_model, model_device, model_dtype, preserve_state
from assay.core.rows import untargeted
from assay.core.types import Images, Labels, Logits
from assay.engine.outputs import describe_squeeze
from assay.util.memory import attempt
from assay.util.validate import outside

SAMPLES = 32
"""How many images are looked at."""

_CHANCE = 0.001
_FLAT = 0.2
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class ModelWarning(UserWarning):
    """Something about the model makes the result of an attack doubtful."""


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        code: a stable name: ``train-mode``, ``random``, ``probabilities``, ``squeezed``, ``output-form``,
            ``input-range``, ``non-finite``, ``no-gradient``.
        text: a sentence: what, and what to do.
    """

    code: str
    text: str


def inspect(model: Classifier, x: Images, y: Labels, *, samples: int = SAMPLES) -> tuple[Finding, ...]:
    """Look at a model on a few images.

    Finds a model in training mode, one whose answers change from pass to pass, one whose outputs are squeezed (by a
    softmax, a sigmoid, a clamp: `assay.engine.outputs.describe_squeeze`), one that expects another input range than [0,
    1], logits
    inside some other output, and non-finite outputs. The model is left as it was found.

    Args:
        model: maps images in [0, 1] to logits.
        x: images, ``(n, c, h, w)``; the first ``samples`` are used.
        y: labels.
        samples: how many.

    Returns:
        What was found; empty where nothing was.

    Example:
        >>> softmax = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Softmax(1)).eval()
        >>> x = torch.linspace(0, 1, 256).view(64, 1, 2, 2)
        >>> [f.code for f in inspect(softmax, x, softmax(x).argmax(1))]
        ['probabilities']
    """
    device = model_device(model, x.device)
    x = x[:samples].detach().to(device, model_dtype(model))
    y = y[:samples].to(device)
    with lock_model(model):
        findings = [training_mode(model)]
    with preserve_state(model), torch.no_grad():
        # A model that raises is named by the attack itself, with its traceback.
        passes, _ = attempt(lambda: [_pass(model, x) for _ in range(3)], lambda _: True)
        if passes is not None:
            logits = [z.float() for z, _ in passes]
            findings += [output_form(passes[0][1]), non_finite(logits[0], x), randomness(model, logits)]
            if getattr(model, "differentiable", True):  # what can only be asked has no gradient to lose
                findings.append(squeezed(logits[0]))
            findings.append(input_range(model, x, y, logits[0]))
    return tuple(f for f in findings if f is not None)


def warn_of(findings: Iterable[Finding | None]) -> None:
    """Warn (`ModelWarning`) of each finding."""
    for finding in findings:
        if finding is not None:
            warnings.warn(f"{finding.code}: {finding.text}", ModelWarning, stacklevel=outside())


def no_gradient(model: Classifier, x: Images, y: Labels) -> Finding | None:
    """Whether the gradient of the margin by the image is exactly zero on more than a fifth of some images.

    Args:
        model: maps images to logits.
        x: images, ``(n, c, h, w)`` in [0, 1]; the first eight are used.
        y: labels, ``(n,)``.

    Returns:
        What was found; None where nothing was, or where the model raises.
    """
    images = x[:8].detach().to(model_device(model, x.device), model_dtype(model))

    def margin(leaf: Images) -> tuple[list[Tensor], None]:
        logits = classify(model, leaf)
        return [untargeted(y[: len(leaf)].to(logits.device)).margin(logits).sum()], None

    with preserve_state(model):
        grad, _ = attempt(lambda: gradients(margin, images)[0][0], lambda _: True)
    if grad is None or not len(images):
        return None
    share = float((grad == 0).flatten(1).all(1).float().mean())
    if share <= _FLAT:
        return None
    return Finding(
        "no-gradient",
        f"the gradient is exactly zero on {100 * share:.0f} % of {len(images)} images: attacks by gradients stand "
        "still there, and what they leave is not robust. Attack past what cuts the gradient off (surrogate=, "
        "assay.defences.Transformed), or by queries (assay.Square).",
    )


def training_mode(model: Classifier) -> Finding | None:
    """Whether layers that behave otherwise in training are in training mode."""
    named = [item for root in modules_in(model) for item in root.named_modules()]
    active = [name or "the model itself" for name, part in named if getattr(part, "training", False)]
    matters = (nn.Dropout, nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    if not any(isinstance(part, matters) and part.training for _, part in named):
        return None
    return Finding(
        "train-mode",
        f"the model is in training mode ({len(active)} modules, first: {active[0]}); it is attacked in evaluation "
        "mode and put back afterwards. Call model.eval() if that is what you meant.",
    )


def non_finite(logits: Logits, x: Images) -> Finding | None:
    """Whether clean images hold values that are no numbers, or have logits that are none."""
    bad = int((~logits.isfinite().all(1)).sum())
    if not bad:
        return None
    wrong = int((~x.isfinite().flatten(1).all(1)).sum())
    if wrong:
        return Finding(
            "non-finite", f"{wrong} of {len(x)} clean images hold NaN or infinite values; they count as invalid."
        )
    return Finding("non-finite", f"{bad} of {len(logits)} clean images have non-finite logits; they count as invalid.")


def randomness(model: Classifier, passes: list[Logits]) -> Finding | None:
    """Whether logits change from pass to pass."""
    if isinstance(model, Expectation):
        return None
    first = passes[0]
    scale = first.abs().amax(1, keepdim=True).clamp_min(1e-12)
    change = max(float(((z - first) / scale).abs().nan_to_num(0).max()) for z in passes[1:])
    flips = max(int((z.argmax(1) != first.argmax(1)).sum()) for z in passes[1:])
    if change <= 1e-4 and not flips:
        return None
    return Finding(
        "random",
        f"the same images get other logits from pass to pass (by {change:.2g} of their size; {flips} of {len(first)} "
        "predictions change). Wrap the model in assay.Expectation and attack that, or the result flatters it.",
    )


def squeezed(outputs: Logits) -> Finding | None:
    """Whether outputs are probabilities, or squeezed by something else whose gradient vanishes where it saturates."""
    what = describe_squeeze(outputs)
    if what == "probabilities":
        return Finding(
            "probabilities",
            "the model returns probabilities, whose gradient vanishes where it is confident. Remove the softmax: "
            "attacks need logits.",
        )
    if what:
        return Finding(
            "squeezed",
            f"the outputs seem to pass through {what}. Its gradient vanishes where it saturates, so attacks by "
            "gradients stand still and the result flatters the model. Return what goes into it: attacks need logits.",
        )
    return None


def output_form(where: str) -> Finding | None:
    """Which part of an output is taken for logits, where it is more than a tensor."""
    if not where:
        return None
    return Finding(
        "output-form",
        f"the model returns no plain tensor; {where} is taken for the logits ({OUTPUT_RULE}). Wrap the model if that "
        "is not what you mean.",
    )


def _pass(model: Classifier, x: Images) -> tuple[Logits, str]:
    output, where = call_and_describe(model, x)
    return fill_masked(as_logits(output, len(x))), where


def _surely_more(gained: Tensor, lost: Tensor) -> bool:
    """Whether so many images are gained, and so few lost, that it happens by chance once in a thousand times."""
    wins, n = int(gained.sum()), int(gained.sum() + lost.sum())
    tail = sum(math.comb(n, k) for k in range(wins, n + 1))
    return tail < _CHANCE * 2.0**n


def input_range(model: Classifier, x: Tensor, y: Tensor, logits: Logits) -> Finding | None:
    """Whether the model is better on images scaled some other way: by a quarter of them, or by a sign test.

    Source: McNemar, Psychometrika 12 (1947), for the test on the images that only one of the two gets right.
    """
    if len(x) < 16:
        return None
    variants = {
        "values from 0 to 255": x * 255,
        "values from -1 to 1": 2 * x - 1,
        "values from 0 to 1/255 (is the scaling applied twice?)": x / 255,
    }
    if x.shape[1] == 3:
        mean, std = (torch.tensor(v, device=x.device, dtype=x.dtype).reshape(1, 3, 1, 1) for v in IMAGENET)
        variants["ImageNet-normalised values"] = (x - mean) / std
        variants["channels in the order blue, green, red"] = x.flip(1)
    right = logits.argmax(1) == y
    plain, best, name = float(right.float().mean()), 0.0, ""
    for label, images in variants.items():
        outputs, _ = attempt(lambda i=images: classify(model, i), lambda _: True)  # type: ignore[misc]
        if outputs is not None:
            there = outputs.argmax(1) == y
            score = float(there.float().mean())
            if score > best and (score - plain >= 0.25 or _surely_more(there & ~right, right & ~there)):
                best, name = score, label
    if not name:
        return None
    return Finding(
        "input-range",
        f"of {len(x)} clean images {100 * plain:.0f} % are right, but {100 * best:.0f} % with {name}: the model seems "
        "to expect other inputs. Put the scaling into the model (assay.models.Normalize).",
    )
