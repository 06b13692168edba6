"""Properties of attacks by name, and one call that checks all of them."""

import pickle
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from assay.attacks.noise import UniformNoise
from assay.core.attack import Attack
from assay.core.outcome import Outcome, Status
from assay.core.types import NORMS
from assay.engine.api import attack as run_attack
from assay.parts.balls import Ball
from assay.parts.sparse_sets import Support
from assay.testing.attack_case import CLASSES, COUNT, AttackCase, ConformanceError, fail

_ROUNDING = 1e-4
_ORDERS: Mapping[str, float] = MappingProxyType({"linf": torch.inf, "l2": 2, "l1": 1, "l0": 0})


def check_attack(
    make: Callable[[float], Attack[Any]], *, norm: str | None = "linf", eps: float = 0.03, skip: Collection[str] = ()
) -> None:
    """Hold an attack to the properties that every attack of assay has.

    Args:
        make: makes the attack from its budget, such as ``lambda eps: MyAttack(eps, steps=10)``; few steps will do.
        norm: of the budget, ``"linf"``, ``"l2"``, ``"l1"`` or ``"l0"``; None for a budget of another kind.
        eps: a budget at which some images of a small network with two channels of 6 × 6 values break, and others not.
        skip: names of `PROPERTIES` that do not apply; give the reason beside it.

    Raises:
        ConformanceError: properties that the attack does not have, a line each.

    Example:
        >>> from assay import PGD
        >>> check_attack(lambda eps: PGD(eps, steps=10))
    """
    case, faults = AttackCase(make, norm, eps), []
    for name, has in PROPERTIES.items():
        if name in skip:
            continue
        try:
            has(case)
        except ConformanceError as error:
            faults.append(f"{name}: {error}")
        except Exception as error:  # whatever an attack raises when it is run
            faults.append(f"{name}: {type(error).__name__}: {error}")
    if faults:
        raise ConformanceError("\n".join(faults))


def stays_within_budget_and_box(case: AttackCase) -> None:
    """Every image that the attack claims or leaves behind is finite, in [0, 1], and within the budget."""
    for taken in case.steps():
        for image in (taken.candidate, taken.left):
            if image is None:
                continue
            claimed = image[taken.hit] if image is taken.candidate else image
            clean = case.x[taken.hit] if image is taken.candidate else case.x
            if image.shape != case.x.shape:
                fail(f"an image of shape {tuple(image.shape)} for one of {tuple(case.x.shape)}")
            if len(claimed) and not bool((claimed.isfinite() & (claimed >= 0) & (claimed <= 1)).all()):
                fail("values that are not finite or not in [0, 1]")
            size = _size(claimed - clean, case.norm)
            if case.norm and len(size) and float(size.max()) > case.eps * (1 + _ROUNDING) + 1e-6:
                fail(f"a perturbation of {case.norm} {float(size.max()):.4g} at a budget of {case.eps:.4g}")


def claims_what_it_reaches(case: AttackCase) -> None:
    """A hit is an image that the model misclassifies, and every candidate that it misclassifies is a hit."""
    limit = case.eps * (1 + _ROUNDING)
    for taken in case.steps():
        gap = _margin(case, taken.candidate)
        clear, wrong = gap.abs() > _ROUNDING, gap < 0
        if bool((taken.hit & ~wrong & clear).any()):
            fail("it claims a hit on an image that the model classifies right")
        if bool((wrong & ~taken.hit & clear & (_size(taken.candidate - case.x, case.norm) <= limit)).any()):
            fail("it evaluates an image that the model misclassifies, within the budget, and does not claim it")
    if not _run(case, case.attack).count(Status.BROKEN):
        fail(f"it breaks nothing at a budget of {case.eps:.4g}: choose a larger eps for this test, or it is too weak")


def does_not_depend_on_the_batch(case: AttackCase) -> None:
    """A row gets the same images alone, with one other row, and among all."""
    whole = case.steps()
    for index in (torch.tensor([5]), torch.tensor([17, 2])):
        for together, apart in zip(whole, case.steps(index=index), strict=False):
            off = (together.candidate[index] - apart.candidate).abs().flatten(1).amax(1)
            running = ~together.done[index]
            if bool((off[running] > 1e-3).any()):
                fail(f"rows {index.tolist()} differ by {float(off.max()):.2g} from what they are among {COUNT} rows")


def draws_by_seed(case: AttackCase) -> None:
    """One seed gives one result; another seed, or another row, another one if the attack says that it draws."""
    first, again, other = (case.steps(seed=seed) for seed in (0, 0, 1))
    if not _same(first, again):
        fail("two runs with the same seed differ")
    if case.attack.traits.randomised and _same(first, other):
        fail("traits say that it draws random numbers, but another seed changes nothing (use rng, not torch.rand)")
    twins = case.steps(index=torch.tensor([5, 5]), keys=torch.tensor([1, 2]))
    if case.attack.traits.randomised and all(torch.equal(*taken.candidate) for taken in twins):
        fail("two rows with the same image get the same random numbers (draw them by rows.key)")
    if not case.attack.traits.randomised and not _same(first, other):
        fail("traits say that it draws nothing, but another seed changes the images")


def costs_what_it_declares(case: AttackCase) -> None:
    """No row takes more steps, or passes a step, than its traits say."""
    traits, taken = case.attack.traits, case.steps()
    if traits.steps is not None and len(taken) > max(traits.steps, 1):
        fail(f"it takes {len(taken)} steps, and declares {traits.steps}")
    before = torch.zeros(COUNT, dtype=torch.int64)
    for number, step in enumerate(taken):
        spent = int((step.forwards - before).max())
        if traits.steps is not None and spent > traits.price and not hasattr(case.attack, "price"):
            fail(f"step {number} costs {spent} passes forward, and traits.price is {traits.price}")
        before = step.forwards
    if traits.access != "gradient" and bool(taken[-1].backwards.any()):
        fail(f"it declares access to {traits.access}, and asks for gradients")
    if traits.access == "gradient" and not bool(taken[-1].backwards.any()):
        fail("it declares access to gradients, and asks for none")
    if traits.access == "none" and not _blind(case):
        fail("it declares that it needs nothing from the model, and its images depend on what the model says")


def gets_somewhere(case: AttackCase) -> None:
    """It breaks at least as many images as the same number of random draws, and lowers the margin."""
    outcome = _run(case, case.attack, stop="never")
    start = _margin(case, case.x)
    if not outcome.margin.mean() > -start.mean():
        fail("its images are classified no less surely than the clean ones: does it go uphill?")
    if case.norm in NORMS:
        noise = _run(case, UniformNoise(case.eps, norm=case.norm, draws=5))
        if outcome.count(Status.BROKEN) < noise.count(Status.BROKEN):
            fail(
                f"it breaks {outcome.count(Status.BROKEN)} of {COUNT} images, and five random draws of the same budget "
                f"{noise.count(Status.BROKEN)}"
            )


def is_not_weaker_with_more_effort(case: AttackCase) -> None:
    """`vary` with four times the effort breaks at least as many; with another budget, it has that budget."""
    usual, more = _run(case, case.attack), case.varied(effort=4)
    if more is not None and _run(case, more).count(Status.BROKEN) < usual.count(Status.BROKEN) - 1:
        fail("with four times the effort it breaks fewer images")
    wider = _geometry(case, 3 * case.eps)
    if wider is None:
        return
    varied = case.varied(geometry=wider)
    if varied is None:
        if case.attack.geometry is not None:
            fail("vary(geometry=…) gives None for a larger set of the same kind")
        return
    if case.attack.geometry is not None and varied.geometry != wider:
        fail(f"vary(geometry={wider}) gives an attack with {varied.geometry}")
    if _run(case, varied).count(Status.BROKEN) < usual.count(Status.BROKEN):
        fail("with three times the budget it breaks fewer images")


def reaches_targets(case: AttackCase) -> None:
    """With a target it comes nearer to that class."""
    target = (case.y + 1 + torch.arange(COUNT) % (CLASSES - 1)) % CLASSES
    outcome = run_attack(
        case.model, case.x, case.y, case.attack, target=target, mask=case.mask, stop="never", preflight=False
    )
    with torch.no_grad():
        logits = case.model(case.x)
        moved = case.model(outcome.images)
    before, after = (z.gather(1, target[:, None])[:, 0] - z.logsumexp(1) for z in (logits, moved))
    if not float((after - before).mean()) > 0:
        fail("with a target, its images are no likelier to be of that class than the clean ones")


def breaks_nothing_without_a_budget(case: AttackCase) -> None:
    """With a budget of 0 every image survives."""
    if case.norm is None:
        return
    outcome = _run(case, case.make(0 if case.norm == "l0" else 0.0))
    if outcome.count(Status.SURVIVED) != COUNT:
        fail(f"with a budget of 0 the counts are {outcome.counts}")


def keeps_nan_to_the_row(case: AttackCase) -> None:
    """A row for which the model gives NaN ends as invalid, and changes no other row."""
    usual = _run(case, case.attack)

    def model(x: Tensor) -> Tensor:
        nearest = torch.cdist(x.flatten(1), case.x.flatten(1)).argmin(1)
        logits: Tensor = case.model(x)
        return torch.where((nearest == 3)[:, None], torch.nan, logits)

    outcome = run_attack(model, case.x, case.y, case.attack, mask=case.mask, preflight=False)
    if int(outcome.status[3]) != int(Status.INVALID):
        fail("a row for which the model gives NaN does not end as invalid")
    others = torch.arange(COUNT) != 3
    if not torch.equal(outcome.status[others], usual.status[others]):
        fail("NaN in one row changes the result of others")


def is_plain_data(case: AttackCase) -> None:
    """It can be sent to another process, is told apart by its budget, and says its budget in words."""
    if repr(copy_of(case.attack)) != repr(case.attack):
        fail("a copy from pickle is another attack")
    if case.norm and repr(case.make(2 * case.eps)) == repr(case.attack):
        fail("repr is the same for another budget (a frozen dataclass has a repr of its fields)")
    if not case.attack.describe().strip():
        fail("describe() is empty")


PROPERTIES: Mapping[str, Callable[[AttackCase], None]] = MappingProxyType(
    {
        has.__name__.replace("_", "-"): has
        for has in (
            stays_within_budget_and_box,
            claims_what_it_reaches,
            does_not_depend_on_the_batch,
            draws_by_seed,
            costs_what_it_declares,
            gets_somewhere,
            is_not_weaker_with_more_effort,
            reaches_targets,
            breaks_nothing_without_a_budget,
            keeps_nan_to_the_row,
            is_plain_data,
        )
    }
)
"""The properties by name. Each is a function of an `AttackCase` that raises `ConformanceError`."""


def _run(case: AttackCase, attack: Attack[Any], *, stop: str = "hit") -> Outcome:
    return run_attack(case.model, case.x, case.y, attack, mask=case.mask, stop=stop, preflight=False)


def _margin(case: AttackCase, x: Tensor) -> Tensor:
    """By how much the right class leads, ``(n,)``."""
    with torch.no_grad():
        logits = case.model(x)
    right = logits.gather(1, case.y[:, None])[:, 0]
    margin: Tensor = right - logits.scatter(1, case.y[:, None], -torch.inf).amax(1)
    return margin


def _size(delta: Tensor, norm: str | None) -> Tensor:
    if norm is None:
        return delta.new_zeros(len(delta))
    size: Tensor = torch.linalg.vector_norm(delta.flatten(1), _ORDERS[norm], dim=1)
    return size


def _geometry(case: AttackCase, eps: float) -> Ball | Support | None:
    if case.norm in NORMS:
        return Ball(case.norm, eps)
    return Support(round(eps), "values") if case.norm == "l0" else None


def copy_of(attack: Attack[Any]) -> Attack[Any]:
    """What another process gets of an attack."""
    copied: Attack[Any] = pickle.loads(pickle.dumps(attack))  # noqa: S301  (its own bytes)
    return copied


def _same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.candidate, b.candidate) for a, b in zip(one, other, strict=True)
    )


def _blind(case: AttackCase) -> bool:
    """Whether another network changes no candidate."""
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(case.x[0].numel(), CLASSES))
    first, second = case.steps()[0].candidate, case.steps(model=other)[0].candidate
    return torch.equal(first, second)
