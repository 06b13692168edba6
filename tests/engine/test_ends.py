"""How rows end: at a limit on passes, at an interrupt, after a refinement, with a model that raises late."""

import pytest
import torch
from torch import nn

import assay
from assay.attacks import Refine
from assay.core.combinators import Cascade, Restarts, Then
from assay.core.outcome import Status

STEPS, STEP = 6, 0.02


def by_mean(x):
    """Class 0 iff the mean is above 0.3; every step of an attack lowers it by its size."""
    mean = x.mean((1, 2, 3))
    return torch.stack([mean - 0.3, 0.3 - mean], 1)


class Linear(nn.Module):
    def forward(self, x):
        return by_mean(x)


def flat(mean):
    return torch.full((1, 1, 8, 8), mean)


def labels(x):
    return torch.zeros(len(x), dtype=torch.int64)


def pgd():
    return assay.PGD(0.5, steps=STEPS, step_size=STEP, random_start=False)


@pytest.mark.parametrize("limit", [STEPS, STEPS + 1, None])
def test_what_the_last_step_has_reached_counts_where_the_limit_pays_for_it(limit):
    x = flat(0.3 + (STEPS - 0.5) * STEP)
    outcome = assay.attack(Linear(), x, labels(x), pgd(), max_forwards=limit, preflight=False)
    assert outcome.status.tolist() == [Status.BROKEN]
    assert outcome.forwards.tolist() == [STEPS]


def test_one_step_with_one_pass_is_one_step():
    x = flat(0.35)
    outcome = assay.attack(Linear(), x, labels(x), assay.FGSM(0.1), max_forwards=1, preflight=False)
    assert outcome.status.tolist() == [Status.BROKEN]


@pytest.mark.parametrize("slots", [1, 2, 3, 8])
def test_a_row_that_cannot_pay_takes_nothing_from_the_others(slots):
    x = torch.cat([flat(0.9), flat(0.3 + 1.5 * STEP), flat(0.3 + (STEPS - 0.5) * STEP)])
    attack = Restarts(pgd(), 2)
    outcome = assay.attack(Linear(), x, labels(x), attack, slots=slots, max_forwards=STEPS + 3, preflight=False)
    assert outcome.status.tolist() == [Status.SURVIVED, Status.BROKEN, Status.BROKEN]
    assert outcome.forwards.tolist() == [STEPS + 3, 3, STEPS]


def test_what_a_row_may_not_ask_about_is_not_measured_for_it():
    """Five passes bring it to the brink, a sixth image would be over it: not one of those that it has seen."""
    x = flat(0.3 + (STEPS - 1.5) * STEP)
    outcome = assay.attack(Linear(), x, labels(x), pgd(), max_forwards=STEPS - 1, preflight=False)
    assert outcome.status.tolist() == [Status.SURVIVED]
    assert by_mean(outcome.images).argmax(1).tolist() == [0]


@pytest.mark.parametrize("slots", [1, 2, 3, None])
def test_a_limit_and_a_model_that_raises_on_some(slots):
    def model(x):
        if bool(((x.flatten(1).std(1) > 0.01) & (x.mean((1, 2, 3)) < 0.6)).any()):
            raise ValueError("bad image")
        return by_mean(x)

    odd = torch.zeros(1, 1, 8, 8)
    odd[:, :, ::2], odd[:, :, 1::2] = 0.05, -0.05
    x = torch.cat([flat(0.6401) + odd, flat(0.9), flat(0.3533), flat(0.3845), flat(0.6534) + odd])
    settings = {"slots": slots, "max_forwards": 8, "errors": "record", "preflight": False}
    outcome = assay.attack(model, x, labels(x), Restarts(pgd(), 2), **settings)
    assert outcome.status.tolist() == [4, 2, 1, 1, 4]


class Interrupted:
    """A model that is interrupted at one of its calls."""

    def __init__(self, at=None):
        self.at, self.calls = at, 0

    def __call__(self, x):
        self.calls += 1
        if self.at is not None and self.calls >= self.at:
            raise KeyboardInterrupt
        z = x.flatten(1).mean(1)
        return torch.stack([torch.zeros(len(x)), z - 0.62], 1)


def test_what_could_not_be_attacked_has_not_survived_an_interrupt():
    x = torch.cat([flat(0.3), flat(0.31)])
    start = torch.cat([flat(0.3), flat(0.9)])  # the first one has none
    attack = assay.HopSkipJump(steps=3, eps=3.0, starts=3, queries=500)
    whole = Interrupted()
    outcome = assay.attack(whole, x, labels(x), attack, start=start, slots=1, preflight=False)
    assert outcome.status.tolist() == [Status.NOT_RUN, Status.BROKEN]
    for call in range(4, whole.calls, 3):
        outcome = assay.attack(Interrupted(call), x, labels(x), attack, start=start, slots=1, preflight=False)
        assert outcome.status[0] == Status.NOT_RUN


def test_a_start_is_there_after_a_stage_that_refines():
    x = torch.cat([flat(0.3), flat(0.31)])
    search = assay.HopSkipJump(steps=2, queries=200, starts=3)
    refined = Then(assay.PGD(0.01, steps=2), Refine(steps=2))
    alone = assay.attack(Interrupted(), x, labels(x), search, start=torch.full_like(x, 0.9), preflight=False)
    after = assay.attack(
        Interrupted(), x, labels(x), Cascade((refined, search)), start=torch.full_like(x, 0.9), preflight=False
    )
    assert alone.status.tolist() == after.status.tolist() == [Status.BROKEN] * 2


@pytest.mark.parametrize("slots", [1, 3, 5, 12])
@pytest.mark.parametrize("attack", [assay.PGD(0.08, steps=6), assay.Square(0.08, queries=20)], ids=["pgd", "square"])
def test_a_class_that_is_masked_on_attacked_images_alone(attack, slots):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))

    def masked(x):
        hidden = (x[:, 0, 0, 0] > 0.55)[:, None] & (torch.arange(4) == 3)
        return net(x).masked_fill(hidden, -torch.inf)

    x = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    x[:, 0, 0, 0] = 0.5
    y = masked(x).argmax(1)
    x, y = x[y != 3], y[y != 3]
    outcome = assay.attack(masked, x, y, attack, slots=slots, preflight=False)
    assert not outcome.count(Status.INVALID)


def test_a_hit_that_was_measured_is_kept_when_the_model_raises_later():
    class Late:
        def __init__(self):
            self.calls = 0

        def __call__(self, x):
            self.calls += 1
            if self.calls > 5:
                raise ValueError("late")
            return by_mean(x)

    x = flat(0.31)
    settings = {"stop": "never", "errors": "record", "preflight": False}
    outcome = assay.attack(Late(), x, labels(x), pgd(), **settings)
    assert outcome.status.tolist() == [Status.ERROR]  # also the referee's look at it raises
    assert "late" in outcome.errors[0]

    class Once(Late):
        def __call__(self, x):
            self.calls += 1
            if self.calls == 6:
                raise ValueError("once")
            return by_mean(x)

    outcome = assay.attack(Once(), x, labels(x), pgd(), **settings)
    assert outcome.status.tolist() == [Status.BROKEN]
    assert not outcome.errors


def test_referees_looks_do_not_depend_on_slots():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))
    x = torch.rand(20, 1, 8, 8)
    y = net(x).argmax(1)
    for attack in (assay.FMN(steps=6, norm="l2"), assay.DDN(steps=6), Then(assay.SigmaZero(steps=8), Refine(steps=5))):
        looks = [
            assay.attack(net, x, y, attack, slots=s, preflight=False, max_forwards=9).checks.tolist() for s in (1, 5)
        ]
        assert looks[0] == looks[1]


def test_the_last_report_of_progress_is_the_whole():
    x = torch.cat([flat(0.31), flat(0.9)])
    for attack in (pgd(), Then(pgd(), Refine(steps=2)), Cascade((pgd(), pgd()))):
        reports = []
        assay.attack(Linear(), x, labels(x), attack, progress=reports.append, preflight=False)
        assert reports[-1].done == 2


def test_targets_are_not_the_callers():
    x, target = flat(0.31), torch.ones(1, dtype=torch.int64)
    outcome = assay.attack(Linear(), x, labels(x), pgd(), target=target, preflight=False)
    outcome.target.fill_(-7)
    assert target.tolist() == [1]
