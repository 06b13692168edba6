"""What the signatures of a study cost: attacks that make the examples, and the training of recognisers."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from assay.core.combinators import AnyAttack
from assay.core.passes import Passes
from assay.signatures.examples import Examples
from assay.signatures.losses import Helpers
from assay.signatures.plan import SCENARIOS, Plan
from assay.signatures.settings import Setting, settings
from assay.signatures.training import train_recogniser
from assay.study.images import stand_in
from assay.study.pace import Pace
from assay.study.plan import StudyPlan, UntrainedModel

SignatureCost = tuple[str, str, float, float]
"""What is done, the name of the data, passes and seconds."""


def signature_costs(
    plan: StudyPlan, price: Callable[[AnyAttack, str], Passes | None], pace: Callable[[UntrainedModel, str], Pace]
) -> Iterator[SignatureCost]:
    """Attacks by kind, then the training of each column's recogniser.

    Args:
        plan: a study with signatures.
        price: what all steps of an attack on an image cost.
        pace: how fast a network is.
    """
    section = plan.config.signatures
    if section is None:
        return
    data = section.data or next(iter(plan.config.data))
    planned = plan.datasets[data]
    images = _count(plan, data, "train", section.limit) + _count(plan, data, "test", section.test_limit)
    grid = settings(min(planned.shape[1:]), section.grid(), section.kinds)
    victims = [plan.described[name, data] for name in section.victims]
    for kind in section.kinds:
        own = [setting for setting in grid if setting.kind == kind]
        passes, seconds = _of_kind(own, victims, images, data, price, pace)
        yield f"attacks by {kind}", data, passes, seconds
    examples = _count(plan, data, "train", section.limit) * (1 + len(section.kinds))
    for column in section.columns:
        own_plan = replace(section.plan(), **SCENARIOS[column])  # type: ignore[arg-type]
        per_example = _seconds_of_a_step(plan, data, victims, own_plan, len(section.kinds) + 1)
        count = float(examples * own_plan.epochs)
        yield f"recogniser of {column}", data, count, count * per_example


def _count(plan: StudyPlan, data: str, split: str, limit: int) -> int:
    source = plan.config.data[data]
    return limit if source.expects is None else len(stand_in(source, split, limit=limit))


def _of_kind(
    own: list[Setting],
    victims: list[UntrainedModel],
    images: int,
    data: str,
    price: Callable[[AnyAttack, str], Passes | None],
    pace: Callable[[UntrainedModel, str], Pace],
) -> tuple[float, float]:
    """Passes and seconds of a kind, whose settings share the images among them and the victims."""
    total, seconds = 0.0, 0.0
    for setting in own:
        each = price(setting.attack, data)
        if each is None:
            return math.nan, math.nan
        for victim in victims:
            passes = images / (len(own) * len(victims)) * each
            total, seconds = total + passes.total, seconds + pace(victim, data).seconds(passes)
    return total, seconds


def _seconds_of_a_step(plan: StudyPlan, data: str, victims: list[UntrainedModel], own_plan: Plan, kinds: int) -> float:
    """Seconds of an example and epoch, by training on two batches of black images."""
    count, shape = 2 * own_plan.batch, plan.datasets[data].shape
    images = torch.zeros(count, *shape, dtype=torch.uint8)
    zero = torch.zeros(count, dtype=torch.int64)
    names = tuple(f"kind {i}" for i in range(kinds))
    examples = Examples(images, images, torch.arange(count) % kinds, zero, zero, zero, zero > 0, names, (), ())
    helpers = Helpers(victims[0].network, victims[-1].network)
    short = replace(own_plan, epochs=1, warmup=0)
    began = time.perf_counter()
    train_recogniser(examples, short, helpers, device=plan.settings.device)
    return (time.perf_counter() - began) / count
