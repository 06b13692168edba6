"""Best, average and worst case of a targeted attack over all target labels."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assay.core.call_context import in_neutral_context
from assay.core.combinators import AnyAttack
from assay.core.model_calls import Classifier, classify
from assay.core.model_state import preserve_state
from assay.core.outcome import MEASURES, Outcome, Status
from assay.core.rng import Rng, content_keys
from assay.core.types import Images, Labels
from assay.engine.api import attack as run
from assay.util.validate import one_of

CASES = ("best", "average", "worst")


@dataclass(frozen=True)
class OverTargets:
    """A targeted attack at every wrong label of every sample that is classified correctly.

    Attributes:
        outcome: the record, target by target within each sample, ``(n · (k − 1))``.
        picked: for each case the place of each sample's target in the record, ``(n,)``.
        classes: number of classes.
    """

    outcome: Outcome
    picked: dict[str, Tensor]
    classes: int

    def case(self, name: str) -> Outcome:
        """The record of one case: ``"best"``, ``"average"`` or ``"worst"``."""
        return self.outcome.take(self.picked[one_of("name", name, CASES)])

    def frame(self) -> list[dict[str, Any]]:
        """One record a case: success rate, and the mean of each norm over the successes (NaN if there is none)."""
        rows = []
        for name in CASES:
            part = self.case(name)
            hit = part.status == int(Status.BROKEN)
            means = {norm: part.norm(norm)[hit].mean().item() if bool(hit.any()) else float("nan") for norm in MEASURES}
            rows.append({"case": name, "n": len(part), "success": part.success_rate, **means})
        return rows

    def __str__(self) -> str:
        """A table for a terminal."""
        head = f"{'case':<8} {'success':>8} " + " ".join(f"{m:>9}" for m in MEASURES)
        lines = [
            f"{r['case']:<8} {100 * r['success']:>7.1f}% " + " ".join(f"{r[m]:>9.4g}" for m in MEASURES)
            for r in self.frame()
        ]
        return "\n".join([f"{self.outcome.name}, n = {len(self.picked['best'])}", head, *lines])


@in_neutral_context
def over_targets(
    model: Classifier, x: Images, y: Labels, attack: AnyAttack, *, norm: str = "l2", seed: int = 0, **settings: Any
) -> OverTargets:
    """Attack every sample towards every wrong label, and say how easy the easiest, a random and the hardest one is.

    Samples that are not classified correctly are left out. A label that was not reached is harder than any that was.

    Args:
        model: maps images in [0, 1] to logits.
        x: images, ``(n, c, h, w)``.
        y: labels, ``(n,)``.
        attack: one that can be targeted.
        norm: measures how hard a target is; one of `Outcome.norm`'s.
        seed: of all random draws, the random label among them.
        settings: passed to `assay.attack`.

    Returns:
        The `OverTargets`.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
        >>> x = torch.rand(4, 1, 2, 2)
        >>> from assay.attacks import FMN
        >>> [row["case"] for row in over_targets(model, x, model(x).argmax(1), FMN(20), preflight=False).frame()]
        ['best', 'average', 'worst']

    Source: Xu et al., "Structured adversarial attack", ICLR 2019, appendix F and table 1; Carlini & Wagner, S&P 2017,
    section V.
    """
    one_of("norm", norm, MEASURES)
    with preserve_state(model), torch.no_grad():
        logits = torch.cat([classify(model, part) for part in x.split(256)]) if len(x) else torch.zeros(0, 2)
    right = (logits.argmax(1).cpu() == y.cpu()).nonzero().squeeze(1)
    classes = logits.shape[1]
    kept_x, kept_y = x[right.to(x.device)], y[right.to(y.device)]
    labels = kept_y.cpu()
    offsets = torch.arange(1, classes)
    targets = (labels[:, None] + offsets) % classes
    each = classes - 1
    outcome = run(
        model,
        kept_x.repeat_interleave(each, 0),
        kept_y.repeat_interleave(each, 0),
        attack,
        target=targets.flatten(),
        seed=seed,
        **settings,
    )
    hard = torch.where(outcome.status == int(Status.BROKEN), outcome.norm(norm), torch.inf).view(len(labels), each)
    keys = content_keys(kept_x, kept_y)
    random = (Rng(seed).uniform(keys, (1,), "target").squeeze(1) * each).long().clamp_max(each - 1)
    base = torch.arange(len(labels)) * each
    picked = {"best": base + hard.argmin(1), "average": base + random, "worst": base + hard.argmax(1)}
    return OverTargets(outcome, picked, classes)
