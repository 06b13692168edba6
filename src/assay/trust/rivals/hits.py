"""What it means that a rival breaks samples that every attack had left."""

from assay.core.types import Labels
from assay.trust.answer import CheckResult, passed, warning
from assay.trust.context import CheckContext
from assay.trust.effort import GAIN


def judge(context: CheckContext, hits: Labels, who: str, of: str, why: str) -> CheckResult:
    """One sample may be luck; more, and more than half a point, is a warning.

    Args:
        context: whose chosen samples they are a share of.
        hits: the samples that the rival broke, ``(m,)``.
        who: the rival, with its verb: ``one gradient step breaks``.
        of: what it was tried on: ``40 survivors within linf 8/255``.
        why: what it means if it is more than luck.

    Returns:
        An answer that has the samples in either case, so that rivals can be added up.
    """
    n = max(len(context.chosen), 1)
    share, threshold = len(hits) / n, max(GAIN, 1.5 / n)
    text, samples = f"{who} {len(hits)} of {of}", tuple(hits.tolist())
    if share > threshold:
        return warning(f"{text}, which every attack had left: {why}", share, threshold, samples)
    return passed(text, share, threshold, samples)
