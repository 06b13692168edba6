"""How much does it take to reach the easiest, a random and the hardest class?

Carlini & Wagner, S&P 2017, section VI, for the three cases; Xu et al., 2019, table 1 and section 5, for the distances
and for perturbations that are cut to the number of values of a sparser one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from assay.core.call_context import with_images_on_the_cpu
from assay.core.combinators import AnyAttack, unfold, with_budget
from assay.core.outcome import Status
from assay.core.types import Flag, Images, Labels
from assay.diagnostics.plots import canvas, matrix
from assay.diagnostics.trail import logits_of, run_attack_to_end, same_length
from assay.util.progress import WorkCallback, no_progress
from assay.util.statistics import mean_interval
from assay.util.validate import described, reject, whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DISTANCES = ("l0", "l1", "l2", "linf")
CASES = ("best", "average", "worst")
FACTORS = tuple(2.0**power for power in range(-4, 5))
"""Budgets that are tried for an attack that has one, as multiples of it: the smallest that suffices counts."""


@dataclass(frozen=True)
class Targets:
    """Success and distances of targeted attacks.

    Attributes:
        success: by attack, whether the image of a sample is of the class aimed at, ``(n, targets)``.
        distance: by attack and distance, ``(n, targets)``; infinite where there is no success.
        chosen: the target of the average case, ``(n,)``, a position among a sample's targets.
        cut: by attack, the share of its successful perturbations that still reach their target when all but their
            largest values are dropped, as many as the first attack changes of the same image for the same target; and
            the number of such perturbations.
        first: the attack that they are cut to.
    """

    success: Mapping[str, Flag]
    distance: Mapping[str, Mapping[str, Tensor]]
    chosen: Tensor
    cut: Mapping[str, tuple[float, int]]
    first: str

    def frame(self) -> list[dict[str, Any]]:
        """One record for each attack and case, with means over the successful samples, and one for each cut."""
        rows: list[dict[str, Any]] = []
        for name, success in self.success.items():
            for case in CASES:
                row: dict[str, Any] = {"attack": name, "case": case, "n": len(success)}
                row["success"] = float(self._reached(success, case).double().mean())
                for distance in DISTANCES:
                    sizes = self._of_case(self.distance[name][distance], case)
                    values: list[float] = sizes[sizes.isfinite()].tolist()
                    low, high = mean_interval(values)
                    mean = sum(values) / len(values) if values else math.nan
                    row |= {distance: mean, f"{distance} from": low, f"{distance} to": high}
                rows.append(row)
        none = {key: math.nan for distance in DISTANCES for key in (distance, f"{distance} from", f"{distance} to")}
        for name, (share, count) in self.cut.items():
            label = f"{name}, cut to the l0 of {self.first}"
            rows.append({"attack": label, "case": "average", "n": count, "success": share, **none})
        return rows

    def figure(self) -> "Figure":
        """Success in shades, a row an attack and case."""
        rows = [row for row in self.frame() if row["attack"] in self.success]
        figure, (axes,) = canvas(7.0, 1.2 + 0.35 * len(rows))
        names = [f"{row['attack']}, {row['case']}" for row in rows]
        values = [[row["success"]] for row in rows]
        matrix(axes, values, names, ("success",), ("attack and case", "% of samples"))
        return figure

    def verdict(self) -> str:
        """The average case of each attack, and what is left after the cut."""
        average = [row for row in self.frame() if row["case"] == "average" and row["attack"] in self.success]
        texts = [
            f"{row['attack']} {100 * row['success']:.0f} %"
            + (f" (l0 {row['l0']:.0f}, l2 {row['l2']:.2f})" if row["success"] else "")
            for row in average
        ]
        cut = [f"{name} {100 * share:.1f} % of {count}" for name, (share, count) in self.cut.items() if count]
        tail = f" Cut to as many values as {self.first} changes, these still reach their target: " if cut else ""
        return f"Of random targets are reached: {', '.join(texts)}.{tail}{', '.join(cut)}{'.' * bool(cut)}"

    def _reached(self, success: Flag, case: str) -> Flag:
        """Whether a sample counts as a success in a case."""
        if case == "average":
            return success.gather(1, self.chosen[:, None]).squeeze(1)
        return success.any(1) if case == "best" else success.all(1)

    def _of_case(self, distance: Tensor, case: str) -> Tensor:
        """The distance of each sample; infinite where it does not count as a success."""
        if case == "average":
            return distance.gather(1, self.chosen[:, None]).squeeze(1)
        return distance.amin(1) if case == "best" else distance.amax(1)


@with_images_on_the_cpu
def targets(
    model: nn.Module,
    x: Images,
    y: Labels,
    classes: int,
    attacks: Mapping[str, AnyAttack],
    *,
    seed: int = 0,
    progress: WorkCallback = no_progress,
) -> Targets:
    """Attack each image towards each other class.

    Args:
        model: the classifier.
        x: images, ``(n, c, h, w)`` in [0, 1]; those that it misclassifies are left out.
        y: labels, ``(n,)``.
        classes: number of classes, at least 2.
        attacks: by name; the first is the one that the perturbations of the others are cut to. For one with a budget
            the smallest of nine budgets that suffices counts (`FACTORS` times its own).
        seed: of the attacks, and of the targets of the average case.
        progress: progress.

    Raises:
        ValueError: no attack, a model that is wrong about every image, or a number of classes that is not the data's.

    Deviations from Xu et al.: each distance has its own best and worst target, as in Carlini & Wagner's code; distances
    count values, so that a pixel of three channels is three.
    """
    same_length(x, y)
    if not attacks:
        reject("attacks", "at least one attack", attacks)
    others = whole("classes", classes, least=2) - 1
    logits = logits_of(model, x)
    right = logits.argmax(1) == y
    if not bool(right.any()):
        reject("model", "one that is right about an image", described(f"one that is wrong about all {len(x)}"))
    known = logits.shape[1]
    if classes > known or int(y.max()) >= classes:
        reject("classes", f"the number of classes, above every label and at most the model's {known}", classes)
    x, y = x[right], y[right]
    offsets = torch.arange(1, classes).repeat(len(x))
    images, labels = x.repeat_interleave(others, 0), y.repeat_interleave(others)
    aims = (labels + offsets) % classes
    drawn = torch.randint(0, others, (len(x),), generator=torch.Generator().manual_seed(seed))
    success, distance, deltas = {}, {}, {}
    for done, (name, attack) in enumerate(attacks.items()):
        progress(name, done, len(attacks))
        reached, delta = _smallest(model, images, labels, aims, attack, seed)
        deltas[name] = delta
        success[name] = reached.view(len(x), others)
        distance[name] = {
            kind: torch.where(reached, values, torch.inf).view(len(x), others)
            for kind, values in _distances(delta).items()
        }
    progress("targets", len(attacks), len(attacks))
    first = next(iter(attacks))
    average = torch.arange(len(x)) * others + drawn
    cut = {}
    for name in list(attacks)[1:]:
        both = average[(success[first].flatten() & success[name].flatten())[average]]
        kept = _cut(deltas[name][both], (deltas[first][both] != 0).flatten(1).sum(1))
        said = logits_of(model, (images[both] + kept).clamp(0, 1)).argmax(1) if len(both) else aims[:0]
        still = (said == aims[both]).double()
        cut[name] = (float(still.mean()) if len(both) else math.nan, len(both))
    return Targets(success, distance, drawn, cut, first)


def _smallest(
    model: nn.Module, x: Images, y: Labels, aims: Labels, attack: AnyAttack, seed: int
) -> tuple[Flag, Images]:
    """Whether each row reaches its target, and by which perturbation; of the smallest budget that suffices."""
    reached, delta = torch.zeros(len(x), dtype=torch.bool), torch.zeros_like(x)
    bounded = all(stage.attack.geometry is not None for stage in unfold(attack))
    tried = [with_budget(attack, factor) for factor in FACTORS] if bounded else [attack]
    for each in tried if all(one is not None for one in tried) else [attack]:
        left = (~reached).nonzero().squeeze(1)
        if not len(left) or each is None:
            break
        outcome = run_attack_to_end(model, x[left], y[left], each, target=aims[left], seed=seed)
        broken = left[outcome.status == int(Status.BROKEN)]
        reached[broken] = True
        delta[broken] = (outcome.images - x[left])[outcome.status == int(Status.BROKEN)]
    return reached, delta


def _distances(delta: Images) -> dict[str, Tensor]:
    flat = delta.flatten(1).double()
    size = flat.abs()
    return {"l0": (flat != 0).double().sum(1), "l1": size.sum(1), "l2": flat.norm(dim=1), "linf": size.amax(1)}


def _cut(delta: Images, count: Tensor) -> Images:
    """Perturbations with all but their ``count`` largest values at 0."""
    flat = delta.flatten(1)
    rank = flat.abs().argsort(1, descending=True).argsort(1)
    return (flat * (rank < count[:, None])).view_as(delta)
