"""What an attack did to each sample, as the referee measured it."""

from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from assay.core.types import Count, Eps, Images, Labels, PerRow
from assay.util.html import html_table
from assay.util.statistics import exact_interval
from assay.util.validate import described, one_of, radius, reject

TOLERANCE = 5e-5
"""How far beyond its budget, as a share of it, a perturbation may be by rounding."""

MEASURES = ("linf", "l2", "l1", "l0", "pixels")
"""Ways to measure a perturbation."""


class Status(IntEnum):
    """How one sample ended. Each sample ends in exactly one of these.

    An exception or a NaN is never robustness: they have states of their own.
    """

    MISCLASSIFIED = 0
    """Wrong before any attack; not attacked."""
    BROKEN = 1
    """An adversarial example was found and re-measured in float32."""
    SURVIVED = 2
    """The attack ran to its end and found nothing."""
    INVALID = 3
    """A non-finite image, logit or gradient stopped the sample without an adversarial example."""
    ERROR = 4
    """The model raised an exception on it (only with ``errors="record"``)."""
    NOT_RUN = 5
    """Not reached (interrupted), or an attack could not begin (no image to start from): nothing is known of it."""

    @property
    def label(self) -> str:
        """Words for a table, such as ``misclassified clean``."""
        return "misclassified clean" if self is Status.MISCLASSIFIED else self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Outcome:
    """The record of one attack on ``n`` samples.

    Every quantity is the engine's own measurement; nothing is what an attack said of itself.

    Attributes:
        clean: the images as given, ``(n, c, h, w)`` in [0, 1], on the CPU.
        images: the best image found for each sample (for a broken one an adversarial example), same shape.
        y: true labels, ``(n,)``.
        target: the class to reach, ``(n,)``; -1 where any wrong class counts.
        status: one `Status` code a sample, ``(n,)``.
        predicted_clean: class predicted on the clean image, -1 where it was not run.
        predicted: class predicted on ``images``, -1 where it was not run.
        margin: goal margin in logits on ``images``: above 0 iff the goal was reached.
        size: distance in budgets (1 is the edge of the threat model); NaN where the attack has no budget.
        steps: attack steps spent, all restarts and targets together.
        forwards: forward passes spent by the attack.
        backwards: backward passes spent by the attack.
        checks: forward passes spent by the referee (clean prediction and re-measurement).
        restart: the restart that broke the sample, -1 if none did.
        stage: index of the attack of a cascade that broke the sample, -1 if none did.
        stages: the names of the attacks in the cascade (one name for a plain attack).
        name: what ran, as a one-line description.
        seconds: wall time of the call.
        events: what the engine had to do besides (out of memory, discarded hits), as sentences.
        errors: message of the exception by sample index.
        sizes: what `norm` returns, where it was measured before and the images are not at hand (they have their shape
            and no memory then).
    """

    clean: Images
    images: Images
    y: Labels
    target: Labels
    status: Count
    predicted_clean: Labels
    predicted: Labels
    margin: PerRow
    size: PerRow
    steps: Count
    forwards: Count
    backwards: Count
    checks: Count
    restart: Count
    stage: Count
    stages: tuple[str, ...] = ("attack",)
    name: str = "attack"
    seconds: float = 0.0
    events: tuple[str, ...] = ()
    errors: dict[int, str] = field(default_factory=dict)
    sizes: dict[str, PerRow] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.y)

    def count(self, status: Status) -> int:
        """How many samples ended in ``status``."""
        return int((self.status == int(status)).sum())

    @property
    def counts(self) -> dict[str, int]:
        """All six counts by label; they add up to ``n``."""
        return {s.label: self.count(s) for s in Status}

    @property
    def robust(self) -> Tensor:
        """Boolean ``(n,)``: right on the clean image and not broken by an attack that ran to its end."""
        return self.status == int(Status.SURVIVED)

    @property
    def clean_accuracy(self) -> float:
        """Share of samples that are right before the attack, of those that were run; NaN if none was."""
        run = self.predicted_clean >= 0
        return _share((self.predicted_clean == self.y) & run, run)

    @property
    def robust_accuracy(self) -> float:
        """Share of samples that survived, of those that were run. An upper bound on robustness; NaN if none was run.

        Samples that came out invalid, raised an error or could not be attacked count in the denominator and never as
        robust; `readings` has both ways to count.
        """
        return _share(self.robust, self.reached)

    @property
    def unattacked(self) -> Tensor:
        """Boolean ``(n,)``: not run although reached, because an attack could not begin (no image to start from)."""
        return (self.status == int(Status.NOT_RUN)) & (self.predicted_clean >= 0)

    @property
    def reached(self) -> Tensor:
        """Boolean ``(n,)``: not left out by an interruption."""
        return (self.status != int(Status.NOT_RUN)) | self.unattacked

    @property
    def unknown(self) -> int:
        """How many samples came out invalid, raised an error or could not be attacked: they may be robust or not."""
        return self.count(Status.INVALID) + self.count(Status.ERROR) + int(self.unattacked.sum())

    @property
    def readings(self) -> tuple[float, float]:
        """Robust accuracy with unknown samples read as broken, and read as robust; equal where there are none."""
        n, robust = int(self.reached.sum()), int(self.robust.sum())
        return (robust / n, (robust + self.unknown) / n) if n else (float("nan"), float("nan"))

    @property
    def success_rate(self) -> float:
        """Share of the attacked samples that broke; NaN if none was attacked."""
        attacked = (self.status == int(Status.BROKEN)) | (self.status == int(Status.SURVIVED))
        return _share(self.status == int(Status.BROKEN), attacked)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Exact (Clopper–Pearson) confidence interval of the robust accuracy, over both `readings`.

        Args:
            confidence: coverage, in (0, 1).

        Returns:
            Lower and upper end, as shares; (0, 1) when nothing was run.
        """
        n, robust = int(self.reached.sum()), int(self.robust.sum())
        return exact_interval(robust, n, confidence, unknown=self.unknown)

    def norm(self, norm: str = "linf") -> PerRow:
        """Size of each perturbation ``images - clean``.

        Args:
            norm: ``"linf"``, ``"l2"``, ``"l1"``, ``"l0"`` (values changed, each channel of a pixel for itself) or
                ``"pixels"`` (pixels changed in any channel).

        Returns:
            ``(n,)`` in input units ([0, 1]); a count for ``"l0"`` and ``"pixels"``.
        """
        one_of("norm", norm, MEASURES)
        if self.sizes:
            return self.sizes[norm]
        delta = (self.images.double() - self.clean.double()).abs()
        if norm in ("l0", "pixels"):
            changed = delta > 0
            return (changed.any(1) if norm == "pixels" else changed).flatten(1).sum(1).float()
        flat = delta.flatten(1)
        if flat.shape[1] == 0 or len(flat) == 0:
            return torch.zeros(len(flat))
        order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
        length: PerRow = torch.linalg.vector_norm(flat, ord=order, dim=1).float()
        return length

    def distance(self, norm: str = "l2") -> PerRow:
        """How far each sample is from being misclassified, as far as the attack knows: an upper bound.

        Args:
            norm: as in `norm`.

        Returns:
            ``(n,)``: 0 where the clean image is wrong, the size of the perturbation where the sample broke, infinity
            where it survived, NaN where nothing is known.
        """
        result = torch.where(self.status == int(Status.BROKEN), self.norm(norm), torch.nan)
        result = torch.where(self.status == int(Status.MISCLASSIFIED), 0.0, result)
        return torch.where(self.status == int(Status.SURVIVED), torch.inf, result)

    def accuracy_at(self, eps: Eps, norm: str = "l2") -> float:
        """Share of samples that no perturbation of at most ``eps`` was found for, of those that were run.

        With an attack that minimises a distance, one run gives the whole curve:
        ``[outcome.accuracy_at(eps) for eps in budgets]``.

        Args:
            eps: a budget in the units of ``norm``; met with the referee's tolerance for rounding.
            norm: as in `norm`.
        """
        beyond = self.distance(norm) > radius("eps", eps) * (1 + TOLERANCE)
        return _share(beyond, self.reached)

    def frame(self) -> list[dict[str, Any]]:
        """One record a sample; ``pandas.DataFrame(outcome.frame())`` makes a table of it."""
        norms = {name: self.norm(name).tolist() for name in MEASURES}
        plain = (
            "y",
            "target",
            "predicted_clean",
            "predicted",
            "margin",
            "size",
            "steps",
            "forwards",
            "backwards",
            "checks",
            "restart",
        )
        columns = {name: getattr(self, name).tolist() for name in plain}
        codes = self.status.tolist()
        stage = self.stage.tolist()
        return [
            {"sample": i, "status": Status(codes[i]).label}
            | {name: values[i] for name, values in columns.items()}
            | {name: values[i] for name, values in norms.items()}
            | {"broken_by": self.stages[stage[i]] if stage[i] >= 0 else None, "error": self.errors.get(i)}
            for i in range(len(self))
        ]

    def take(self, index: Tensor) -> "Outcome":
        """The record of some samples, in the order of ``index``."""
        chosen = index.tolist()
        tensors = {f.name: getattr(self, f.name)[index] for f in fields(self) if _is_tensor(self, f.name)}
        errors = {new: self.errors[old] for new, old in enumerate(chosen) if old in self.errors}
        sizes = {name: size[index] for name, size in self.sizes.items()}
        return replace(self, **tensors, errors=errors, sizes=sizes)

    def merge(self, other: "Outcome", index: Tensor) -> "Outcome":
        """This record with the samples at ``index`` replaced by those of ``other`` (to complete an interrupted run)."""
        if len(other) != len(index):
            reject("index", f"{len(other)} positions, one for each sample of `other`", described(f"{len(index)}"))
        tensors = {}
        for f in fields(self):
            if _is_tensor(self, f.name):
                tensors[f.name] = getattr(self, f.name).clone()
                tensors[f.name][index] = getattr(other, f.name)
        errors = {**self.errors, **{int(index[i]): text for i, text in other.errors.items()}}
        seconds = self.seconds + other.seconds
        return replace(self, **tensors, errors=errors, seconds=seconds, events=self.events + other.events)

    def __str__(self) -> str:
        """One line for a terminal: robust accuracy, interval, the six counts, the cost."""
        low, high = self.interval()
        counts = ", ".join(f"{n} {label}" for label, n in self.counts.items())
        passes = (self.forwards + self.backwards).sum().item() / max(len(self), 1)
        if bool(self.size.isnan().all()) and self.count(Status.BROKEN):  # no budget: a distance is what was asked for
            result = self.norm("l2")[self.status == int(Status.BROKEN)]
            counts += f"; median l2 distance {result.median().item():.4g}"
        least, most = self.readings
        either = f" ({100 * most:.1f} % if {self.unknown} unknown samples are robust)" if most > least else ""
        return (
            f"{self._title}: robust accuracy {100 * self.robust_accuracy:.1f} %{either} "
            f"[{100 * low:.1f}, {100 * high:.1f}] of n = {len(self)} ({counts}); {passes:.1f} passes a sample"
        )

    @property
    def _title(self) -> str:
        """The attack, and that targets were given: then a sample is broken where its own target was reached."""
        return f"{self.name}, targeted" if len(self) and bool((self.target >= 0).all()) else self.name

    def __repr__(self) -> str:
        """As text: the fields hold every image."""
        return str(self)

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        low, high = self.interval()
        counts = [[label, str(n), f"{100 * n / max(len(self), 1):.1f} %"] for label, n in self.counts.items()]
        sentence = (
            f"{self._title}: robust accuracy {100 * self.robust_accuracy:.1f} %, 95 % interval {100 * low:.1f} to "
            f"{100 * high:.1f} %, n = {len(self)}, clean accuracy {100 * self.clean_accuracy:.1f} %"
        )
        return html_table(("status", "samples", "share"), counts, [sentence])


def _is_tensor(outcome: Outcome, name: str) -> bool:
    return isinstance(getattr(outcome, name), Tensor)


def _share(part: Tensor, whole: Tensor) -> float:
    n = int(whole.sum())
    return int(part.sum()) / n if n else float("nan")
