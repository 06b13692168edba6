"""The rows in flight, and their moves in and out."""

from typing import Any, NamedTuple

import torch

from assay.core.attack import Attack
from assay.core.combinators import MOST, Stage, Variant
from assay.core.oracle import Oracle
from assay.core.rng import Rng, mix
from assay.core.rows import Goal, Rows, split_logit, towards, untargeted
from assay.core.types import Count, Flag, Images, Labels, Logits, PerRow
from assay.engine.inputs import Problem


class Active(NamedTuple):
    """Rows in flight; a tree with the rows first, so that they move together.

    Attributes:
        rows: the problem.
        state: the attack's state.
        image: the best candidate so far; None where it is not needed.
        hit: whether it reached the goal.
        cost: its cost.
        sure: the first hit that the referee has measured, where later ones are not measured one by one; else None.
        unstarted: whether the attack could not begin.
        sample: index of the sample; this and all that follow are on the CPU.
        variant: index of the variant in the stage.
        has_hit: whether there is a hit that the referee has measured.
        steps: steps so far.
        forwards: forward passes so far.
        backwards: backward passes so far.
        checks: the referee's passes so far.
        cheats: images so far that reached the goal outside the threat model.
        spent: forward passes of the sample's earlier rows.
        invalid: whether a non-finite value came up.
    """

    rows: Rows
    state: Any
    image: Images | None
    hit: Flag
    cost: PerRow
    sure: Images | None
    unstarted: Flag
    sample: Labels
    variant: Labels
    has_hit: Flag
    steps: Count
    forwards: Count
    backwards: Count
    checks: Count
    cheats: Count
    spent: Count
    invalid: Flag


def admit(
    problem: Problem,
    stage: Stage,
    pairs: list[tuple[int, int]],
    spent: Count,
    oracle: Oracle,
    rng: Rng,
    *,
    tracks: bool,
    keep_sure: bool,
) -> Active:
    """Fresh rows for pairs of sample and variant, on the oracle's device.

    Args:
        problem: all samples.
        stage: the attack and its variants.
        pairs: sample and variant of each new row.
        spent: forward passes that each sample has had, ``(n,)``.
        oracle: where the rows will run.
        rng: random draws.
        tracks: whether to keep the best image.
        keep_sure: whether to keep a measured hit aside.
    """
    device = oracle.device
    sample = torch.tensor([s for s, _ in pairs], dtype=torch.int64)
    variants = [stage.variants[v] for _, v in pairs]
    rows = make_rows(problem, sample, variants, stage.attack, device)
    no = torch.zeros(len(pairs), dtype=torch.bool)
    none = torch.zeros(len(pairs), dtype=torch.int64)
    return Active(
        rows=rows,
        state=stage.attack.init(rows, rng),
        image=rows.x if tracks else None,
        hit=no.to(device),
        cost=torch.full((len(pairs),), torch.inf, dtype=rows.x.dtype, device=device),
        sure=rows.x if keep_sure else None,
        unstarted=no.to(device),
        sample=sample,
        variant=torch.tensor([v for _, v in pairs], dtype=torch.int64),
        has_hit=no,
        steps=none,
        forwards=none,
        backwards=none,
        checks=none,
        cheats=none,
        spent=spent[sample],
        invalid=no,
    )


def make_rows(
    problem: Problem, sample: Labels, variants: list[Variant], attack: Attack[Any], device: torch.device
) -> Rows:
    """Rows for samples under variants."""
    needs = attack.needs
    restart = torch.tensor([v.restart for v in variants], dtype=torch.int64)
    rank = torch.tensor([v.rank for v in variants], dtype=torch.int64)
    goal = _goal(problem, sample, rank)
    goal = Goal(
        goal.label.to(device), goal.aim.to(device), goal.strict.to(device), problem.goal.tests, _kind(problem, variants)
    )
    attempt = restart + rank * MOST  # each target draws anew, as each restart does
    keys = problem.keys[sample]
    whole = torch.equal(sample, torch.arange(len(problem.x)))  # then the rows share the problem's images
    for salt in sorted({*attempt.tolist()}):
        keys = torch.where(attempt == salt, mix(problem.keys[sample], salt), keys)
    return Rows(
        x=(problem.x if whole else problem.x[sample]).to(device),
        goal=goal,
        key=keys.to(device),
        mask=problem.mask[sample].to(device) if problem.mask is not None and "mask" in needs else None,
        reference=problem.reference[sample].to(device) if "reference" in needs else None,
        attempt=restart.to(device),
        start=problem.start[sample].to(device) if problem.start is not None and "start" in needs else None,
    )


def variants_of(stage: Stage, reference: Logits) -> tuple[int, ...]:
    """Indices of the variants that exist for clean logits ``(n, k)``: no more targets than wrong classes."""
    return tuple(i for i, v in enumerate(stage.variants) if v.rank < reference.shape[1])


def _kind(problem: Problem, variants: list[Variant]) -> str:
    """What the goals of all rows of a stage have in common: its variants all have a target, or none has."""
    strict = problem.goal.strict
    if bool(strict.any()):
        return "exact" if bool(strict.all()) else "mixed"
    return "towards" if variants and variants[0].rank else "away"


def _goal(problem: Problem, sample: Labels, rank: Labels) -> Goal:
    """The sample's own goal, or the rank-th most likely wrong class as an aim."""
    y, target = problem.y[sample], problem.target[sample]
    plain, strict = untargeted(y), problem.goal.strict[sample]
    if bool(strict.any()):
        plain = Goal(y, target, strict)
    if not bool((rank > 0).any()):
        return plain
    _, others = split_logit(problem.reference[sample], y)
    order = others.argsort(dim=1, descending=True, stable=True)
    aim = order.gather(1, (rank - 1).clamp_min(0)[:, None]).squeeze(1)
    aimed = towards(y, aim)
    ranked = (rank > 0) & ~strict
    return Goal(y, torch.where(ranked, aimed.aim, plain.aim), plain.strict)
