"""CheckContext: the model, images and attack results that a check reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from assay.attacks.plan import Planned
from assay.core.combinators import Stage, unfold
from assay.core.expectation import Expectation
from assay.core.geometry import Geometry
from assay.core.model_calls import classify
from assay.core.model_state import model_device, model_dtype, preserve_state, seeded
from assay.core.outcome import Outcome, Status
from assay.core.types import Images, Labels, Logits
from assay.data.dataset import Dataset, pixels
from assay.defences.adaptation import Adaptation, adaptation_of
from assay.engine.api import attack
from assay.parts.balls import Ball
from assay.trust.budgets import outermost, within
from assay.util.memory import attempt, is_out_of_memory

SAMPLES = 64
"""How many samples the checks use."""

_STEADY = 0.1
"""Of the logits' own spread: what answers change by from pass to pass where an average has been taken."""

ImageReader = Callable[[int], Tensor | None]


@dataclass(frozen=True)
class AttackResult:
    """What an attack did to all samples.

    Attributes:
        planned: the attack.
        outcome: how each sample ended.
        image: the image after the attack, by sample; None where it was not kept.
        adapted: whether a defence was attacked in the way that it declares.
        seed: of its draws.
        claimed: whether its budget is claimed (a point of a curve is not).
    """

    planned: Planned
    outcome: Outcome
    image: ImageReader
    adapted: bool = True
    seed: int = 0
    claimed: bool = True

    @property
    def label(self) -> str:
        """What ran."""
        return self.planned.attack.describe()

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The parts of the attack."""
        return unfold(self.planned.attack)

    @property
    def budget(self) -> Geometry | None:
        """The set of perturbations that count; None without a limit."""
        return self.stages[0].attack.geometry

    @property
    def ball(self) -> Ball | None:
        """The budget, where it is a ball."""
        return self.budget if isinstance(self.budget, Ball) else None


@dataclass(frozen=True)
class CheckContext:
    """A model, images, and results of attacks on them.

    Attributes:
        model: the classifier.
        x: all images, ``(n, c, h, w)`` in [0, 1], or uint8, which takes a quarter of the memory; see `at`.
        y: their labels.
        results: of attacks on all of them.
        masks: foreground masks, where an attack needs them.
        transfer_images: images that attacks on other models made of the same samples: pairs of sample and image.
        reference: clean accuracy that is known of this model, as a share.
        claimed: the budget that the number is said to be of, where somebody says it; each attack has its own.
        whole: the data set that the images are said to be of: the split, with its other images.
        samples: how many samples the checks use.
        seed: of the draws.
        recorded: recorded facts of the evaluation, by name.
        memory: what one check has learnt that another can use, by name; a process that has not learnt it asks again.
        run: attacks samples again, as `assay.attack` does; the one way in which checks do that.
    """

    model: nn.Module
    x: Tensor
    y: Labels
    results: tuple[AttackResult, ...] = ()
    masks: Tensor | None = None
    transfer_images: Sequence[tuple[int, Tensor]] = ()
    reference: float | None = None
    claimed: Geometry | None = None
    whole: Dataset | None = None
    samples: int = SAMPLES
    seed: int = 0
    recorded: dict[str, str] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    run: Callable[..., Outcome] = field(default=attack, compare=False, repr=False)

    @cached_property
    def chosen(self) -> Tensor:
        """The samples that are looked at again: evenly spaced, so that the choice depends on nothing else."""
        n = len(self.x)
        return torch.linspace(0, n - 1, min(self.samples, n)).round().long().unique() if n else torch.arange(0)

    @property
    def images(self) -> Images:
        """The chosen images, as the model takes them."""
        return self.at(self.chosen).to(self.device, model_dtype(self.model))

    def at(self, index: Tensor) -> Images:
        """Some images, ``(m, c, h, w)`` in [0, 1]."""
        return pixels(self.x[index])

    @property
    def labels(self) -> Labels:
        """Their labels."""
        return self.y[self.chosen].to(self.device)

    @cached_property
    def device(self) -> torch.device:
        """Where the model is."""
        return model_device(self.model, self.x.device)

    @cached_property
    def adaptation(self) -> Adaptation | None:
        """How the defence declares that it is attacked; None without one."""
        return adaptation_of(self.model)

    @cached_property
    def attack_model(self) -> nn.Module:
        """What attacks see: a defence's surrogate, or the model."""
        surrogate = self.adaptation.surrogate if self.adaptation is not None else None
        return surrogate if isinstance(surrogate, nn.Module) else self.model

    @cached_property
    def in_expectation(self) -> bool:
        """Whether attacks average over the model's randomness: it has several draws, or next to none is left."""
        seen = self.attack_model
        if isinstance(seen, Expectation):
            return seen.draws > 1
        return seen is not self.model and _wanders(seen, self.images) < _STEADY

    @property
    def differentiable(self) -> bool:
        """Whether the model claims to have gradients."""
        return bool(getattr(self.attack_model, "differentiable", True))

    @cached_property
    def clean_logits(self) -> Logits:
        """Logits of the chosen images; of a random model those of one draw, whatever ran before."""
        with seeded(self.seed, {self.device}):
            return self.logits(self.images)

    @cached_property
    def is_correct(self) -> Tensor:
        """Which of the chosen images are classified as labelled."""
        return (self.clean_logits.argmax(1) == self.labels).cpu()

    @property
    def claims(self) -> tuple[AttackResult, ...]:
        """The results whose budgets are claimed."""
        return tuple(result for result in self.results if result.claimed)

    @property
    def counted(self) -> tuple[AttackResult, ...]:
        """What the robust accuracy is made of: claims about a budget; those at any distance only where all are."""
        return tuple(result for result in self.claims if result.budget is not None) or self.claims

    @property
    def budgets(self) -> tuple[Geometry, ...]:
        """The largest budgets that are claimed, of each kind."""
        return outermost(result.budget for result in self.claims)

    def logits(self, x: Images, batch: int = 64) -> Logits:
        """Logits, in evaluation mode, the model left as it was."""
        with preserve_state(self.model), torch.no_grad():
            return torch.cat([self._answers(part) for part in x.split(batch)])

    def passes(self, count: int) -> list[Logits]:
        """Logits of the chosen images, several times; draws go on from pass to pass."""
        with preserve_state(self.model), torch.no_grad():
            return [self._answers(self.images) for _ in range(count)]

    def _answers(self, x: Images) -> Logits:
        """Logits; where memory runs out, of one half after the other."""
        part = x.to(self.device, model_dtype(self.model))
        result: Logits | None
        result, failure = attempt(lambda: classify(self.model, part).float(), is_out_of_memory)
        if result is not None:
            return result
        if len(x) < 2 and failure is not None:
            raise failure
        return torch.cat([self._answers(half) for half in x.chunk(2)])

    @property
    def is_adapted(self) -> bool:
        """Whether every attack knew of the defence."""
        return all(result.adapted for result in self.results)

    def fools(self, index: Tensor, images: Images, target: Tensor | None = None, batch: int = 64) -> Tensor:
        """Whether images are a success on the samples that they belong to: wrong, and accepted by a detector.

        Args:
            index: the samples, ``(m,)``.
            images: one for each.
            target: the class that each is to get, or -1 for any other.
            batch: images a pass.
        """
        logits = self.logits(images, batch).cpu()
        predicted = logits.argmax(1)
        is_adversarial = predicted != self.y[index]
        if target is not None:
            is_adversarial = torch.where(target < 0, is_adversarial, predicted == target)
        test = self.adaptation.test if self.adaptation is not None else None
        fooled: Tensor = is_adversarial if test is None else is_adversarial & test(logits, images.cpu())
        return fooled

    @cached_property
    def is_random(self) -> bool:
        """Whether answers change from pass to pass."""
        with seeded(self.seed, {self.device}):
            first, *more = self.passes(3)
        return any(not torch.allclose(z, first, rtol=1e-4, atol=1e-6, equal_nan=True) for z in more)

    def survivors(self, among: Tensor | None = None, budget: Geometry | None = None) -> Tensor:
        """Indices of samples that every attack left unbroken.

        Args:
            among: of these; of the chosen ones by default.
            budget: only attacks count whose budget lies within this one; by default all that the robust accuracy is
                made of.
        """
        index = self.chosen if among is None else among
        counted = self.counted if budget is None else [r for r in self.claims if within(r.budget, budget)]
        if not counted:
            return index
        standing = torch.stack([result.outcome.status[index] == int(Status.SURVIVED) for result in counted]).all(0)
        return index[standing]

    def likeliest(self, among: Tensor, most: int) -> Tensor:
        """At most so many of some samples: half of them those nearest to the boundary, half spread over the others.

        Args:
            among: indices of samples.
            most: how many to take.
        """
        if len(among) <= most:
            return among
        margins = torch.stack([result.outcome.margin[among] for result in self.counted or self.claims])
        nearest = margins.nan_to_num(-torch.inf).amax(0).argsort(descending=True, stable=True)
        near, others = nearest[: most // 2], nearest[most // 2 :].sort().values
        spread = others[torch.linspace(0, len(others) - 1, most - len(near)).round().long()]
        return among[torch.cat((near, spread)).sort().values]


def _wanders(model: nn.Module, images: Images) -> float:
    """How much answers change from pass to pass, as a part of the spread of an answer."""
    with preserve_state(model), torch.no_grad():
        passes = torch.stack([classify(model, images.to(model_dtype(model))).float() for _ in range(4)])
    return float(passes.std(0).mean() / passes.mean(0).std(1).mean().clamp_min(1e-9))
