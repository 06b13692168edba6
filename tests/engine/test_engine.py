"""The engine: what it drops, refills, splits, refuses and counts."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

import assay
from assay import PGD, Ball, Cascade, Expectation, Restarts, Split, Status
from assay.core.attack import Step
from assay.core.traits import Traits
from assay.engine.referee import Record
from models_for_tests import Counting, Linear, images, masks, mlp, predicted

N = 40
EPS = 0.03


def problem(n=N):
    model, x = mlp(), images(n)
    return model, x, predicted(model, x)


def test_rows_leave_when_they_are_solved_and_slots_are_filled():
    model, x, y = problem()
    counter = Counting(model)
    outcome = assay.attack(counter, x, y, PGD(EPS, steps=20), slots=8, preflight=False)
    full = assay.attack(model, x, y, PGD(EPS, steps=20), slots=8, stop="never", preflight=False)
    assert max(counter.sizes) == 8
    assert (outcome.robust == full.robust).all()
    assert outcome.backwards.sum() < 0.8 * full.backwards.sum()


def test_misclassified_samples_are_not_attacked():
    model, x, y = problem()
    y = y.clone()
    y[:5] = (y[:5] + 1) % 4
    outcome = assay.attack(model, x, y, PGD(EPS, steps=3))
    assert (outcome.status[:5] == int(Status.MISCLASSIFIED)).all()
    assert (outcome.forwards[:5] == 0).all()
    assert torch.equal(outcome.images[:5], x[:5])


@pytest.mark.parametrize("most", [1, 3, 16])
def test_out_of_memory_splits_rows_and_changes_nothing(most):
    model, x, y = problem()

    class Small(nn.Module):
        def forward(self, z):
            if len(z) > most:
                raise torch.OutOfMemoryError("CUDA out of memory (planted)")
            return model(z)

    attack = PGD(EPS, steps=5)
    outcome = assay.attack(Small(), x, y, attack, slots=32, preflight=False)
    expected = assay.attack(model, x, y, attack, slots=32)
    assert torch.equal(outcome.status, expected.status)
    assert torch.equal(outcome.forwards, expected.forwards)
    assert any("out of memory" in event for event in outcome.events)


def test_out_of_memory_with_one_row_is_an_error():
    _, x, y = problem()

    class Never(nn.Module):
        def forward(self, z):
            raise torch.OutOfMemoryError("CUDA out of memory (planted)")

    with pytest.raises(torch.OutOfMemoryError):
        assay.attack(Never(), x, y, PGD(EPS, steps=2), preflight=False)


def test_other_errors_are_raised_or_recorded_to_the_very_sample():
    model, x, y = problem()

    class Touchy(nn.Module):
        """Fails on one image at once, on another only when it has been changed."""

        def forward(self, z):
            nearest = torch.cdist(z.flatten(1), x.flatten(1)).argmin(1)
            moved = (z - x[nearest]).flatten(1).abs().amax(1) > 0
            if bool(((nearest == 3) | ((nearest == 7) & moved)).any()):
                raise RuntimeError("touchy")
            return model(z)

    attack = PGD(EPS, steps=4)
    with pytest.raises(RuntimeError, match="touchy"):
        assay.attack(Touchy(), x, y, attack, preflight=False)
    outcome = assay.attack(Touchy(), x, y, attack, errors="record", slots=16, preflight=False)
    assert outcome.status[[3, 7]].tolist() == [int(Status.ERROR)] * 2
    assert set(outcome.errors) == {3, 7}
    assert "touchy" in outcome.errors[3]
    others = [i for i in range(N) if i not in (3, 7)]
    clean = assay.attack(model, x, y, attack)
    assert torch.equal(outcome.status[others], clean.status[others])


@dataclass(frozen=True)
class Liar:
    """Claims success for an image outside its budget, or for one that is not adversarial."""

    factor: float
    needs: tuple[str, ...] = ()

    @property
    def traits(self):
        return Traits(steps=1)

    @property
    def geometry(self):
        return Ball("linf", EPS)

    def vary(self, *, effort=1, step_size=1, geometry=None, objective=None):
        return None

    def init(self, rows, rng):
        return torch.zeros(len(rows))

    def step(self, rows, state, oracle, rng):
        away = oracle.evaluate(assay.CrossEntropy(), rows.x, rows).grad.sign()
        image = (rows.x + self.factor * away).clamp(0, 1)
        yes = torch.ones(len(rows), dtype=torch.bool)
        return Step(state, image, yes, torch.zeros(len(rows)), yes)

    def describe(self):
        return "liar"


def test_a_lie_about_success_is_caught():
    model, x, y = problem()
    outcome = assay.attack(model, x, y, Liar(0.0))
    assert outcome.count(Status.BROKEN) == 0
    assert outcome.count(Status.SURVIVED) == N


def test_a_lie_about_the_budget_is_caught():
    model, x, y = problem()
    outcome = assay.attack(model, x, y, Liar(0.5))
    assert outcome.count(Status.BROKEN) == 0
    assert any("outside the threat model" in event for event in outcome.events)


def test_budget_of_forward_passes_is_kept():
    model, x, y = problem()
    for limit in (1, 3, 7):
        outcome = assay.attack(model, x, y, Restarts(PGD(1e-6, steps=5), 3), max_forwards=limit)
        assert (outcome.forwards <= limit).all()
        assert (outcome.forwards == limit).all()


@pytest.mark.parametrize("at", [1, 4, 9])
def test_interrupt_returns_what_is_done_and_the_rest_can_be_completed(at):
    model, x, y = problem()
    outcome = assay.attack(
        Counting(model, fail_at=at, error=KeyboardInterrupt()), x, y, PGD(EPS, steps=10), slots=8, preflight=False
    )
    left = (outcome.status == int(Status.NOT_RUN)).nonzero().squeeze(1)
    assert 0 < len(left) <= N
    assert outcome.events == ("interrupted",)
    rest = assay.attack(model, x[left], y[left], PGD(EPS, steps=10), slots=8)
    whole = outcome.merge(rest, left)
    assert torch.equal(whole.status, assay.attack(model, x, y, PGD(EPS, steps=10)).status)


@pytest.mark.parametrize(
    "attack",
    [
        assay.attacks.DDN(steps=8),
        Restarts(assay.attacks.DDN(steps=5), 3),
        Restarts(PGD(EPS / 4, steps=10), 3),
        Cascade((assay.FGSM(EPS / 2), PGD(EPS, steps=10))),
    ],
    ids=lambda attack: attack.describe(),
)
def test_of_an_interrupted_sample_nothing_stays(attack):
    """Wherever Ctrl-C comes, each sample is as a whole run leaves it or not run at all: no half of it is kept."""
    model, x, y = problem()
    counted = Counting(model)
    whole = assay.attack(counted, x, y, attack, slots=8, preflight=False)
    blank = assay.attack(Counting(model, fail_at=1, error=KeyboardInterrupt()), x, y, attack, preflight=False)
    assert blank.count(Status.NOT_RUN) == N
    seen = set()
    for at in range(2, counted.calls, max(1, counted.calls // 15)):
        part = assay.attack(
            Counting(model, fail_at=at, error=KeyboardInterrupt()), x, y, attack, slots=8, preflight=False
        )
        left = part.status == int(Status.NOT_RUN)
        seen.add(int(left.sum()))
        for mine, theirs, none in zip(part.frame(), whole.frame(), blank.frame(), strict=True):
            expected = none if mine["status"] == "not run" else theirs
            for name in ("status", "steps", "forwards", "backwards", "restart", "broken_by"):
                assert mine[name] == expected[name], (at, name)
    assert len(seen) > 3


def test_an_interrupt_between_a_result_and_its_account_keeps_neither(monkeypatch):
    model, x, y = problem()
    whole = assay.attack(model, x, y, PGD(EPS, steps=10), slots=8)
    spend, calls = Record.spend, []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        spend(self, *args)

    monkeypatch.setattr(Record, "spend", interrupted)
    part = assay.attack(model, x, y, PGD(EPS, steps=10), slots=8)
    done = part.status != int(Status.NOT_RUN)
    assert 0 < int(done.sum()) < N
    assert torch.equal(part.forwards, torch.where(done, whole.forwards, 0))
    assert torch.equal(part.status[done], whole.status[done])


def test_cascade_gives_each_attack_only_the_survivors():
    model, x, y = problem()
    first, second = assay.FGSM(EPS), PGD(EPS, steps=10)
    both = assay.attack(model, x, y, Cascade((first, second)))
    alone = [assay.attack(model, x, y, a) for a in (first, second)]
    assert torch.equal(both.robust, alone[0].robust & alone[1].robust)
    assert (both.forwards[~alone[0].robust] == 1).all()
    assert set(both.stage[both.status == int(Status.BROKEN)].tolist()) <= {0, 1}
    assert both.stages == ("FGSM linf 0.03", "PGD-10 linf 0.03")


def test_restart_that_broke_the_sample_is_recorded():
    model, x, y = problem()
    guess = PGD(4 * EPS, steps=0)
    outcome = assay.attack(model, x, y, Restarts(guess, 6))
    broken = outcome.status == int(Status.BROKEN)
    assert (outcome.restart[broken] >= 0).all()
    assert (outcome.restart[~broken] == -1).all()
    assert outcome.restart.max() >= 1
    first = assay.attack(model, x, y, guess)
    assert torch.equal(first.status == int(Status.BROKEN), broken & (outcome.restart == 0))


def test_targets_try_wrong_classes_in_the_order_of_the_logits():
    """Two classes: one target exists, however many are asked for."""
    weight = torch.randn(2, 2, 6, 6)
    model, x = Linear(weight), images(8)
    outcome = assay.attack(model, x, predicted(model, x), assay.APGD(1e-6, steps=3, loss="dlr", targets=9))
    assert (outcome.forwards == 3).all()


def test_every_combination_with_the_split_comes_free():
    """Dual APGD, dual targeted, dual with restarts: nothing but the geometry is said."""
    model, x, y = problem()
    split = Split(Ball("linf", EPS / 3), Ball("linf", EPS))
    for attack in (
        assay.APGD(split, steps=10),
        assay.APGD(split, steps=10, loss="dlr", targets=3),
        assay.MIM(split, steps=10),
        assay.FGSM(split),
        PGD(split, steps=10, restarts=2),
        Restarts(assay.DualPerturbation(EPS / 3, EPS, steps=10), 2),
    ):
        outcome = assay.attack(model, x, y, attack, mask=masks(N))
        assert (outcome.size <= 1 + 5e-5).all()
        assert outcome.count(Status.BROKEN) > 0
        aimed = assay.attack(model, x, y, attack, mask=masks(N), target=(y + 1) % 4)
        hit = aimed.status == int(Status.BROKEN)
        assert torch.equal(aimed.predicted[hit], aimed.target[hit])


def test_dual_with_one_budget_everywhere_is_pgd():
    model, x, y = problem()
    plain = assay.attack(model, x, y, PGD(EPS, steps=10, random_start=False), stop="never")
    dual = assay.DualPerturbation(EPS, EPS, steps=10, random_start=False)
    same = assay.attack(model, x, y, dual, mask=masks(N), stop="never")
    assert torch.allclose(plain.images, same.images, atol=1e-6)


def test_expectation_of_a_smoothed_model_is_independent_of_the_batch():
    base, x, _ = problem()
    for average in ("loss", "logits", "probabilities"):
        model = Expectation(base, 4, sigma=0.1, average=average)
        y = predicted(model, x)
        attack = PGD(EPS, steps=3)
        whole = assay.attack(model, x, y, attack, slots=40)
        parts = assay.attack(model, x, y, attack, slots=3)
        assert torch.equal(whole.status, parts.status)
        survived = whole.robust
        assert (whole.forwards[survived] == 12).all()


def test_expectation_averages_what_it_says():
    """On ⟨w, x⟩ the gradient is w whatever the noise; losses, logits and probabilities average differently."""
    from assay.core.oracle import Oracle
    from assay.core.rows import Rows, untargeted

    weight = torch.randn(3, 1, 2, 2)
    x = torch.rand(2, 1, 2, 2)
    rows = Rows(x, untargeted(torch.tensor([0, 1])), torch.tensor([5, 6]))
    for average in ("loss", "logits"):
        oracle = Oracle(Expectation(Linear(weight), 16, sigma=0.5, average=average))
        oracle.start(2)
        made = oracle.evaluate(assay.Margin(), x, rows)
        assert made.grad.isfinite().all()
        assert (oracle.forwards == 16).all()
    model = Expectation(Linear(weight), 64, sigma=1.0, average="probabilities")
    none = torch.zeros(2, dtype=torch.long)
    noise = model.sample(x, none, none, purpose="prediction")[0]
    expected = torch.stack([Linear(weight)(z).softmax(1) for z in noise]).mean(0)
    assert torch.allclose(model(x).exp(), expected, atol=1e-6)


def test_dual_attack_on_a_smoothed_model_sees_the_score_of_noisy_images():
    """Equation 9 has the foreground score inside the expectation."""
    base, x, _ = problem(8)
    seen = []

    class Spy(nn.Module):
        def forward(self, z):
            seen.append(z.detach().clone())
            return torch.full_like(z[:, :1], 1 / 36) + 0.0 * z[:, :1]

    model = Expectation(base, 3, sigma=0.2)
    attack = assay.DualPerturbation(EPS, 2 * EPS, steps=2, saliency=Spy(), lam=0.5)
    assay.attack(model, x, predicted(model, x), attack, mask=masks(8))
    assert len(seen) % 3 == 0  # three draws at each step
    assert not torch.equal(seen[0], seen[1])


def test_bfloat16_search_is_verified_in_float32():
    model, x, y = problem()
    outcome = assay.attack(model, x, y, PGD(EPS, steps=10), search="bfloat16")
    with torch.no_grad():
        wrong = model(outcome.images).argmax(1) != y
    assert torch.equal(wrong, outcome.status == int(Status.BROKEN))
    exact = assay.attack(model, x, y, PGD(EPS, steps=10))
    assert (outcome.robust != exact.robust).float().mean() <= 0.1


def test_a_condition_beside_the_class():
    model, x, y = problem()
    quiet = assay.attack(model, x, y, PGD(EPS, steps=20), test=lambda z, image: image.flatten(1).mean(1) > 0.5)
    assert (quiet.images[quiet.status == int(Status.BROKEN)].flatten(1).mean(1) > 0.5).all()
    assert quiet.count(Status.BROKEN) < assay.attack(model, x, y, PGD(EPS, steps=20)).count(Status.BROKEN)


def test_progress_ends_at_the_total():
    model, x, y = problem()
    seen = []
    outcome = assay.attack(model, x, y, Restarts(PGD(EPS, steps=3), 2), slots=8, progress=seen.append)
    assert seen[-1].done == seen[-1].total == N
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1].broken == outcome.count(Status.BROKEN)


def test_outcome_accounts_for_every_sample():
    model, x, y = problem()
    outcome = assay.attack(model, x, y, PGD(EPS, steps=5))
    frame = outcome.frame()
    assert len(frame) == N
    assert sum(outcome.counts.values()) == N
    low, high = outcome.interval()
    assert low <= outcome.robust_accuracy <= high
    assert f"n = {N}" in str(outcome)
    assert {r["status"] for r in frame} <= {s.label for s in Status}
    part = outcome.take(torch.tensor([5, 2]))
    assert part.frame()[0]["linf"] == frame[5]["linf"]
    assert replace(outcome, name="x").name == "x"


def test_what_is_refined_stays_in_the_budget_of_what_it_refines():
    """A second attack without a budget of its own cannot leave that of the first."""
    from dataclasses import dataclass

    from assay.core.attack import Step

    @dataclass(frozen=True)
    class Leave:
        geometry = None
        needs = ("start",)
        traits = Traits("none", 1)

        def vary(self, *, effort=1, step_size=1, geometry=None, objective=None):
            return None

        def init(self, rows, rng):
            return torch.zeros(len(rows))

        def step(self, rows, state, oracle, rng):
            far = (rows.x + 3 * (rows.start - rows.x)).clamp(0, 1)
            reached = rows.goal.reached(oracle.logits(far, rows), far)
            return Step(state, far, reached, torch.where(reached, 0.0, torch.inf), torch.ones_like(reached))

        def describe(self):
            return "leave"

    model, x = mlp(), images(24)
    y = predicted(model, x)
    outcome = assay.attack(model, x, y, assay.Then(assay.PGD(0.03, steps=10), Leave()), preflight=False)
    plain = assay.attack(model, x, y, assay.PGD(0.03, steps=10), preflight=False)
    assert (outcome.status == plain.status).all()
    assert (outcome.norm("linf") <= 0.03 * (1 + 5e-5)).all()
    assert any("outside the threat model" in event for event in outcome.events)


def test_refinement_starts_from_what_was_found_and_leaves_the_rest():
    model, x = mlp(), images(24)
    y = predicted(model, x)
    first = assay.attack(model, x, y, assay.SigmaZero(60, eps=1), preflight=False)
    both = assay.attack(model, x, y, assay.Then(assay.SigmaZero(60, eps=1), assay.OnSupport()), preflight=False)
    broken = first.status == int(assay.Status.BROKEN)
    assert 0 < broken.sum() < 24
    assert (both.status == first.status).all()
    assert (both.norm("l0") <= first.norm("l0")).all()
    assert (both.norm("l2") <= first.norm("l2") + 1e-6).all()
    assert both.norm("l2")[broken].mean() < 0.95 * first.norm("l2")[broken].mean()
    assert torch.equal(both.images[~broken], first.images[~broken])
    assert (both.forwards[broken] > first.forwards[broken]).all()
    assert (both.forwards[~broken] == first.forwards[~broken]).all()


def test_a_model_that_raises_on_everything_is_not_blamed_on_the_labels():
    def broken(z):
        raise ValueError("mat1 and mat2 shapes cannot be multiplied")

    x, y = images(4), torch.full((4,), 7)
    outcome = assay.attack(broken, x, y, PGD(0.1), errors="record", preflight=False)
    assert outcome.count(Status.ERROR) == 4
    assert "mat1 and mat2" in outcome.errors[0]


@pytest.mark.parametrize("attack", [PGD(0.1, steps=5), assay.DeepFool(), assay.Square(0.1, queries=30)])
@pytest.mark.parametrize("budget", [2, 3, 7, 20])
def test_a_budget_counts_every_draw_of_a_randomised_model(attack, budget):
    model, x = mlp(), images(12)
    y = predicted(model, x)
    noisy = Expectation(model, draws=3, sigma=0.01)
    outcome = assay.attack(noisy, x, y, attack, max_forwards=budget, preflight=False)
    assert (outcome.forwards <= budget).all()
