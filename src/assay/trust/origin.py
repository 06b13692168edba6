"""E8: the images are those of the data set that is named, and no easier than its others."""

import torch
from torch import Tensor

from assay.core.types import Images, Labels
from assay.data.dataset import Dataset, pixels
from assay.trust.answer import CheckResult, inconclusive, passed, warning
from assay.trust.context import CheckContext
from assay.trust.gradients import margins_of

_CHUNK, _OTHERS, _LEAST = 512, 256, 20
_SAME_BYTE = 0.51 / 255
_RARELY = 1e-4


def named_data(context: CheckContext) -> CheckResult:
    """E8: each image is in the data set that is named, with its label and foreground, and no easier than others there.

    Margins of the clean answers are compared with those of up to 256 other images of the set by Mann and Whitney's
    test.
    """
    whole = context.whole
    if whole is None:
        return inconclusive(
            "nothing says which data set these images are of: training images, or images that were changed before, "
            "cannot be told from test images. Give it: CheckContext(…, whole=assay.data.load(…))"
        )
    name = whole.name or "the data set that is named"
    if whole.x is context.x:
        return passed(f"the images are those of {name}: all {len(whole)}")
    x, y = context.at(context.chosen).cpu(), context.y[context.chosen].cpu()
    if whole.x.shape[1:] != x.shape[1:]:
        return warning(f"{name} holds images of {tuple(whole.x.shape[1:])}, these are {tuple(x.shape[1:])}")
    place, apart = _nearest(x, whole.x)
    differing = {
        "are not in it: of another split, or changed": apart > _SAME_BYTE,
        "have another label there": whole.y[place] != y,
        "have another foreground there": _other_masks(context, whole, place),
    }
    for what, is_other in differing.items():
        if bool(is_other.any()):
            return warning(
                f"the images are said to be of {name}: {int(is_other.sum())} of {len(x)} {what}",
                float(is_other.float().mean()),
                0.0,
                tuple(context.chosen[is_other].tolist()),
            )
    rest = torch.ones(len(whole), dtype=torch.bool)
    rest[place] = False
    return _no_easier(context, whole.x[rest], whole.y[rest], name)


def _other_masks(context: CheckContext, whole: Dataset, place: Tensor) -> Tensor:
    if context.masks is None or whole.masks is None:
        return torch.zeros(len(place), dtype=torch.bool)
    return (whole.masks[place] != context.masks[context.chosen].bool()).flatten(1).any(1)


def _no_easier(context: CheckContext, x: Tensor, y: Labels, name: str) -> CheckResult:
    """Whether the model is as unsure of these images as of others."""
    from scipy.stats import mannwhitneyu  # slow to import, needed only here

    if len(x) < _LEAST or len(context.chosen) < _LEAST:
        return passed(f"the images are those of {name}")
    at = torch.linspace(0, len(x) - 1, min(_OTHERS, len(x))).round().long().unique()
    others = -margins_of(context.logits(pixels(x[at])), y[at].to(context.device))
    own = -margins_of(context.clean_logits, context.labels)
    chance = float(mannwhitneyu(own.cpu().numpy(), others.cpu().numpy(), alternative="greater").pvalue)
    if chance < _RARELY:
        return warning(
            f"the model is surer of these images than of {len(at)} others of {name} (by chance with p = {chance:.1g}): "
            "only easy images?",
            chance,
            _RARELY,
        )
    return passed(f"the images are those of {name}, and no easier ones (p = {chance:.2g})", chance, _RARELY)


def _nearest(x: Images, whole: Tensor) -> tuple[Tensor, Tensor]:
    """For each image the place of the nearest in a set, and by how much the value that differs most does."""
    parts = [torch.cdist(x.flatten(1), pixels(part).flatten(1)) for part in whole.split(_CHUNK)]
    place = torch.cat(parts, dim=1).argmin(1)
    apart: Tensor = (x - pixels(whole[place])).abs().flatten(1).amax(1)
    return place, apart
