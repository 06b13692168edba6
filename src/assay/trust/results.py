"""B1 to B5, B9 to B11: each attack result is valid."""

import torch

from assay.core.outcome import TOLERANCE, Status
from assay.trust.again import broken
from assay.trust.answer import CheckResult, inconclusive, issue, not_applicable, passed, warning
from assay.trust.context import AttackResult, CheckContext

_CLEAR = 1e-3
_TRIES, _OFTEN = 10, 0.5
_BATCH = 37


def reverified(context: CheckContext, result: AttackResult) -> CheckResult:
    """B1: adversarial images still fool the model, in float32 and in another batch."""
    index, images = _images(context, result)
    if not len(index):
        return _without_images(result)
    target = result.outcome.target[index]
    if context.is_random:
        share = float(torch.stack([context.fools(index, images, target, _BATCH).float() for _ in range(_TRIES)]).mean())
        if share < _OFTEN:
            return issue(
                f"the model is random, and images that are said to fool it do so {100 * share:.0f} % of the "
                "time: luck was counted",
                share,
                _OFTEN,
                about=result.label,
            )
        return passed(
            f"{len(index)} adversarial images were shown to the model again {_TRIES} times: they fool it "
            f"{100 * share:.0f} % of the time",
            share,
            _OFTEN,
            about=result.label,
        )
    fools = context.fools(index, images, target, _BATCH)
    spread = float(context.clean_logits.std(1).median()) if len(context.chosen) else 1.0
    clear = result.outcome.margin[index] > _CLEAR * spread
    wrong = index[~fools & clear]
    if len(wrong):
        return issue(
            f"{len(wrong)} of {len(index)} images that are said to fool the model do not",
            float(len(wrong)),
            0.0,
            tuple(wrong.tolist()),
            result.label,
        )
    near = int((~fools).sum())
    return passed(
        f"{len(index)} adversarial images were shown to the model again in other batches: "
        f"{len(index) - near} "
        f"fool it, {near} lie on the boundary",
        float(near),
        about=result.label,
    )


def inside(context: CheckContext, result: AttackResult) -> CheckResult:
    """B2: inside the budget and the box, and finite."""
    index, images = _images(context, result)
    size = result.outcome.size[broken(result.outcome)]
    over = int((size > 1 + TOLERANCE).sum())
    if over:
        return issue(
            f"{over} samples were broken by perturbations larger than the budget (up to "
            f"{float(size.nan_to_num().max()):.3g} budgets)",
            float(over),
            0.0,
            about=result.label,
        )
    if len(index):
        bad = ~images.isfinite() | (images < 0) | (images > 1)
        count = int(bad.flatten(1).any(1).sum())
        if count:
            return issue(
                f"{count} adversarial images leave [0, 1] or are not finite", float(count), 0.0, about=result.label
            )
        ball = result.ball
        if ball is not None:
            delta = (images.cpu().double() - context.at(index).cpu().double()).flatten(1)
            order = {"linf": torch.inf, "l2": 2, "l1": 1}[ball.norm]
            most = float(torch.linalg.vector_norm(delta, ord=order, dim=1).max())
            if most > ball.eps * (1 + TOLERANCE) + 1e-6:
                return issue(
                    f"a perturbation measures {most:.6g}, the budget is {ball.eps:.6g}",
                    most,
                    ball.eps,
                    about=result.label,
                )
        return passed(
            "every perturbation that counts is finite, inside the budget and inside [0, 1]", about=result.label
        )
    if broken(result.outcome).any():
        return passed(
            "every perturbation that counts is inside the budget, as it was measured then (no image was kept)",
            about=result.label,
        )
    return not_applicable("no sample was broken")


def as_bytes(context: CheckContext, result: AttackResult) -> CheckResult:
    """B3: how many survive being written as an 8-bit image. For information."""
    index, images = _images(context, result)
    if not len(index):
        return not_applicable("no adversarial image was kept")
    rounded = (images * 255).round() / 255
    fools = context.fools(index, rounded, result.outcome.target[index]).sum()
    return passed(
        f"{int(fools)} of {len(index)} adversarial images still fool it when rounded to 8 bits",
        int(fools) / len(index),
        about=result.label,
    )


def apart(context: CheckContext, result: AttackResult) -> CheckResult:
    """B4: samples misclassified before the attack are not counted as broken."""
    outcome = result.outcome
    run = outcome.predicted_clean >= 0
    wrong = run & (outcome.predicted_clean != outcome.y)
    mixed = int((wrong != (run & (outcome.status == int(Status.MISCLASSIFIED)))).sum())
    if mixed:
        return issue(
            f"{mixed} samples that were wrong before the attack are counted as if it had broken them",
            float(mixed),
            0.0,
            about=result.label,
        )
    return passed(f"{int(wrong.sum())} samples were wrong before the attack, and are counted apart", about=result.label)


def best_kept(context: CheckContext, result: AttackResult) -> CheckResult:
    """B5: the best image on the way is kept. Holds by construction."""
    return passed("the engine keeps the best image on each sample's way, and measures it itself", about=result.label)


def spent(context: CheckContext, result: AttackResult) -> CheckResult:
    """B9: what it cost. For information."""
    outcome = result.outcome
    n = max(len(outcome) - outcome.count(Status.NOT_RUN), 1)
    return passed(
        f"{int(outcome.forwards.sum()) / n:.1f} forward and {int(outcome.backwards.sum()) / n:.1f} backward "
        f"passes a sample, {1000 * outcome.seconds / n:.1f} ms",
        about=result.label,
    )


def complete(context: CheckContext, result: AttackResult) -> CheckResult:
    """B10: no exception, no NaN and no interruption is hidden."""
    outcome = result.outcome
    total = sum(outcome.counts.values())
    if total != len(outcome):
        return issue(
            f"the six counts add up to {total} of {len(outcome)}", float(total), float(len(outcome)), about=result.label
        )
    odd = {s.label: outcome.count(s) for s in (Status.INVALID, Status.ERROR, Status.NOT_RUN) if outcome.count(s)}
    if odd:
        text = ", ".join(f"{count} {label}" for label, count in odd.items())
        at = (outcome.status >= int(Status.INVALID)).nonzero().squeeze(1)
        return issue(
            f"{text} of {len(outcome)} samples: they are neither robust nor broken",
            float(sum(odd.values())),
            0.0,
            tuple(at.tolist()[:100]),
            result.label,
        )
    return passed("every sample ended as wrong, broken or survived", about=result.label)


def moved(context: CheckContext, result: AttackResult) -> CheckResult:
    """B11: the attack changed images at all."""
    outcome = result.outcome
    tried = outcome.status == int(Status.SURVIVED)
    attacked = tried | broken(outcome)
    if not int(attacked.sum()):
        return not_applicable("no sample was attacked")
    spent_none = attacked & (outcome.forwards + outcome.backwards == 0)
    still = tried & (outcome.norm("linf") == 0)
    keeps = _keeps_start(result)
    if int(spent_none.sum()) or (int(tried.sum()) and int(still.sum()) == int(tried.sum()) and not keeps):
        count = max(int(spent_none.sum()), int(still.sum()))
        return issue(
            f"{count} of {int(attacked.sum())} attacked images were left as they were",
            float(count),
            0.0,
            about=result.label,
        )
    share = int(still.sum()) / int(attacked.sum())
    if share > 0.5 and not keeps:
        return warning(f"{100 * share:.0f} % of attacked images end as they began", share, 0.5, about=result.label)
    return passed(
        f"{int(still.sum())} of {int(attacked.sum())} attacked images end as they began", share, 0.5, about=result.label
    )


def _keeps_start(result: AttackResult) -> bool:
    """Whether what is kept of a survivor is its clean image: what went astray beyond the budget is not kept."""
    return result.budget is None or all(stage.attack.traits.minimises for stage in result.stages)


def _images(context: CheckContext, result: AttackResult) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples that were broken and whose images were kept, and those images; at most four times the chosen number.

    They are spread evenly over all that were broken.
    """
    at = broken(result.outcome).nonzero().squeeze(1)
    most = 4 * context.samples
    at = at if len(at) <= most else at[torch.linspace(0, len(at) - 1, most).long()]
    kept = [(i, image) for i in at.tolist() if (image := result.image(i)) is not None]
    if not kept:
        return torch.zeros(0, dtype=torch.int64), context.at(torch.arange(0))
    return torch.tensor([i for i, _ in kept]), torch.stack([image for _, image in kept])


def _without_images(result: AttackResult) -> CheckResult:
    if broken(result.outcome).any():
        return inconclusive(
            "no adversarial image was kept (run.images: none): nothing can be shown again", result.label
        )
    return not_applicable("no sample was broken")
