"""Which grade planted failures and honest models get: the share of numbers that are too high and graded below standard.

Failures: ``tests/trust/failures`` (checks were written against these), ``tests/trust/held_out`` and
``tests/trust/second_half`` (planted by somebody who had not read the checks; mended after each was first run); honest
models: ``tests/trust/honest.py``, evaluated with ``standard``. Too high is more
than three points above what is true.
"""

import argparse
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import torch
from common import record

from assay.trust import grade, run_checks

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

TOO_HIGH = 0.03
BELOW = ("unusable", "weak")


def failures(half):
    """Grades of the failures of a half, row by row."""
    from trust.failures.base import reported

    if half == "seen":
        from trust.failures.seen import FAILURES
    elif half == "held_out":
        from trust.held_out import FAILURES
    else:
        from trust.second_half import FAILURES
    for failure in FAILURES:
        case, began = failure.make(), time.perf_counter()
        context = case.evaluated()
        said, true, spent = (
            float(reported(context).float().mean()),
            case.true_share(context),
            time.perf_counter() - began,
        )
        began = time.perf_counter()
        verdict = grade(run_checks(context, everything=False))
        yield {
            "name": failure.name,
            "kind": failure.kind,
            "reported": round(said, 3),
            "true": round(true, 3),
            "grade": verdict.grade,
            "why": list(verdict.why),
            "seconds": round(spent, 1),
            "seconds_of_checks": round(time.perf_counter() - began, 1),
        }


def honest():
    """Grades of the honest models, row by row."""
    from trust.cases import examined
    from trust.honest import HONEST

    for model in HONEST:
        x, y = model.pair()
        network, began = model.make(), time.perf_counter()
        context = examined(network, ("standard",), eps=model.eps, norm=model.norm, x=x, y=y)
        spent, began = time.perf_counter() - began, time.perf_counter()
        verdict = grade(run_checks(context, everything=False))
        yield {
            "name": model.name,
            "robust": round(float(context.counted[0].outcome.robust.float().mean()), 3),
            "grade": verdict.grade,
            "why": list(verdict.why),
            "seconds": round(spent, 1),
            "seconds_of_checks": round(time.perf_counter() - began, 1),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["seen", "held_out", "second_half", "honest"])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    for part in arguments.parts:
        rows = []
        for row in honest() if part == "honest" else failures(part):
            rows.append(row)
            print(row, flush=True)
        summary = {"grades": dict(Counter(row["grade"] for row in rows))}
        if part != "honest":
            high = [row for row in rows if row["reported"] - row["true"] > TOO_HIGH]
            summary |= {"too_high": len(high), "below_standard": sum(row["grade"] in BELOW for row in high)}
        print(part, summary)
        record(f"grades-{part}", {"threads": arguments.threads, **summary, "rows": rows})


if __name__ == "__main__":
    main()
