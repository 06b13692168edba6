"""Certificates of a run, and the bracket that they make with its attacks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assay.certify.certificates import Decision
from assay.core.geometry import Geometry
from assay.core.outcome import Status
from assay.parts.balls import Ball, Split
from assay.store.columns import Cell, CellNames
from assay.store.ledger import Ledger
from assay.util.statistics import exact_interval

CERTIFICATES, CERTIFICATE = "certificates", "certificate"
"""The entry of the ledger that lists them, and the kind of answer that holds those of some samples."""

_MOST_OPEN = 0.05
"""Share of samples that a closed bracket may leave open: few samples have wide intervals, and prove as little."""


@dataclass(frozen=True)
class CertifiedBudget:
    """What certifiers said of a model at a budget.

    Attributes:
        model: name of the model.
        budget: in words.
        certifiers: what ran, in order.
        decision: one `Decision` code a sample, ``(n,)``; open where nothing is known.
        by: the certifier that decided, ``(n,)``; -1 for none.
        seconds: of all samples.
        fault: why the model could not be certified; empty where it could.
        events: sentences.
        claimed: whether the budget is claimed (a point of a curve is not).
    """

    model: str
    budget: str
    certifiers: tuple[str, ...]
    decision: Tensor
    by: Tensor
    seconds: float
    fault: str = ""
    events: tuple[str, ...] = ()
    claimed: bool = True

    @property
    def certified(self) -> Tensor:
        """Which samples are certified, ``(n,)``."""
        return self.decision == int(Decision.CERTIFIED)


@dataclass(frozen=True)
class Bracket:
    """Both ends of a model's robust accuracy at a budget: certified from below, attacked from above.

    Attributes:
        model: name of the model.
        budget: in words.
        certifiers: what bounds it from below.
        n: samples.
        certified: how many are certified.
        possible: how many are right, and broken neither by an attack nor by a certifier.
        contradictions: samples that are certified and broken by an attack; there can be none.
        seconds: of the certifiers.
        fault: why there is no lower end; empty where there is one.
    """

    model: str
    budget: str
    certifiers: tuple[str, ...]
    n: int
    certified: int
    possible: int
    contradictions: tuple[int, ...]
    seconds: float
    fault: str = ""

    @property
    def open(self) -> int:
        """Samples of which neither end says anything."""
        return self.possible - self.certified

    @property
    def ends(self) -> tuple[float, float] | None:
        """The two ends, as shares; None of no samples."""
        return (self.certified / self.n, self.possible / self.n) if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval of the robust accuracy, over all that the open samples may be."""
        return exact_interval(self.certified, self.n, unknown=self.open)

    @property
    def is_closed(self) -> bool:
        """Whether both ends lie within the 95 % interval of either alone, and at most a twentieth is open (ours)."""
        if self.fault or not self.n or self.contradictions or self.open > _MOST_OPEN * self.n:
            return False
        upper_of_lower = exact_interval(self.certified, self.n)[1]
        lower_of_upper = exact_interval(self.possible, self.n)[0]
        return self.possible / self.n <= upper_of_lower and self.certified / self.n >= lower_of_upper


def region_to_json(geometry: Geometry) -> dict[str, Any]:
    """The budget of certificates, as JSON can hold it."""
    if isinstance(geometry, Ball):
        return {"norm": geometry.norm, "eps": geometry.eps}
    return {name: region_to_json(ball) for name, ball in vars(geometry).items()}


def region_of_json(entry: Mapping[str, Any]) -> Ball | Split:
    """Inverse of `region_to_json`.

    Raises:
        KeyError, TypeError, ValueError: another entry.
    """
    if "norm" in entry:
        return Ball(entry["norm"], entry["eps"])
    return Split(**{name: Ball(own["norm"], own["eps"]) for name, own in entry.items()})


def image_files(ledger: Ledger) -> dict[str, tuple[str, str]]:
    """By key of certificates the file of the images that certifiers broke samples with, and its SHA-256."""
    rows = ledger.connection.execute("SELECT key, content FROM answer WHERE kind = ?", (CERTIFICATE,))
    records = {key: json.loads(content) for key, content in rows}
    return {key: (own["images"], own["sha256"]) for key, own in records.items() if own.get("images")}


def certificates_of(ledger: Ledger, data: str) -> tuple[CertifiedBudget, ...]:
    """The certificates of a data set, in the order of models and budgets."""
    return tuple(_loaded(ledger, entry) for entry in ledger.meta(CERTIFICATES) or () if entry["data"] == data)


def _loaded(ledger: Ledger, entry: Mapping[str, Any]) -> CertifiedBudget:
    decision, by, seconds, events = list[int](), list[int](), 0.0, list[str]()
    for key, count in entry["parts"]:
        record = ledger.answer(key) or {"decision": [int(Decision.OPEN)] * count, "by": [-1] * count}
        decision += record["decision"]
        by += record["by"]
        seconds += sum(record.get("seconds", ()))
        events += record.get("events", ())
    return CertifiedBudget(
        entry["model"],
        entry["budget"],
        tuple(entry["certifiers"]),
        torch.tensor(decision, dtype=torch.int64),
        torch.tensor(by, dtype=torch.int64),
        seconds,
        entry["fault"],
        tuple(dict.fromkeys(events)),
        entry.get("claimed", True),
    )


def bracket_of(certified: CertifiedBudget, attacks: Sequence[Tensor]) -> Bracket:
    """Both ends.

    Args:
        certified: of the model at the budget.
        attacks: the `Status` codes of the samples, ``(n,)``, of each attack on the model at the budget.
    """
    n, none = len(certified.decision), torch.zeros(len(certified.decision), dtype=torch.bool)
    every = torch.stack(list(attacks)) if attacks else none[None].long() + int(Status.SURVIVED)
    broken = (every == int(Status.BROKEN)).any(0)
    wrong = (every == int(Status.MISCLASSIFIED)).any(0) | (certified.decision == int(Decision.MISCLASSIFIED))
    sure = certified.certified
    possible = ~(broken | wrong | (certified.decision == int(Decision.BROKEN)))
    return Bracket(
        certified.model,
        certified.budget,
        certified.certifiers,
        n,
        int(sure.sum()),
        int((possible | sure).sum()),
        tuple((sure & broken).nonzero().squeeze(1).tolist()),
        certified.seconds,
        certified.fault,
    )


def closed_models(ledger: Ledger, data: str) -> frozenset[str]:
    """The models whose bracket is closed at every budget that an attack claims on a data set."""
    digests = [digest for digest, about in ledger.data().items() if about["name"] == data]
    cells = [(cell, names) for cell, names in ledger.plan() if cell.data in digests and names.curve is None]
    closed: dict[str, dict[str, bool]] = {}
    for certified in (each for each in certificates_of(ledger, data) if each.claimed):
        own = [
            torch.from_numpy(ledger.columns(cell, ("status",))["status"].copy())
            for cell, names in cells
            if (names.model, names.budget) == (certified.model, certified.budget)
        ]
        closed.setdefault(certified.model, {})[certified.budget] = bracket_of(certified, own).is_closed
    claimed = {model: {n.budget for _, n in cells if n.model == model and n.budget != "none"} for model in closed}
    return frozenset(model for model, own in closed.items() if all(own.get(budget, False) for budget in claimed[model]))


def contradictions(ledger: Ledger) -> tuple[str, ...]:
    """A sentence for each model and budget with samples that are certified, and broken by an attack."""
    sentences = []
    plan, names = ledger.plan(), {about["name"]: digest for digest, about in ledger.data().items()}
    for data, digest in names.items():
        for certified in certificates_of(ledger, data):
            for cell, cell_names in plan:
                if cell.data == digest and (cell_names.model, cell_names.budget) == (certified.model, certified.budget):
                    status = torch.from_numpy(ledger.columns(cell, ("status",))["status"].copy())
                    both = bracket_of(certified, [status]).contradictions
                    if both:
                        sentences.append(_sentence(certified, cell, cell_names, both))
    return tuple(sentences)


def _sentence(certified: CertifiedBudget, cell: Cell, names: CellNames, both: Sequence[int]) -> str:
    which = ", ".join(map(str, both[:5])) + (" …" if len(both) > 5 else "")
    return (
        f"{certified.model}, {certified.budget}: {len(both)} samples (number {which}) are certified by "
        f"{' then '.join(certified.certifiers)} and broken by {names.attack}: a bound, the referee or the model is "
        "wrong (a random model, one that answers otherwise in a batch, or a bug of assay)"
    )
