"""Choose the samples of the gallery."""

from dataclasses import dataclass

from assay.core.outcome import Status
from assay.report.table import columns
from assay.store.results import Study
from assay.util.validate import whole

# What is worth seeing first. Not-run samples have nothing to show.
_ORDER = (Status.BROKEN, Status.SURVIVED, Status.MISCLASSIFIED, Status.INVALID, Status.ERROR)
_OFTEN = (Status.BROKEN, Status.BROKEN, Status.SURVIVED)
_CARDS, _GROUPS = 60, 120
_VALUES = _CARDS * 3 * 96 * 96


@dataclass(frozen=True)
class Pick:
    """One card of the gallery.

    Attributes:
        cell: index into ``study.cells``.
        sample: index into the samples.
        status: how the sample ended there.
    """

    cell: int
    sample: int
    status: Status


def choose(study: Study, cards: int | None = None, *, among: int = 1) -> tuple[Pick, ...]:
    """Choose samples so that every outcome of every attack on every model is seen, and few are seen twice.

    First one sample for each (model, attack, outcome) that occurs; then in turn two broken ones and a survivor of each
    attack until there are enough. Within a group, the sample and the class shown least so far come first.

    Args:
        study: the study.
        cards: most cards; None for 60 of up to 96 × 96 pixels and fewer of larger ones, but one for each combination
            (120 at most). Fewer cards than combinations leave some out, survivors and misclassified ones first.
        among: how many studies share one page. What one page can hold by default, they share.

    Returns:
        Picks in the order to show them; the same study gives the same picks.
    """
    groups = _groups(study)
    if cards is None:
        cards = _default(study, len(groups), whole("among", among, least=1))
    whole("cards", cards)
    labels = study.y.tolist()
    shown_per_sample: dict[int, int] = {}
    shown_per_class: dict[int, int] = {}
    picks: list[Pick] = []

    def take(key: tuple[int, Status]) -> None:
        candidates = groups[key]
        if not candidates or len(picks) >= cards:
            return
        best = min(candidates, key=lambda i: (shown_per_sample.get(i, 0), shown_per_class.get(labels[i], 0), i))
        candidates.remove(best)
        shown_per_sample[best] = shown_per_sample.get(best, 0) + 1
        shown_per_class[labels[best]] = shown_per_class.get(labels[best], 0) + 1
        picks.append(Pick(key[0], best, key[1]))

    for status in _ORDER:
        for key in [key for key in groups if key[1] is status]:
            take(key)
    cells = list(dict.fromkeys(cell for cell, _ in groups))
    while len(picks) < cards and any(groups[key] for key in groups if key[1] in _OFTEN):
        for status in _OFTEN:
            for cell in cells:
                if (cell, status) in groups:
                    take((cell, status))
    return tuple(picks)


def _default(study: Study, groups: int, among: int) -> int:
    """As many cards as there is room for, or one for each group: in all 120 of those, more if the images are small."""
    room = _VALUES // among // max(1, study.x[0].numel() if len(study) else 1)
    return max(min(_CARDS, room), min(groups, max(_GROUPS // among, min(_GROUPS, room))))


def _groups(study: Study) -> dict[tuple[int, Status], list[int]]:
    """Samples by (cell, status), attacks before models, so that neighbours differ."""
    groups: dict[tuple[int, Status], list[int]] = {}
    for column in columns(study):
        for cell in column.cells.values():
            codes = study.cells[cell].outcome.status
            for status in _ORDER:
                members = (codes == int(status)).nonzero().flatten().tolist()
                if members:
                    groups[(cell, status)] = members
    return groups
