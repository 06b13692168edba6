"""Every attack does what it declares, and nothing that it claims is taken on trust."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

import assay
from assay import Restarts, Status
from assay.core.combinators import vary_attacks
from assay.core.geometry import scaled
from assay.core.objective import Objective
from assay.core.rows import untargeted
from assay.parts.unmeasured_set import UnmeasuredSet
from conformance.spying import candidates, plain_parts, same, watch, watched_case
from conformance.table import CASES
from models_for_tests import images, masks, mlp, predicted

every = pytest.mark.parametrize("case", CASES, ids=str)
NORMS = {
    "linf": lambda delta: delta.flatten(1).abs().amax(1),
    "l2": lambda delta: delta.flatten(1).norm(dim=1),
    "l1": lambda delta: delta.flatten(1).abs().sum(1),
    "l0": lambda delta: (delta.flatten(1) != 0).sum(1),
    "pixels": lambda delta: (delta != 0).any(1).flatten(1).sum(1),
}


class Labels(nn.Module):
    """A model that gives the predicted class alone, as a one-hot vector."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return nn.functional.one_hot(self.model(x).argmax(1), 4).to(x) * 10


@dataclass(frozen=True)
class Heard:
    """A loss that notes that it was asked; without ``aims`` it does not look at the target."""

    asked: list
    needs: tuple = ()
    aims: bool = True

    def __call__(self, logits, x, rows):
        self.asked.append(len(x))
        goal = rows.goal if self.aims else untargeted(rows.y)
        return assay.Margin()(logits, x, replace(rows, goal=goal))

    def describe(self):
        return "heard"


@every
def test_it_asks_the_model_for_what_it_declares(case):
    attack = case.make(case.eps)
    access = {part.traits.access for part in plain_parts(attack)}
    outcome, model, _ = watched_case(case)
    assert (int(outcome.backwards.sum()) > 0) == ("gradient" in access)
    if access <= {"labels", "none"}:
        blind, _, _ = watch(attack, model=Labels(model))
        broken = outcome.status == int(Status.BROKEN)
        assert (blind.status == outcome.status).all()
        assert torch.equal(blind.images[broken], outcome.images[broken])
    elif access == {"scores"}:  # at a budget that is not enough for the first images
        scarce = case.make(0.34 * case.eps)
        (_, _, seeing), (_, _, unseeing) = (watch(scarce, model=m, stop="never") for m in (model, Labels(model)))
        assert not same(candidates(seeing[0]), candidates(unseeing[0]))


@every
def test_it_minimises_what_it_declares(case):
    _, _, watched = watched_case(case, stop="never")
    for part in watched:
        norm = part.traits.minimises
        for rows, _, step, _ in part.steps if norm in NORMS else ():
            length = NORMS[norm](step.candidate - rows.x).to(step.costs())
            assert torch.allclose(step.costs()[step.hit], length[step.hit], rtol=1e-4, atol=1e-6)


@every
def test_it_draws_random_numbers_as_it_declares(case):
    """Of two restarts with two seeds."""
    runs = [watch(Restarts(case.make(case.eps), 2), n=4, seed=seed, stop="never")[2] for seed in (0, 1)]
    for first, second in zip(*runs, strict=True):
        if first.steps and second.steps and "start" not in first.needs:
            assert same(candidates(first), candidates(second)) != first.traits.randomised


@every
def test_a_restart_draws_other_numbers(case):
    """Random numbers belong to the row's key: those of a restart are others."""
    if "restart" in case.holes:
        return
    _, _, watched = watch(Restarts(case.make(case.eps), 2), n=4, stop="never")
    for part in watched:
        if not part.traits.randomised or "start" in part.needs or not part.steps:
            continue
        keys = {int(key) for rows, *_ in part.steps for key in rows.key}
        images = candidates(part)
        ways = {}
        for key in keys:
            rows = next(rows for rows, *_ in part.steps if key in rows.key.tolist())
            clean = rows.x[rows.key.tolist().index(key)]
            way = [images[at] for at in sorted(images) if at[0] == key]
            ways.setdefault(clean.numpy().tobytes(), []).append(torch.stack(way))
        for first, *others in ways.values():
            assert all(len(first) != len(other) or not torch.equal(first, other) for other in others)


@every
def test_a_step_leaves_the_state_that_it_got(case):
    """The two functions are pure: the engine may keep a state, or split a batch and run a part again."""
    for stop in ("hit", "never"):
        _, _, watched = watched_case(case, stop=stop)
        assert all(all(part.unchanged) for part in watched)


@every
def test_its_steps_cost_what_it_declares(case):
    _, _, watched = watched_case(case, "tiny")
    for part in watched:
        taken, spent = {}, {}
        for rows, price, step, forwards in part.steps:
            assert (forwards == part.traits.price).all() if price is None else (forwards <= price).all()
            for key, passes in zip(rows.key.tolist(), forwards.tolist(), strict=True):
                taken[key] = taken.get(key, 0) + 1
                spent[key] = spent.get(key, 0) + passes
            assert len(step.hit) == len(rows)
        if part.traits.steps is not None and taken:
            assert max(taken.values()) <= max(part.traits.steps, 1)
        if part.traits.passes is not None and spent:
            assert max(spent.values()) <= part.traits.passes


@every
def test_twice_the_effort_costs_twice(case):
    attack = case.make(case.eps if "zero" in case.holes else 1e-7)
    twice = vary_attacks(attack, lambda part: part.vary(effort=2))
    if twice is None:
        assert all(part.traits.steps is None for part in plain_parts(attack))
        return
    for part in plain_parts(attack):
        more = part.vary(effort=2)
        if more is not None and part.traits.steps is not None:
            assert 1.5 <= more.traits.steps / part.traits.steps <= 2.5
    once, _, watched = watched_case(case, "tiny")
    again, _, _ = watch(twice)
    whole = all(len(part.steps) == part.traits.steps for part in watched)  # none of them ends by itself
    assert again.forwards.sum() >= (1.3 if whole else 1) * once.forwards.sum()


@every
def test_another_step_size_leads_elsewhere(case):
    attack = case.make(case.eps)
    half = vary_attacks(attack, lambda part: part.vary(step_size=0.5))
    if half is not None:
        (once, _, first), (again, _, second) = watched_case(case), watch(half)
        images_differ = not torch.equal(once.images, again.images)
        assert images_differ or not all(same(candidates(a), candidates(b)) for a, b in zip(first, second, strict=True))


@every
def test_another_budget_is_used(case):
    """An attack within a set can be had within twice the set, and goes beyond the first one."""
    for part in plain_parts(case.make(case.eps)):
        if part.geometry is None or "start" in part.needs:
            continue
        wide = scaled(part.geometry, 2)
        assert wide is not None
        wider = part.vary(geometry=wide)
        assert wider is not None
        assert wider.geometry == wide
        outcome, _, _ = watch(wider, n=24, stop="never")
        if isinstance(wide, UnmeasuredSet):
            assert not torch.equal(outcome.images, watch(part, n=24, stop="never")[0].images)
            continue
        rows = rows_of(outcome)
        size = part.geometry.size(outcome.images - outcome.clean, rows)
        assert (size > 1.001).any() or part.traits.minimises is not None  # which ends as near as it can
        assert (wide.size(outcome.images - outcome.clean, rows) <= 1 + 1e-4).all()


def rows_of(outcome):
    from assay.core.rng import content_keys
    from assay.core.rows import Rows, untargeted

    n = len(outcome)
    keys = content_keys(outcome.clean, outcome.y)
    return Rows(outcome.clean, untargeted(outcome.y), keys, masks(n).to(outcome.clean))


@every
def test_another_loss_is_used(case):
    asked = []
    heard = Objective(((1.0, Heard(asked)),))
    other = vary_attacks(case.make(case.eps), lambda part: part.vary(objective=heard))
    if other is not None:
        watch(other)
        assert asked


@every
def test_a_claimed_hit_is_a_hit(case):
    """Of every image that an attack calls adversarial the model says so, too, and it is inside the budget."""
    _, model, watched = watched_case(case, stop="never")
    for part in watched:
        for rows, _, step, _ in part.steps:
            if not bool(step.hit.any()):
                continue
            with torch.no_grad():
                logits = model(step.candidate)
            rest = logits.scatter(1, rows.y[:, None], -torch.inf).amax(1)
            margin = rest - logits.gather(1, rows.y[:, None]).squeeze(1)
            assert (margin[step.hit] >= -1e-5).all()
            if part.geometry is not None and not isinstance(part.geometry, UnmeasuredSet):
                size = part.geometry.size(step.candidate - rows.x, rows)
                assert (size[step.hit] <= 1 + 5e-5).all()


@every
def test_no_hit_is_kept_secret(case):
    """Of every image that the model takes for another class, inside the budget, the attack says so: it ends there."""
    _, model, watched = watched_case(case, stop="never")
    for part in watched:
        if part.geometry is None or isinstance(part.geometry, UnmeasuredSet) or part.needs == ("start",):
            continue
        for rows, _, step, _ in part.steps:
            with torch.no_grad():
                logits = model(step.candidate)
            rest = logits.scatter(1, rows.y[:, None], -torch.inf).amax(1)
            clear = rest - logits.gather(1, rows.y[:, None]).squeeze(1) > 1e-4
            inside = part.geometry.size(step.candidate - rows.x, rows) <= 1 + 1e-5  # rounding at the edge
            assert (step.hit | ~clear | ~inside).all()


@every
def test_the_cost_of_a_miss_says_how_near_it_was(case):
    """The engine keeps what costs least: over all rows that is nearer to another class than what costs most."""
    _, model, watched = watched_case(case, stop="never")
    for part in watched:
        costs, margins = {}, {}
        for rows, _, step, _ in part.steps:
            with torch.no_grad():
                logits = model(step.candidate)
            rest = logits.scatter(1, rows.y[:, None], -torch.inf).amax(1)
            margin = rest - logits.gather(1, rows.y[:, None]).squeeze(1)
            for key, cost, value, hit in zip(
                rows.key.tolist(), step.costs().tolist(), margin.tolist(), step.hit, strict=True
            ):
                if not hit and abs(cost) != float("inf"):
                    costs.setdefault(key, []).append(cost)
                    margins.setdefault(key, []).append(value)
        many = [key for key in costs if len(costs[key]) > 1 and min(costs[key]) < max(costs[key])]
        least = [margins[key][costs[key].index(min(costs[key]))] for key in many]
        most = [margins[key][costs[key].index(max(costs[key]))] for key in many]
        assert "near" in case.holes or len(many) < 4 or sum(least) >= sum(most) - 1e-4


SCORES = [
    case
    for case in CASES
    if case.norm in ("linf", "l2") and plain_parts(case.make(case.eps))[0].traits.access == "scores"
]


@pytest.mark.parametrize("case", SCORES, ids=str)
def test_scores_are_used_to_come_nearer(case):
    """More is broken than by as many random images of the same size, with a target, too."""
    model, x, mask = mlp(), images(64), masks(64)
    y = predicted(model, x)
    attack = vary_attacks(case.make(case.eps), lambda part: part.vary(effort=4))
    given = {"mask": mask, "preflight": False}
    outcome = assay.attack(model, x, y, attack, **given)
    passes = int(assay.attack(model, x, y, attack, stop="never", **given).forwards.max())
    noise = assay.UniformNoise(case.eps, norm=case.norm, draws=min(passes, 400), edge=True)
    random = assay.attack(model, x, y, noise, **given)
    assert outcome.count(Status.BROKEN) > random.count(Status.BROKEN)
    target = (y + 1) % 4
    blind = vary_attacks(attack, lambda part: part.vary(objective=Objective(((1.0, Heard([], aims=False)),))))
    for other in (noise, blind):
        if other is not None:  # an attack with a loss of its own
            aimed, random = (assay.attack(model, x, y, one, target=target, **given) for one in (attack, other))
            assert aimed.count(Status.BROKEN) > random.count(Status.BROKEN)


@every
def test_every_loss_can_be_had(case):
    """Also one that reads the clean prediction: what the attack needs follows from its loss."""
    from assay.parts.losses import KullbackLeibler

    other = vary_attacks(case.make(case.eps), lambda part: part.vary(objective=KullbackLeibler()))
    if other is not None:
        outcome, _, _ = watch(other, n=4)
        assert sum(outcome.counts.values()) == 4


MEASURED = [case for case in CASES if case.gradient and not {"near", "strong"} & {*case.holes} and case.norm != "none"]
"""Attacks by gradients within a set in which one step can be taken: no flow, no colour map."""


@pytest.mark.parametrize("case", MEASURED, ids=str)
def test_it_is_at_least_as_strong_as_one_gradient_step(case):
    """With eight times the few steps of the table, so that a random start is made up for."""
    attack = case.make(case.eps)
    more = vary_attacks(attack, lambda part: part.vary(effort=8))
    geometry = next(part.geometry for part in plain_parts(attack) if part.geometry is not None)
    model, x, mask = mlp(), images(64), masks(64)
    y = predicted(model, x)
    given = {"mask": mask, "preflight": False}
    step = assay.attack(model, x, y, assay.FGSM(geometry), **given)
    outcome = assay.attack(model, x, y, attack if more is None else more, **given)
    assert outcome.count(Status.BROKEN) >= step.count(Status.BROKEN)


@every
@pytest.mark.parametrize("effort", [0, -3, float("nan"), float("inf"), "2", None], ids=repr)
def test_a_senseless_effort_is_refused(case, effort):
    for part in plain_parts(case.make(case.eps)):
        if part.vary(effort=2) is None:
            continue
        with pytest.raises((TypeError, ValueError), match="effort: expected a"):
            part.vary(effort=effort)


@every
@pytest.mark.parametrize("other", [{"geometry": 0.1}, {"objective": "dlr"}], ids=str)
def test_a_variation_of_a_wrong_kind_gives_no_broken_attack(case, other):
    for part in plain_parts(case.make(case.eps)):
        refused, varied = None, None
        try:
            varied = part.vary(**other)
        except TypeError as error:
            refused = str(error)
        assert varied is None
        assert refused is None or "expected a" in refused


@every
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_another_set_is_declined_or_works(case, norm):
    """No variation gives an attack that fails when it is run."""
    model, x = mlp(), images(4)
    y = predicted(model, x)
    for part in plain_parts(case.make(case.eps)):
        varied = part.vary(geometry=assay.Ball(norm, 0.3))
        if varied is None or "start" in varied.needs:
            continue
        mask = masks(4) if "mask" in varied.needs else None
        outcome = assay.attack(model, x, y, varied, mask=mask, preflight=False, max_forwards=60)
        assert outcome.count(Status.ERROR) == 0
