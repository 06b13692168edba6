"""What the trust checks cost beside the evaluation that they check: seconds and passes, and what was said beforehand.

64 samples; the checks end when the grade is decided, as `assay evaluate` has it, or all are asked (--all).
"""

import argparse
import time
import warnings

import torch
from common import record
from ladder import images, network, rungs

import assay
from assay.attacks.plan import plan
from assay.trust import AttackResult, CheckContext, run_checks
from assay.trust.forecast import forecast
from assay.trust.grading import grade
from assay.trust.running import check_requests


def timed(work):
    began = time.perf_counter()
    result = work()
    return result, round(time.perf_counter() - began, 2)


def measured(rung, suite, count, everything):
    model, data = network(rung), images(rung.data, "test", count)
    x, y, planned = data.images(), data.y, plan(suite, eps=rung.eps, norm=rung.norm)
    outcome, seconds = timed(lambda: assay.attack(model, x, y, planned.attack, preflight=False))
    passes = []

    def counted(*arguments, **named):
        again = assay.attack(*arguments, **named)
        passes.append(int((again.forwards + again.backwards).sum()))
        return again

    recorded = dict.fromkeys(("model", "data", "code", "torch", "seed"), "known")
    result = AttackResult(planned, outcome, lambda i: outcome.images[i])
    context = CheckContext(model, x, y, (result,), recorded=recorded, run=counted)
    said, rehearsal = timed(lambda: forecast(context, check_requests(1)))
    answers, checking = timed(lambda: run_checks(context, everything=everything))
    return {
        "network": rung.name,
        "suite": suite,
        "robust": int(outcome.robust.sum()),
        "evaluation_s": seconds,
        "checks_s": checking,
        "of_evaluation": round(checking / seconds, 2),
        "forecast_s": rehearsal,
        "passes_said": said.passes,
        "passes": sum(passes),
        "grade": grade(answers).grade,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--networks",
        nargs="*",
        default=["fashion-cnn-pgd-at", "fashion-cnn-plain", "fashion-residual-pgd-at", "cifar10-cnn-pgd-at"],
    )
    parser.add_argument("--suites", nargs="*", default=["standard", "fast"])
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    rows = []
    for rung in rungs():
        for suite in arguments.suites if rung.name in arguments.networks else ():
            rows.append(measured(rung, suite, arguments.n, arguments.all))
            print(rows[-1], flush=True)
    record("checks", {"n": arguments.n, "all": arguments.all, "rows": rows})


if __name__ == "__main__":
    main()
