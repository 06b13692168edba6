"""The checks by name: a new one is a function and a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from assay.trust import consistency, defence, effort, gradients, model_state, outputs, reporting, results
from assay.trust.answer import CheckResult
from assay.trust.failure_indicators import in_numbers, more_passes, rehearse_indicators
from assay.trust.known_answers import known_model, other_library
from assay.trust.origin import named_data
from assay.trust.planting.planted import planted, rehearse_planted
from assay.trust.refusals import detector_counts
from assay.trust.rivals.baselines import beats_noise, beats_one_step, beats_queries, beats_transfer
from assay.trust.rivals.real_model import beats_labels, rehearse_labels, surrogate_agrees
from assay.trust.rivals.stored_images import beats_stored
from assay.trust.rivals.students import beats_student, rehearse_students
from assay.trust.rivals.targets import all_targets
from assay.trust.rivals.together import together
from assay.trust.same_answer import same_answer
from assay.trust.samples import fair, label_at_the_edge, masks_belong
from assay.trust.slopes import correct
from assay.util.registry import Registry, instance_of


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        ask: the function of a context, or of a context and one attack result.
        title: a few words.
        source: where it was proposed.
        each: whether it runs once per claimed result.
        before: whether it can run before any attack.
        slow: whether it reruns attacks.
        condemns: whether it reruns attacks and can still find that the number is not about what it claims.
        of_answers: whether it reads what other checks have answered, and nothing else.
        rehearse: runs the attacks that ``ask`` runs at most, with ``context.run``, and nothing else; where None,
            ``ask`` itself is gone through to say beforehand what it costs, so that one is needed where it works
            much beside its attacks.
    """

    ask: Callable[..., CheckResult]
    title: str
    source: str
    each: bool = False
    before: bool = False
    slow: bool = False
    condemns: bool = False
    of_answers: bool = False
    rehearse: Callable[..., None] | None = None


def _model_check(ask: Callable[..., CheckResult], title: str, source: str) -> Check:
    return Check(ask, title, source, before=True)


def _per_attack_check(ask: Callable[..., CheckResult], title: str, source: str, **more: Any) -> Check:
    return Check(ask, title, source, each=True, **more)


def _overall_check(ask: Callable[..., CheckResult], title: str, source: str, **more: Any) -> Check:
    return Check(ask, title, source, **more)


_GRAVE = {"slow": True, "condemns": True}
_CARLINI = "Carlini et al. 2019"
_ATHALYE = "Athalye et al. 2018"
_PINTOR = "Pintor et al. 2022"
_AUTO = "Croce & Hein 2020, AutoAttack's checks"

CHECKS: Registry[Check] = Registry(
    "check",
    {
        "A1": _model_check(model_state.frozen, "evaluation mode, frozen state", "TRADES issue 3; foolbox issue 74"),
        "A2": _model_check(model_state.deterministic, "deterministic", _AUTO),
        "A3": _model_check(model_state.batch_invariant, "independent of the batch", "TRADES issue 3"),
        "A4": _model_check(outputs.logits, "logits", _AUTO),
        "A5": _model_check(gradients.differentiable, "differentiable", f"{_ATHALYE}; {_PINTOR}"),
        "A6": _model_check(gradients.vanishing, "gradients do not vanish", "Lee et al. 2020; AutoAttack issue 44"),
        "A7": _model_check(correct, "gradients are right", _ATHALYE),
        "A8": _model_check(gradients.rough, "smooth surface", _PINTOR),
        "A9": _model_check(model_state.no_optimisation, "no optimisation inside", f"{_AUTO}; RobustBench"),
        "A10": _model_check(outputs.pixels, "input range", "RobustBench issues 59, 105"),
        "A11": _model_check(outputs.labels, "labels in order", f"{_CARLINI}; ImageNetV2 issue 4"),
        "A12": _model_check(outputs.reference, "clean accuracy matches the reference", _CARLINI),
        "A13": _model_check(same_answer, "the same answer however asked", "our own; Athalye et al. 2018"),
        "B1": _per_attack_check(results.reverified, "adversarial images verified", "nn_robust_attacks issue 22"),
        "B2": _per_attack_check(results.inside, "inside the budget", "AttackBench 2025"),
        "B3": _per_attack_check(results.as_bytes, "as 8-bit images", "our own"),
        "B4": _per_attack_check(results.apart, "clean errors apart", _CARLINI),
        "B5": _per_attack_check(results.best_kept, "best image kept", f"{_PINTOR}; AttackBench 2025"),
        "B6": _per_attack_check(effort.converged, "converged in steps", f"{_PINTOR}; {_CARLINI}", slow=True),
        "B7": _per_attack_check(effort.restarted, "converged in restarts", _CARLINI, slow=True),
        "B8": _per_attack_check(effort.step_size, "step size", _CARLINI, slow=True),
        "B9": _per_attack_check(results.spent, "cost", "AttackBench 2025"),
        "B10": _per_attack_check(results.complete, "nothing hidden", "AttackBench 2025"),
        "B11": _per_attack_check(results.moved, "images were changed", "AutoAttack issue 64"),
        "B12": _per_attack_check(
            in_numbers, "indicators of attack failure", _PINTOR, slow=True, rehearse=rehearse_indicators
        ),
        "B13": _per_attack_check(more_passes, "what more would break", "our own"),
        "C1": _per_attack_check(
            consistency.no_budget,
            "zero budget breaks nothing",
            "torchattacks issues 124, 172",
            **_GRAVE,
        ),
        "C2": _per_attack_check(consistency.monotone, "grows with the budget", f"{_CARLINI}; ART issue 840", **_GRAVE),
        "C3": _overall_check(
            consistency.unbounded,
            "unbounded attack breaks everything",
            f"{_CARLINI}; {_PINTOR}",
            **_GRAVE,
        ),
        "C4": _overall_check(beats_one_step, "better than one step", _ATHALYE, slow=True),
        "C5": _overall_check(beats_queries, "better than queries", _ATHALYE, slow=True),
        "C6": _overall_check(beats_noise, "better than noise", _CARLINI, slow=True),
        "C7": _overall_check(beats_transfer, "better than transfer", _CARLINI),
        "C8": _overall_check(all_targets, "better with targets", _CARLINI, slow=True),
        "C9": _overall_check(consistency.per_sample, "worst case per sample", f"{_CARLINI}; AutoAttack issue 45"),
        "C10": _overall_check(consistency.diverse, "attacks of several kinds", _CARLINI, slow=True),
        "C11": _overall_check(
            planted, "planted vulnerability found", "Zimmermann et al. 2022", slow=True, rehearse=rehearse_planted
        ),
        "C12": _per_attack_check(known_model, "works where the answer is known", _CARLINI, **_GRAVE),
        "C13": _overall_check(other_library, "agrees with another library", "torchattacks issue 188", slow=True),
        "C14": _overall_check(
            beats_labels, "better than labels", f"{_CARLINI}; Chen et al. 2020", slow=True, rehearse=rehearse_labels
        ),
        "C15": _overall_check(
            beats_student, "better than a student", "Papernot et al. 2017", slow=True, rehearse=rehearse_students
        ),
        "C16": Check(together, "better than all rivals", "our own", slow=True, of_answers=True),
        "C17": _overall_check(beats_stored, "better than images as stored", "our own", slow=True),
        "D1": _overall_check(defence.enough_draws, "enough draws", _CARLINI, slow=True),
        "D1b": _overall_check(defence.frozen_draws, "broken with its draws frozen", _CARLINI, slow=True),
        "D2": _overall_check(defence.no_way_round, "non-differentiable parts attacked (BPDA)", _ATHALYE),
        "D3": _overall_check(detector_counts, "detector evaded, too", "Tramèr et al. 2020", slow=True, condemns=True),
        "D4": _overall_check(defence.without_it, "broken without the defence", _CARLINI, slow=True),
        "D5": _overall_check(defence.declared, "knowledge declared", _CARLINI),
        "D6": _overall_check(surrogate_agrees, "the surrogate answers as the model", "our own"),
        "E1": _overall_check(reporting.interval, "interval", "Miller 2024"),
        "E2": _overall_check(reporting.seeds, "seeds", "AutoAttack issue 54"),
        "E3": _overall_check(reporting.written_down, "written down", _CARLINI),
        "E3b": _per_attack_check(reporting.units, "units of the budget", "AutoAttack issue 54"),
        "E4": _overall_check(fair, "choice of samples", "our own"),
        "E5": _per_attack_check(reporting.certified, "below certificates", _CARLINI, **_GRAVE),
        "E6": _overall_check(reporting.precision, "precision", "our own: half precision masks gradients", slow=True),
        "E7": _overall_check(masks_belong, "masks belong to images", "our own"),
        "E8": _overall_check(named_data, "images of the named data", "our own"),
        "E9": _overall_check(label_at_the_edge, "labels not at the edge", "our own"),
    },
    group="assay.checks",
    adapt=instance_of(Check, "docs/plugins.md"),
)
"""Every check, in the order in which it is asked."""
