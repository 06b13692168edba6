"""`compile=` beside eager: the same attack with the model compiled for the search, its verification eager in both.

Seconds of the second run (the first compiles), in turn, and whether the verdicts agree. On a processor.
"""

import argparse
import time
import warnings

import torch
from common import best, fashion, interleaved, models, record

import assay


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    data = fashion("test", arguments.n)
    x, y = data.images(), data.y
    attacks = {"pgd-40": assay.PGD(0.1, steps=40, step_size=0.01), "apgd-40": assay.APGD(0.1, steps=40)}
    rows = []
    for name, model in models("pgd-at").items():
        for attack, made in attacks.items():
            jobs = {
                mode: lambda m=model, a=made, c=mode: assay.attack(m, x, y, a, compile=c, preflight=False)
                for mode in ("no", "default")
            }
            began = time.perf_counter()
            jobs["default"]()
            first = time.perf_counter() - began
            times, outcomes = interleaved(jobs, arguments.repeats)
            rows.append(
                {
                    "model": name,
                    "attack": attack,
                    "eager_s": round(best(times["no"]), 3),
                    "compiled_s": round(best(times["default"]), 3),
                    "first_compiled_s": round(first, 1),
                    "of_eager": round(best(times["default"]) / best(times["no"]), 3),
                    "verdicts_that_differ": int((outcomes["no"].status != outcomes["default"].status).sum()),
                }
            )
            print(rows[-1], flush=True)
    record("compiled", {"n": arguments.n, "rows": rows})


if __name__ == "__main__":
    main()
