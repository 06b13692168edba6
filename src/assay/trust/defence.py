"""D1 to D5: a defence is attacked together with what it defends."""

from torch import nn

from assay.core.expectation import Expectation
from assay.core.outcome import Status
from assay.trust.answer import Found, not_applicable, passed, warning
from assay.trust.exam import Exam, broken
from assay.trust.relations import kind_of
from assay.trust.results import GAIN


def enough_draws(exam: Exam) -> Found:
    """D1: twice the draws of the expectation break no more."""
    seen = exam.seen
    if not isinstance(seen, Expectation) or not exam.claims:
        return not_applicable("the model is not attacked in expectation")
    left = exam.survivors()
    if not len(left):
        return passed("no sample survives that more draws could break")
    before = seen.draws
    try:
        seen.draws = 2 * before
        found = exam.attacked(exam.claims[-1].planned.attack, left)
    finally:
        seen.draws = before
    new = left[broken(found)]
    share = len(new) / len(exam.chosen)
    if share > max(GAIN, 1.5 / len(exam.chosen)):
        return warning(f"with {2 * before} draws instead of {before} it breaks {len(new)} more of "
                       f"{len(exam.chosen)}: the "
                       "expectation is taken over too few", share, GAIN, tuple(new.tolist()))  # fmt: skip
    return passed(f"with {2 * before} draws instead of {before} it breaks {len(new)} more", share, GAIN)


def no_way_round(exam: Exam) -> Found:
    """D2: what lets no gradient through is attacked past (BPDA), and by queries."""
    how = exam.adaptation
    if how is None or "BPDA" not in how.how:
        return not_applicable("no part declares that it lets no gradient through")
    if not all(result.adapted for result in exam.results):
        return warning(f"attacked through a part without gradients as if it had some; it asks for: {how.how}")
    kinds = {kind_of(stage.attack) for result in exam.claims for stage in result.stages}
    if not kinds & {"scores", "labels"}:
        return warning("attacked past the part without gradients (BPDA), but not by queries: BPDA guesses a gradient. "
                       "Add an attack such as square")  # fmt: skip
    return passed("attacked past the part without gradients (BPDA), and by queries")


def detector_counts(exam: Exam) -> Found:
    """D3: success against a detector is to be wrong and accepted."""
    how = exam.adaptation
    if how is None or how.test is None:
        return not_applicable("the model refuses nothing")
    if not all(result.adapted for result in exam.results):
        return warning("the model can refuse images, but the attacks did not know it: a refused image counts as "
                       "withstood. Attack classifier and detector together")  # fmt: skip
    return passed(f"the attacks evade the detector, too: {how.how}")


def without_it(exam: Exam) -> Found:
    """D4: without the defence the attack succeeds; else it is the attack that fails."""
    inner = getattr(exam.model, "model", None)
    if exam.adaptation is None or not isinstance(inner, nn.Module) or not exam.claims:
        return not_applicable("there is no defence to take off")
    result = next((r for r in exam.claims if r.ball is not None), exam.claims[0])
    index = exam.chosen
    bare = Exam(inner, exam.x, exam.y, masks=exam.masks, samples=exam.samples, seed=exam.seed)
    outcome = bare.attacked(result.planned.attack, index)
    left = outcome.count(Status.SURVIVED) / max(len(index), 1)
    kept = float((result.outcome.status[index] == int(Status.SURVIVED)).float().mean())
    if left > kept + 0.1 and left > 0.2:
        return warning(f"without the defence {100 * left:.0f} % survive {result.label}, with it {100 * kept:.0f} %: "
                       "the attack is weak on the bare model already", left, kept)  # fmt: skip
    return passed(
        f"without the defence {100 * left:.0f} % survive {result.label}, with it {100 * kept:.0f} %", left, kept
    )


def declared(exam: Exam) -> Found:
    """D5: whether attacks knew of the defence is said."""
    how = exam.adaptation
    if how is None:
        return not_applicable("the model declares no defence")
    if all(result.adapted for result in exam.results):
        return passed(f"attacked in full knowledge of the defence: {how.how}")
    return warning(f"attacked without knowledge of the defence, so the number is no bound on its robustness: it asks "
                   f"for {how.how}")  # fmt: skip
