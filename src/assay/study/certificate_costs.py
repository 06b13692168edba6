"""What the certificates of a study cost: a few images of each model and budget are certified, and timed."""

import math
import time
from collections.abc import Iterator, Mapping

import torch

from assay.certify.api import certified
from assay.certify.bounding import BranchAndBound
from assay.certify.registry import certifiers
from assay.core.geometry import Geometry
from assay.core.model_calls import classify
from assay.runs.certify import budgets_of
from assay.study.attack_plan import beside_plans, curve_plans, plans
from assay.study.costs import PartForecast
from assay.study.plan import StudyPlan, Use
from assay.util.progress import Reporter

_TRIAL_SAMPLES = 2


def certificate_costs(
    plan: StudyPlan, left: Mapping[tuple[str, str, str], int], reporter: Reporter
) -> Iterator[PartForecast]:
    """A part for each model and budget.

    Branch and bound counts with all the time that it may take for each sample. Where the model is not trained yet, its
    network is timed with random weights.

    Args:
        plan: the study.
        left: samples without certificates, by names of data, model and budget; all of them where it says nothing.
        reporter: receives what is timed.
    """
    if not plan.config.certify:
        return
    budgets = budgets_of(plans(plan.config), [*beside_plans(plan.config), *curve_plans(plan.config)])
    for name, data in plan.described:
        for budget, (geometry, _) in budgets.items():
            count = left.get((data, name, budget), len(plan.datasets[data].test))
            what = f"{name}, {budget}"
            if not count:
                yield PartForecast("certificates", what, data, "kept", 0.0, 0.0)
                continue
            reporter.note(f"timing certificates of {what}")
            state, seconds = _timed(plan, (name, data), geometry)
            yield PartForecast("certificates", what, data, state, 0.0, count * seconds)


def _timed(plan: StudyPlan, use: Use, geometry: Geometry) -> tuple[str, float]:
    """What is to be done, and seconds a sample; NaN of a defence that is not there."""
    model, there, data = plan.described[use], plan.models.get(use), plan.datasets[use[1]].test
    if there is None and model.adaptation is not None:
        return "to be done", math.nan
    network = (model.network if there is None else there.source.load()).to(plan.settings.device).eval()
    chosen = certifiers(plan.config.certify)
    seconds = sum(each.seconds for each in chosen if isinstance(each, BranchAndBound))
    x = data.images(slice(0, _TRIAL_SAMPLES))
    mask = data.masks[:_TRIAL_SAMPLES] if data.masks is not None and geometry.needs else None
    try:
        with torch.no_grad():
            labels = classify(network, x.to(plan.settings.device)).argmax(1).cpu()  # a wrong one would not be bounded
        certified(network, x[:1], labels[:1], "ibp", eps=geometry, mask=None if mask is None else mask[:1])  # reads it
        for certifier in (each for each in chosen if not isinstance(each, BranchAndBound)):
            began = time.monotonic()
            certified(network, x, labels, certifier, eps=geometry, mask=mask)
            seconds += (time.monotonic() - began) / max(len(x), 1)
    except (ValueError, TypeError) as error:
        return f"not possible: {error}", 0.0
    return "to be done", seconds
