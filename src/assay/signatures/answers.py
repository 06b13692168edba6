"""What is said of images: the confusion matrix, and what is said of images that no attack has changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from assay.diagnostics.plots import canvas, matrix
from assay.signatures.examples import Examples
from assay.signatures.identifier import Identifier
from assay.signatures.innocent import innocent_changes
from assay.signatures.recognition import Recognition

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL = "all"
"""The row of all innocent images."""


@dataclass(frozen=True)
class Confusion:
    """What an identifier says of examples.

    Attributes:
        rows: what made them.
        columns: what is said; the last is unknown.
        counts: ``(rows, columns)``.
        about: in words, what the examples are.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: Tensor
    about: str

    @property
    def share(self) -> Tensor:
        """Of each row."""
        return self.counts / self.counts.sum(1, keepdim=True).clamp_min(1)

    def frame(self) -> list[dict[str, Any]]:
        """One record a row, in counts."""
        return [
            {"made by": name, **dict(zip(self.columns, row, strict=True))}
            for name, row in zip(self.rows, self.counts.tolist(), strict=True)
        ]

    def figure(self) -> "Figure":
        """The matrix, in per cent of each row."""
        figure, (axes,) = canvas(2.5 + 0.8 * len(self.columns), 1.2 + 0.45 * len(self.rows))
        matrix(axes, self.share, self.rows, self.columns, ("made by", "said"))
        return figure

    def verdict(self) -> str:
        """How many are right, and how many unknown."""
        n = int(self.counts.sum())
        if not n:
            return f"{self.about}: there is no image, as no attack changed one."
        known = [(i, self.columns.index(name)) for i, name in enumerate(self.rows) if name in self.columns]
        right = 100 * sum(int(self.counts[i, j]) for i, j in known) / n
        unknown = 100 * int(self.counts[:, -1].sum()) / n
        text = f"{right:.1f} % are attributed correctly, " if known else ""
        return f"{self.about}: of {n} images {text}{unknown:.1f} % are called unknown."


def recogniser_confusion(recognition: Recognition, examples: Examples, about: str) -> Confusion:
    """The confusion matrix of a recogniser that knows no unknown, such as one of images alone.

    Args:
        recognition: trained.
        examples: known attacks on images that it has not seen.
        about: in words, what it sees.

    Source: Souri et al., 2021, figure 1.
    """
    said, kinds = recognition.logits(examples).argmax(1), examples.kinds
    counts = torch.zeros(len(kinds), len(kinds) + 1, dtype=torch.int64)
    counts.index_put_((examples.kind, said), torch.ones_like(said), accumulate=True)
    return Confusion(kinds, (*kinds, "unknown"), counts, about)


@dataclass(frozen=True)
class Innocence:
    """What an identifier says of images that no attack has changed.

    Attributes:
        accused: by what was done to them, the share that is said to be of an attack.
        unknown: likewise, the share that is called unknown.
        counts: images.
    """

    accused: Mapping[str, float]
    unknown: Mapping[str, float]
    counts: Mapping[str, int]

    def frame(self) -> list[dict[str, Any]]:
        """One record for each change, and one for all."""
        return [
            {"images": name, "n": count, "accused": 100 * self.accused[name], "unknown": 100 * self.unknown[name]}
            for name, count in self.counts.items()
        ]

    def figure(self) -> "Figure":
        """The shares, a row a change."""
        names = list(self.counts)
        figure, (axes,) = canvas(5.0, 1.2 + 0.3 * len(names))
        values = [[self.accused[name], self.unknown[name]] for name in names]
        matrix(axes, values, names, ("accused", "unknown"), ("images", "% of them"))
        return figure

    def verdict(self) -> str:
        """Of all, and the change that is accused most."""
        if not self.counts:
            return "There is no image that something else than an attack has changed."
        worst = max((name for name in self.counts if name != ALL), key=lambda name: self.accused[name])
        return (
            f"Of {self.counts[ALL]} images with noise, compression, blur or another corruption, "
            f"{100 * self.accused[ALL]:.1f} % are taken for an attack's and {100 * self.unknown[ALL]:.1f} % are called "
            f"unknown; most of all {worst}: {100 * self.accused[worst]:.0f} %."
        )


def innocence(identifier: Identifier, examples: Examples) -> Innocence:
    """Try an identifier on images with noise, compression, blur and other corruptions.

    Args:
        identifier: calibrated.
        examples: innocent images among them.
    """
    examples = examples.take(examples.innocent.nonzero().squeeze(1))
    if not len(examples):
        return Innocence({}, {}, {})
    decision = identifier.decide(*identifier.scores(examples.images.float() / 255))
    unknown = decision == len(identifier.kinds)
    accused = (decision != 0) & ~unknown
    group_of = {change.words: change.group for change in innocent_changes()}
    groups = [group_of[examples.settings[s]] for s in examples.setting.tolist()]
    parts = {ALL: torch.ones_like(accused)}
    parts |= {name: torch.tensor([group == name for group in groups]) for name in dict.fromkeys(groups)}
    shares = [{n: float(said[part].double().mean()) for n, part in parts.items()} for said in (accused, unknown)]
    return Innocence(shares[0], shares[1], {name: int(part.sum()) for name, part in parts.items()})


def confusion(identifier: Identifier, examples: Examples | None = None, about: str = "Known attacks") -> Confusion:
    """The confusion matrix of its own held-out examples, or of others.

    Args:
        identifier: calibrated.
        examples: others; None for its own.
        about: in words, what the examples are.
    """
    columns = (*identifier.kinds, "unknown")
    if examples is None:
        return Confusion(identifier.kinds, columns, identifier.confusion, about)
    counts = identifier.confusion_of(examples)
    there = counts.sum(1) > 0
    rows = tuple(name for name, some in zip(examples.kinds, there.tolist(), strict=True) if some)
    return Confusion(rows, columns, counts[there], about)
