"""Verdicts: a model's clean and worst-case accuracy over several attacks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from assay.certify.certificates import Decision
from assay.core.outcome import Outcome, Status
from assay.store.certified import Bracket, bracket_of
from assay.store.results import CellResult, Study
from assay.util.statistics import exact_interval

# A sample takes the first of these that any attack recorded. NOT_RUN leads: a sample that some attack did not reach
# has no worst case yet, and counting only the broken ones among them would bias the share. SURVIVED is last: it must
# hold for every attack.
_PRECEDENCE = (
    Status.NOT_RUN,
    Status.MISCLASSIFIED,
    Status.BROKEN,
    Status.INVALID,
    Status.ERROR,
    Status.SURVIVED,
)


@dataclass(frozen=True)
class Share:
    """A share ``part / n`` with its exact interval.

    Attributes:
        count: how many.
        n: of how many.
        unknown: how many further samples are undecided (invalid or error).
    """

    count: int
    n: int
    unknown: int = 0

    @property
    def value(self) -> float | None:
        """The share; None when ``n`` is 0."""
        return self.count / self.n if self.n else None

    @property
    def most(self) -> float | None:
        """The share with what is unknown counted in; None when ``n`` is 0."""
        return (self.count + self.unknown) / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval, over both readings of what is unknown."""
        return exact_interval(self.count, self.n, unknown=self.unknown)


@dataclass(frozen=True)
class Verdict:
    """How one model stands after several attacks.

    Attributes:
        model: name of the model.
        cells: the attacks that count.
        skipped: attacks that were not run on any sample, and do not count.
        status: the worst of each sample, ``(n,)`` of `Status` codes.
        clean: share right before any attack, of the samples that were predicted.
        robust: share that survived every attack, of the samples that every attack reached; nor is there an image that
            a certifier broke it with.
        by_certifiers: samples that certifiers broke, and no attack.
    """

    model: str
    cells: tuple[CellResult, ...]
    skipped: tuple[CellResult, ...]
    status: Tensor
    clean: Share
    robust: Share
    by_certifiers: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """All six counts by label; they add up to the number of samples."""
        return {s.label: int((self.status == int(s)).sum()) for s in Status}

    @property
    def passes(self) -> float | None:
        """Forward and backward passes of all attacks together, per sample; None when nothing was run."""
        counts_per_attack = [p for p in (passes(cell.outcome) for cell in self.cells) if p is not None]
        return sum(counts_per_attack) if counts_per_attack else None

    @property
    def checks(self) -> float | None:
        """Forward passes of the referee, per sample; None when nothing was run."""
        results = [c for c in (_per_sample(cell.outcome, cell.outcome.checks) for cell in self.cells) if c is not None]
        return sum(results) if results else None


def worst_status(outcomes: tuple[Outcome, ...], n: int) -> Tensor:
    """The worst of each sample over several attacks.

    Args:
        outcomes: records over the same samples.
        n: how many samples.

    Returns:
        ``(n,)`` of `Status` codes: survived only where every attack was survived, not run where any did not reach it,
        invalid where one could not begin on it and none broke it (nothing is known of it then).
    """
    if not outcomes:
        return torch.full((n,), int(Status.NOT_RUN))
    every = torch.stack(
        [torch.where(outcome.unattacked, int(Status.INVALID), outcome.status).cpu().long() for outcome in outcomes]
    )
    result = torch.full((n,), int(Status.SURVIVED))
    for status in reversed(_PRECEDENCE):
        result[(every == int(status)).any(0)] = int(status)
    return result


def survived_share(status: Tensor) -> Share:
    """The share that survived, of the samples that were reached; those that are unknown counted apart.

    Args:
        status: ``(n,)`` of `Status` codes.
    """
    unknown = (status == int(Status.INVALID)) | (status == int(Status.ERROR))
    return Share(
        int((status == int(Status.SURVIVED)).sum()), int((status != int(Status.NOT_RUN)).sum()), int(unknown.sum())
    )


def verdict(model: str, cells: tuple[CellResult, ...], n: int, refuted: Tensor | None = None) -> Verdict:
    """The verdict of one model over some attacks.

    Args:
        model: name of the model.
        cells: the attacks on it.
        n: how many samples.
        refuted: samples that certifiers broke with an image within the budgets of these attacks, ``(n,)``.

    Returns:
        The verdict, worst case per sample.
    """
    ran = tuple(cell for cell in cells if cell.outcome.count(Status.NOT_RUN) < n)
    skipped = tuple(cell for cell in cells if cell.outcome.count(Status.NOT_RUN) >= n)
    status = worst_status(tuple(cell.outcome for cell in ran), n)
    settled = (int(Status.NOT_RUN), int(Status.MISCLASSIFIED), int(Status.BROKEN))
    more = torch.zeros(n, dtype=torch.bool) if refuted is None else refuted & ~torch.isin(status, torch.tensor(settled))
    status[more] = int(Status.BROKEN)
    right, known = clean_right(ran, n)
    clean = Share(int(right.sum()), int(known.sum()))
    return Verdict(model, ran, skipped, status, clean, survived_share(status), int(more.sum()))


def refuted(study: Study, model: str, cells: tuple[CellResult, ...]) -> Tensor:
    """Samples that certifiers broke with an image within a budget of some attacks, ``(n,)``."""
    budgets, result = {cell.budget for cell in cells}, torch.zeros(len(study), dtype=torch.bool)
    for own in study.certificates:
        if own.model == model and own.budget in budgets:
            result |= own.decision == int(Decision.BROKEN)
    return result


def verdicts(study: Study) -> tuple[Verdict, ...]:
    """One verdict a model, over the budgets of the headline; points of curves count where there is no headline."""

    def counts(cell: CellResult) -> bool:
        return not study.headline or (cell.budget in study.headline and cell.curve is None)

    chosen = {model: tuple(filter(counts, study.of(model))) for model in study.models}
    return tuple(verdict(model, own, len(study), refuted(study, model, own)) for model, own in chosen.items())


def clean_right(cells: tuple[CellResult, ...], n: int) -> tuple[Tensor, Tensor]:
    """Which samples are right before any attack.

    Args:
        cells: attacks on one model.
        n: how many samples.

    Returns:
        Boolean ``(n,)``: right, and whether any of the attacks predicted the sample at all.
    """
    is_correct, known = torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)
    for cell in cells:
        predicted = cell.outcome.predicted_clean.cpu()
        is_first = (predicted >= 0) & ~known
        is_correct |= is_first & (predicted == cell.outcome.y.cpu())
        known |= is_first
    return is_correct, known


def passes(outcome: Outcome) -> float | None:
    """Forward and backward passes of the attack per sample that was run; None when none was."""
    return _per_sample(outcome, outcome.forwards + outcome.backwards)


def _per_sample(outcome: Outcome, counted: Tensor) -> float | None:
    n = len(outcome) - outcome.count(Status.NOT_RUN)
    return int(counted.sum()) / n if n else None


def robust_share(outcome: Outcome) -> Share:
    """Share that survived, of the samples that were run."""
    return Share(int(outcome.robust.sum()), int(outcome.reached.sum()), outcome.unknown)


def brackets(study: Study) -> tuple[Bracket, ...]:
    """Both ends of each model's robust accuracy at each budget that is claimed and was certified."""
    return tuple(
        bracket_of(
            certified,
            [cell.outcome.status.cpu().long() for cell in study.of(certified.model) if cell.budget == certified.budget],
        )
        for certified in study.certificates
        if certified.claimed
    )


def certified_share(study: Study, model: str) -> float | None:
    """The share of samples that are certified at every claimed budget that was certified; None where none was."""
    sure = [own.certified for own in study.certificates if own.model == model and own.claimed and not own.fault]
    return float(torch.stack(sure).all(0).double().mean()) if sure and len(sure[0]) else None


def by_budget(study: Study, model: str) -> dict[str, Verdict]:
    """The worst case of a model at each budget alone, points of curves too.

    Args:
        study: the study.
        model: name of the model.
    """
    cells = study.of(model)
    return {
        budget: verdict(model, own, len(study), refuted(study, model, own))
        for budget in dict.fromkeys(cell.budget for cell in cells)
        if (own := tuple(cell for cell in cells if cell.budget == budget))
    }
