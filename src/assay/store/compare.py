"""Paired comparison of models or runs on the same samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.outcome import Status
from assay.core.rng import content_keys
from assay.store.image_store import run_data
from assay.store.ledger import Ledger
from assay.store.load_report import studies_of
from assay.store.verdict import refuted, verdict
from assay.util.validate import described, nearest, reject


@dataclass(frozen=True)
class ComparedModel:
    """One side of a comparison: which samples of a model are robust under some attacks.

    Attributes:
        name: run and model.
        attacks: their names.
        budget: in words.
        keys: of the samples, by content.
        robust: which samples survived every attack; meaningful where `known`.
        known: which samples every attack reached.
    """

    name: str
    attacks: tuple[str, ...]
    budget: str
    keys: np.ndarray[Any, Any]
    robust: np.ndarray[Any, Any]
    known: np.ndarray[Any, Any]


@dataclass(frozen=True)
class PairedComparison:
    """Two sides over the same samples.

    Attributes:
        a: name of one.
        b: name of the other.
        budget: that both are under.
        n: samples.
        both: robust on both.
        only_a: robust on the first alone.
        only_b: robust on the second alone.
        p: of McNemar's exact test that neither is more robust.
        low: lower end of the 95 % interval of the difference of shares, a − b.
        high: its upper end.
        same_attacks: whether both were under the same attacks.
    """

    a: str
    b: str
    budget: str
    n: int
    both: int
    only_a: int
    only_b: int
    p: float
    low: float
    high: float
    same_attacks: bool

    @property
    def difference(self) -> float:
        """Robust accuracy of a minus that of b."""
        return (self.only_a - self.only_b) / self.n if self.n else 0.0


def pair_samples(a: ComparedModel, b: ComparedModel) -> PairedComparison:
    """Compare two sides.

    Raises:
        ValueError: they are not about the same samples, or no sample has a result on both.

    Source: McNemar, Psychometrika 12 (1947), in its exact form, a binomial test of the discordant pairs. The interval
    of the difference: Agresti & Min, Statistics in Medicine 24 (2005): Wald's, with half a sample added to each of the
    four counts.
    """
    from scipy.stats import binomtest

    ours, theirs = _places(a.keys), _places(b.keys)
    if ours.keys() != theirs.keys():
        shared = len(ours.keys() & theirs.keys())
        reject(
            "compare",
            "the same samples on both sides",
            described(f"{len(a.keys)} and {len(b.keys)}, of which {shared} are the same"),
        )
    order = np.array([theirs[key] for key in ours], dtype=int)
    known = a.known & b.known[order]
    if not known.any():
        reject(
            "compare",
            "samples that have a result on both sides (repeat the commands of the runs to finish them)",
            described(f"none of {len(known)}"),
        )
    x, y = a.robust[known], b.robust[order][known]
    n, only_a, only_b = int(known.sum()), int((x & ~y).sum()), int((~x & y).sum())
    p = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    total = n + 2
    shift = (only_a - only_b) / total
    spread = 1.96 * np.sqrt(max((only_a + only_b + 1) / total - shift**2, 0) / total)
    return PairedComparison(
        a.name,
        b.name,
        a.budget,
        n,
        int((x & y).sum()),
        only_a,
        only_b,
        float(p),
        max(shift - spread, -1.0),
        min(shift + spread, 1.0),
        a.attacks == b.attacks,
    )


def _places(keys: np.ndarray[Any, Any]) -> dict[tuple[int, int], int]:
    """The position of each sample by key and repetition; a repeated image is a new sample."""
    times: dict[int, int] = {}
    positions = {}
    for place, key in enumerate(keys.tolist()):
        times[key] = times.get(key, 0) + 1
        positions[key, times[key]] = place
    return positions


def compare(one: str | Path, other: str | Path | None = None, models: Sequence[str] = ()) -> list[PairedComparison]:
    """Compare the models of two runs that have the same name, or models of one run with each other.

    Args:
        one: a run's folder.
        other: another's; None to compare within the one.
        models: the models to compare; by default all that can be.

    Returns:
        One comparison a data set, budget and pair of models.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: nothing can be compared, or the samples are not the same.
    """
    mine = _sides(Path(one))
    theirs = mine if other is None else _sides(Path(other))
    names = list(dict.fromkeys(name for name, _, _ in (*mine, *theirs)))
    for name in models:
        if name not in names:
            reject("model", "one of " + ", ".join(names), described(f"{name!r}{nearest(name, names)}"))
    selected = _select_pairs(models, names, across=other is not None)
    single_data = len({data for _, data, _ in mine}) == 1 == len({data for _, data, _ in theirs})
    pairs = []
    for (model, data, budget), side in mine.items():
        for (second, other_data, other_budget), against in theirs.items():
            same_question = budget == other_budget and (data == other_data or single_data)
            if same_question and (model, second) in selected:
                pairs.append(pair_samples(side, against))
    if not pairs:
        budgets = ", ".join(dict.fromkeys(budget for _, _, budget in (*mine, *theirs)))
        got = described(f"models {', '.join(names)}; budgets {budgets}")
        reject("compare", "two models under a budget that both were attacked with", got)
    return pairs


def _select_pairs(models: Sequence[str], names: Sequence[str], *, across: bool) -> set[tuple[str, str]]:
    """Which pairs are asked for: the same model in two runs, or each with each later one."""
    if across and len(models) < 2:
        return {(name, name) for name in models or names}
    chosen = list(models) or list(names)
    return {(a, b) for i, a in enumerate(chosen) for b in chosen[i + 1 :]}


def _sides(folder: Path) -> Mapping[tuple[str, str, str], ComparedModel]:
    """Each model on each data set under each budget that is claimed."""
    sides = {}
    with Ledger(folder) as ledger:
        data_info = ledger.data()
        studies = studies_of(folder, ledger)
        used = [digest for digest in data_info if any(entry.data == digest for entry, _ in ledger.plan())]
    for digest, study in zip(used, studies, strict=True):
        data = run_data(folder, digest, data_info[digest])
        keys = content_keys(data.images(), data.y).numpy()
        for model in study.models:
            for budget in study.headline or dict.fromkeys(cell.budget for cell in study.cells):
                cells = tuple(c for c in study.of(model) if c.budget == budget and c.curve is None)
                if not cells:
                    continue
                model_verdict = verdict(model, cells, len(study), refuted(study, model, cells))
                side = ComparedModel(
                    f"{folder.name}: {model}",
                    tuple(c.attack for c in model_verdict.cells),
                    budget,
                    keys,
                    (model_verdict.status == int(Status.SURVIVED)).numpy(),
                    (model_verdict.status != int(Status.NOT_RUN)).numpy(),
                )
                sides[model, data_info[digest]["name"], budget] = side
    return sides
