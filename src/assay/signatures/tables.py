"""Result tables and figures: Souri et al.'s tables 3 to 5."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from assay.core.call_context import in_neutral_context
from assay.diagnostics.plots import canvas, matrix, pictures
from assay.diagnostics.trail import logits_of
from assay.signatures.examples import Examples
from assay.signatures.recognition import Recognition
from assay.util.statistics import Interval, mean_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP = "gap closed"
RESAMPLES = 1000
COLUMNS = {"image": "image alone", "truth": "with the true perturbation", "redrl": "REDRL"}


@dataclass(frozen=True)
class RecognitionTable:
    """Share recognised, by column (what the recogniser saw, or which losses its reconstructor had) and kind.

    Attributes:
        share: by column, by kind, of all, and means over kinds, settings, and attacks that still fool; of several
            recognisers the mean.
        counts: examples, likewise.
        spread: by column, 95 % interval over recognisers trained with other seeds, where there are several.
        closed: which share of the way from the image alone to the true perturbation REDRL goes, and its 95 % interval
            over images, where there are all three and a way to go.
    """

    share: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, int]
    spread: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    closed: Mapping[str, tuple[float, Interval]] = field(default_factory=dict)

    def frame(self) -> list[dict[str, Any]]:
        """One record a kind and mean."""
        rows = []
        for name, count in self.counts.items():
            row: dict[str, Any] = {"made by": name, "n": count}
            for column, shares in self.share.items():
                title = COLUMNS.get(column, column)
                row[title] = 100 * shares[name]
                if column in self.spread:
                    low, high = self.spread[column][name]
                    row |= {f"{title} from": 100 * low, f"{title} to": 100 * high}
            if name in self.closed:
                value, (low, high) = self.closed[name]
                row |= {GAP: 100 * value, f"{GAP} from": 100 * low, f"{GAP} to": 100 * high}
            rows.append(row)
        return rows

    def figure(self) -> "Figure":
        """The table in shades."""
        names = list(self.counts)
        figure, (axes,) = canvas(3.5 + 1.1 * len(self.share), 1.2 + 0.4 * len(names))
        values = [[result[name] for result in self.share.values()] for name in names]
        matrix(axes, values, names, [_two_lines(COLUMNS.get(c, c)) for c in self.share], ("made by", "% recognised"))
        return figure

    def verdict(self) -> str:
        """The totals."""
        text = ", ".join(f"{COLUMNS.get(c, c)} {100 * result['total']:.1f} %" for c, result in self.share.items())
        return f"Of {self.counts['total']} images, this share is attributed correctly: {text}."


@in_neutral_context
def recognition_table(
    recognitions: Mapping[str, Recognition | Sequence[Recognition]], examples: Examples
) -> RecognitionTable:
    """Try recognisers on examples.

    Args:
        recognitions: recognisers by column, such as ``"image"`` or ``"redrl"``; several of one column are the same
            training with other seeds.
        examples: known attacks on images that none of them has seen.

    Returns:
        The share recognised, by column: by kind (those without an example are left out), of all examples, the mean
        over kinds, the mean over settings of the attacks, and of attacked images that fool their victim still after
        they came to 8 bits; and which share of the gap between image and true perturbation REDRL closes.

    Source: Souri et al., 2021, tables 3 and 5. Deviation: the paper's total is the mean over settings, of which the
    patch has nine and DeepFool one.
    """
    share: dict[str, dict[str, float]] = {}
    spread: dict[str, dict[str, Interval]] = {}
    recognised: dict[str, Tensor] = {}
    groups = _groups(examples)
    for column, several in recognitions.items():
        each = [several] if isinstance(several, Recognition) else several
        rights = [(recognition.logits(examples).argmax(1) == examples.kind).double() for recognition in each]
        recognised[column] = torch.stack(rights).mean(0)
        tables = [{name: _mean_of(parts, right) for name, parts in groups.items()} for right in rights]
        share[column] = {name: sum(table[name] for table in tables) / len(tables) for name in groups}
        if len(tables) > 1:
            spread[column] = {name: mean_interval([table[name] for table in tables]) for name in groups}
    counts = {name: sum(int(part.sum()) for part in parts) for name, parts in groups.items()}
    closed = {}
    if set(COLUMNS) <= set(recognised):
        three = torch.stack([recognised[column] for column in COLUMNS])
        closed = {name: gap for name, parts in groups.items() if (gap := _gap_closed(three, parts)) is not None}
    return RecognitionTable(share, counts, spread, closed)


def _gap_closed(three: Tensor, parts: Sequence[Tensor]) -> tuple[float, Interval] | None:
    """The share of the way from the first row's mean to the second's that the third's goes; None where there is none.

    Args:
        three: what each example contributes, ``(3, n)``: by the image, by the truth, by REDRL.
        parts: the examples over whose means the mean is taken.

    Its interval: the percentile bootstrap over the examples of each part (Efron & Tibshirani, "An introduction to the
    bootstrap", 1993, section 13.3), all three rows of one draw.
    """
    drawn = torch.Generator().manual_seed(0)
    means, resampled = torch.zeros(3, dtype=torch.float64), torch.zeros(3, RESAMPLES, dtype=torch.float64)
    for part in parts:
        own = three[:, part]
        count = own.shape[1]
        means += own.mean(1)
        resampled += torch.stack(
            [own[:, torch.randint(count, (count,), generator=drawn)].mean(1) for _ in range(RESAMPLES)], 1
        )
    if means[1] <= means[0]:
        return None
    ways = (resampled[1] - resampled[0]).clamp_min(1e-9)  # a draw without a way to go is as far as it can be
    low, high = ((resampled[2] - resampled[0]) / ways).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return float((means[2] - means[0]) / (means[1] - means[0])), (float(low), float(high))


def _groups(examples: Examples) -> dict[str, list[Tensor]]:
    """By the name of a row, the examples over whose shares it is the mean."""
    kinds = {name: examples.kind == i for i, name in enumerate(examples.kinds)}
    kinds = {name: part for name, part in kinds.items() if bool(part.any())}
    attacked = (examples.kind > 0) & (examples.setting >= 0)
    settings = [attacked & (examples.setting == s) for s in examples.setting[attacked].unique().tolist()]
    fooling = attacked & examples.fooled
    rows = {name: [part] for name, part in kinds.items()}
    rows |= {"total": [torch.ones_like(attacked)], "mean of kinds": list(kinds.values())}
    rows |= {"mean of settings": settings} if settings else {}
    return rows | ({"attacks that still fool": [fooling]} if bool(fooling.any()) else {})


def _mean_of(parts: Sequence[Tensor], right: Tensor) -> float:
    return float(torch.stack([right[part].mean() for part in parts]).mean())


@dataclass(frozen=True)
class RestorationTable:
    """Accuracy of classifiers on images before and after the reconstructor.

    Attributes:
        names: of the classifiers.
        kinds: that were tried.
        before: ``(classifiers, kinds)``.
        after: likewise.
        counts: images, likewise.
        shown: attacked images, reconstructions and residuals, for the pictures.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    before: Tensor
    after: Tensor
    counts: Tensor
    shown: tuple[tuple[str, Tensor], ...]

    def frame(self) -> list[dict[str, Any]]:
        """One record a classifier and kind."""
        return [
            {
                "classifier": name,
                "images": kind,
                "accuracy": 100 * float(self.before[i, j]),
                "reconstructed": 100 * float(self.after[i, j]),
                "n": int(self.counts[i, j]),
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
    after, counts = before.clone(), torch.zeros(before.shape, dtype=torch.int64)
    for i, (name, model) in enumerate(classifiers.items()):
        victim_index = examples.victims.index(name) if name in examples.victims else -2
        for j in range(len(examples.kinds)):
            at = (examples.kind == j) & (
                (examples.victim == victim_index) | (examples.victim < 0) | (victim_index < -1)
            )
            at &= ~examples.innocent
            if not bool(at.any()):
                continue
            y = examples.y[at]
            right = logits_of(model, examples.images[at].float() / 255).argmax(1) == y
            back = logits_of(model, reconstructed[at]).argmax(1) == y
            if not j:
                back, right = back[right], right[right]
            before[i, j], after[i, j], counts[i, j] = right.float().mean(), back.float().mean(), len(right)
    shown: list[tuple[str, Tensor]] = []
    for j, kind in enumerate(examples.kinds):
        at = (examples.kind == j).nonzero().squeeze(1)
        if j and len(at):
            image, back = examples.images[at[0]].float() / 255, reconstructed[at[0]]
            shown += [(kind, image), ("G", back), ("residual × 8", 0.5 + 8 * (image - back))]
    return RestorationTable(tuple(classifiers), examples.kinds, before, after, counts, tuple(shown))


def _two_lines(text: str) -> str:
    head, _, tail = text.rpartition(" ")
    return f"{head}\n{tail}" if head else tail
