"""Whether the estimate of what more passes would break covers what they do break.

Honest networks (``tests/trust/honest.py``), attacked by ``standard``. The estimate is made twice: from a tenth of the
passes of that run (what was broken later counts as left), and from ``fast``, of the passes that ``standard``
takes more. Covered: the share that more passes broke lies within the estimate's 90 % interval.
"""

import argparse
import dataclasses
import sys
import time
import warnings
from pathlib import Path

import torch
from common import record

import assay
from assay.attacks.plan import plan
from assay.core.outcome import Status
from assay.trust.more import estimate

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

NETWORKS = (
    "tiny-cnn",
    "tiny-cnn, PGD-AT",
    "tiny-cnn, PGD-AT, l2",
    "vision transformer",
    "vision transformer, PGD-AT",
    "MLP",
    "MLP, PGD-AT",
    "digits",
    "digits, PGD-AT",
    "digits, PGD-AT, l2",
    "dropout",
    "group normalisation, GELU",
    "label smoothing",
    "squared loss",
)


def attacked(model, network, suite):
    """Passes until each sample was broken or given up, and how it ended."""
    x, y = model.pair()
    outcome = assay.attack(network, x, y, plan(suite, eps=model.eps, norm=model.norm).attack, preflight=False)
    return outcome.forwards + outcome.backwards, outcome.status


def compared(passes, is_broken, is_left, broken_later, times):
    """An estimate beside what more passes broke."""
    n, more = len(passes), float(broken_later.sum()) / len(passes)
    value = estimate(passes[is_broken], passes[is_left], n, times)
    covered = value.low - 1e-9 <= more <= value.high + 1e-9
    return {
        "left": int(is_left.sum()),
        "times": round(times, 1),
        "broken_by_more": round(more, 4),
        "estimated": round(value.share, 4),
        "low": round(value.low, 4),
        "high": round(value.high, 4),
        "covered": bool(covered),
    }


def measured(model):
    """Both estimates for one network."""
    network = model.make()
    passes, status = attacked(model, network, "standard")
    broken, left = status == int(Status.BROKEN), status == int(Status.SURVIVED)
    whole = float(passes[left].double().median())
    late = broken & (passes > whole / 10)
    tenth = passes.double().clamp(max=whole / 10)
    few, few_status = attacked(model, network, "fast")
    few_left = few_status == int(Status.SURVIVED)
    times = whole / float(few[few_left].double().median())
    return {
        "tenth": compared(tenth, broken & ~late, left | late, late, 10.0),
        "fast": compared(few, few_status == int(Status.BROKEN), few_left, few_left & broken, times),
    }


def main():
    from trust.honest import HONEST

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    rows = []
    for model in HONEST:
        if model.name in NETWORKS:
            began = time.perf_counter()
            row = measured(dataclasses.replace(model, count=arguments.n))
            rows.append({"network": model.name, **row, "seconds": round(time.perf_counter() - began, 1)})
            print(rows[-1], flush=True)
    summary = {f"covered_from_{part}": sum(row[part]["covered"] for row in rows) for part in ("tenth", "fast")}
    print(len(rows), summary)
    record("more", {"n": arguments.n, "networks": len(rows), **summary, "rows": rows})


if __name__ == "__main__":
    main()
