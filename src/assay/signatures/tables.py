"""Result tables and figures: Souri et al.'s tables 3 to 5, and the confusion matrix."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from assay.core.call_context import in_neutral_context
from assay.diagnostics.plots import canvas, matrix, pictures
from assay.diagnostics.trail import logits_of
from assay.signatures.examples import Examples
from assay.signatures.identifier import Identifier
from assay.signatures.recognition import Recognition

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = {"image": "image alone", "truth": "with the true perturbation", "redrl": "REDRL"}


@dataclass(frozen=True)
class RecognitionTable:
    """Share recognised, by column (what the recogniser saw, or which losses its reconstructor had) and kind.

    Attributes:
        share: by column, by kind and ``"total"``.
        counts: examples by kind.
    """

    share: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, int]

    def frame(self) -> list[dict[str, Any]]:
        """One record a kind, and the total."""
        names = [*self.counts, "total"]
        sizes = {**self.counts, "total": sum(self.counts.values())}
        return [
            {
                "made by": name,
                "n": sizes[name],
                **{COLUMNS.get(c, c): 100 * shares[name] for c, shares in self.share.items()},
            }
            for name in names
        ]

    def figure(self) -> "Figure":
        """The table in shades."""
        names = [*self.counts, "total"]
        figure, (axes,) = canvas(2.5 + 1.1 * len(self.share), 1.2 + 0.4 * len(names))
        values = [[result[name] for result in self.share.values()] for name in names]
        matrix(axes, values, names, [_two_lines(COLUMNS.get(c, c)) for c in self.share], ("made by", "% recognised"))
        return figure

    def verdict(self) -> str:
        """The totals."""
        text = ", ".join(f"{COLUMNS.get(c, c)} {100 * result['total']:.1f} %" for c, result in self.share.items())
        return f"Of {sum(self.counts.values())} images, this share is attributed correctly: {text}."


@in_neutral_context
def recognition_table(recognitions: Mapping[str, Recognition], examples: Examples) -> RecognitionTable:
    """Try recognisers on examples.

    Args:
        recognitions: recognisers by column, such as ``"image"`` or ``"redrl"``.
        examples: known attacks on images that none of them has seen.

    Returns:
        The share recognised, by column and by kind (those without an example are left out).

    Source: Souri et al., 2021, tables 3 and 5.
    """
    share: dict[str, dict[str, float]] = {}
    counts = {name: int((examples.kind == i).sum()) for i, name in enumerate(examples.kinds)}
    counts = {name: count for name, count in counts.items() if count}
    for column, recognition in recognitions.items():
        right = recognition.logits(examples).argmax(1) == examples.kind
        share[column] = {
            name: right[examples.kind == examples.kinds.index(name)].float().mean().item() for name in counts
        }
        share[column]["total"] = right.float().mean().item()
    return RecognitionTable(share, counts)


@dataclass(frozen=True)
class RestorationTable:
    """Accuracy of classifiers on images before and after the reconstructor.

    Attributes:
        names: of the classifiers.
        kinds: that were tried.
        before: ``(classifiers, kinds)``.
        after: likewise.
        shown: attacked images, reconstructions and residuals, for the pictures.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    before: Tensor
    after: Tensor
    shown: tuple[tuple[str, Tensor], ...]

    def frame(self) -> list[dict[str, Any]]:
        """One record a classifier and kind."""
        return [
            {
                "classifier": name,
                "images": kind,
                "accuracy": 100 * float(self.before[i, j]),
                "reconstructed": 100 * float(self.after[i, j]),
            }
            for i, name in enumerate(self.names)
            for j, kind in enumerate(self.kinds)
        ]

    def figure(self) -> "Figure":
        """Images, reconstructions, and residuals times 8 about grey."""
        return pictures([image.numpy() for _, image in self.shown], [title for title, _ in self.shown], columns=3)

    def verdict(self) -> str:
        """Clean and attacked images."""
        attacked = [j for j, kind in enumerate(self.kinds) if kind != "clean"]
        lines = []
        for i, name in enumerate(self.names):
            before, after = self.before[i, attacked].nanmean(), self.after[i, attacked].nanmean()
            part = f"{100 * before:.0f} → {100 * after:.0f} %"
            clean = f"{100 * self.before[i, 0]:.0f} → {100 * self.after[i, 0]:.0f} %"
            lines.append(f"{name} {part} on attacked images, {clean} on clean ones")
        return "Reconstruction changes accuracy: " + "; ".join(lines) + "."


@in_neutral_context
def restoration_table(
    recognition: Recognition, classifiers: Mapping[str, nn.Module], examples: Examples
) -> RestorationTable:
    """Try classifiers on images and on what the reconstructor makes of them; each on what was made on it.

    Args:
        recognition: one with a reconstructor.
        classifiers: by name; one that is among the victims is tried on what was made on it.
        examples: clean and attacked images.

    Returns:
        Accuracies, ``(classifiers, kinds)``, and pictures.

    Only images that the classifier was right about are attacked, so only those count as clean ones too; NaN stands for
    a kind without an image.

    Source: Souri et al., 2021, table 4 and figure 4. Deviation: the paper counts whole test sets, with those that are
    wrong before any attack.
    """
    reconstructed = recognition.restored(examples.images)
    before = torch.full((len(classifiers), len(examples.kinds)), torch.nan)
    after = before.clone()
    for i, (name, model) in enumerate(classifiers.items()):
        victim_index = examples.victims.index(name) if name in examples.victims else -2
        for j in range(len(examples.kinds)):
            at = (examples.kind == j) & (
                (examples.victim == victim_index) | (examples.victim < 0) | (victim_index < -1)
            )
            if not bool(at.any()):
                continue
            y = examples.y[at]
            right = logits_of(model, examples.images[at].float() / 255).argmax(1) == y
            back = logits_of(model, reconstructed[at]).argmax(1) == y
            if not j:
                back, right = back[right], right[right]
            before[i, j], after[i, j] = right.float().mean(), back.float().mean()
    shown: list[tuple[str, Tensor]] = []
    for j, kind in enumerate(examples.kinds):
        at = (examples.kind == j).nonzero().squeeze(1)
        if j and len(at):
            image, back = examples.images[at[0]].float() / 255, reconstructed[at[0]]
            shown += [(kind, image), ("G", back), ("residual × 8", 0.5 + 8 * (image - back))]
    return RestorationTable(tuple(classifiers), examples.kinds, before, after, tuple(shown))


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


def _two_lines(text: str) -> str:
    head, _, tail = text.rpartition(" ")
    return f"{head}\n{tail}" if head else tail
