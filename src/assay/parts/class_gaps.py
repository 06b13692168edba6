"""How far the logits of wrong classes are behind, and how the image changes that."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.core.oracle import Oracle
from assay.core.rows import Rows, split_logit
from assay.core.types import Count, Images, Labels, Logits
from assay.util.validate import reject


def ranked_rivals(rows: Rows, logits: Logits, classes: int | None = None) -> tuple[Int[Tensor, "b m"], Count]:
    """The wrong classes of each row, the closest in logits first, and how many of them count.

    Args:
        rows: the rows; where one has an aim, that comes first and is the only one that counts.
        logits: by which to rank, ``(b, k)``.
        classes: how many to rank at most; None for all.

    Returns:
        Classes, ``(b, m)``, and how many of each row count, ``(b,)``.
    """
    goal = rows.goal
    if goal.kind in ("towards", "exact"):
        return goal.focus, torch.ones_like(goal.label)
    many = logits.shape[1] - 1 if classes is None else min(classes, logits.shape[1] - 1)
    others = split_logit(logits, goal.label)[1]
    if goal.kind == "away":
        return _ranked(others)[:, :many], torch.full_like(goal.label, many)
    aimed = goal.aim >= 0
    others = torch.where(
        aimed[:, None], others.scatter(1, goal.aim.clamp_min(0)[:, None], torch.finfo(others.dtype).max), others
    )
    if len(rows) and bool(aimed.all()):
        many = 1
    return _ranked(others)[:, :many], torch.where(aimed, 1, many)


def _ranked(logits: Logits) -> Labels:
    return logits.argsort(dim=1, descending=True, stable=True)


def differences(
    rows: Rows, image: Images, oracle: Oracle, classes: int | None = None
) -> tuple[Float[Tensor, "b m"], Float[Tensor, "b m c h w"]]:
    """``z_k − z_label`` and its gradient for the wrong classes k of each row.

    Where every row has an aim, it is the only class; one pass backward instead of one for each class.

    Args:
        rows: the rows, with their clean logits (`Rows.reference`).
        image: where to look, ``(b, c, h, w)``.
        oracle: the model.
        classes: only the ``classes`` wrong classes that are most likely on the clean image; None for all.

    Returns:
        Differences, ``(b, m)``, infinite for classes that a row is not after, and gradients, ``(b, m, c, h, w)``.
    """
    if rows.reference is None:
        reject("rows.reference", "the logits of the clean images", None)
    others, count = ranked_rivals(rows, rows.reference, classes)
    logits, grads = oracle.jacobian(image, others, rows, against=rows.goal.label)
    gaps = logits.gather(1, others) - logits.gather(1, rows.goal.label[:, None])
    if rows.goal.kind != "mixed":
        return gaps, grads
    beyond = torch.arange(others.shape[1], device=gaps.device)[None] >= count[:, None]
    return torch.where(beyond, torch.inf, gaps), grads
