"""Square on eight survivors beside the AutoAttack package: milliseconds a query, in one process, in turn.

Eight samples that PGD-20 leaves; both run every query, for nothing breaks or all that is left counts.
"""

import argparse
import warnings

import torch
from common import best, interleaved, record
from ladder import images, network, rungs

import assay

NETWORKS = ["fashion-cnn-pgd-at", "fashion-cnn-trades", "cifar10-cnn-pgd-at"]
NORMS = {"linf": "Linf", "l2": "L2"}


def survivors(model, rung, count):
    data = images(rung.data, "test", 256)
    x, y = data.images(), data.y
    outcome = assay.attack(model, x, y, assay.PGD(rung.eps, norm=rung.norm, steps=20), preflight=False)
    at = outcome.robust.nonzero().squeeze(1)[:count]
    return x[at], y[at]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--networks", nargs="*", default=["fashion-cnn-pgd-at", "fashion-cnn-trades", "cifar10-cnn-pgd-at"]
    )
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    from pyautoattack.square import SquareAttack

    rows = []
    for rung in rungs():
        if rung.name not in arguments.networks:
            continue
        model = network(rung)
        x, y = survivors(model, rung, arguments.rows)
        peer = SquareAttack(
            model, n_queries=arguments.queries, eps=rung.eps, norm=NORMS[rung.norm], device="cpu", seed=0, verbose=False
        )
        ours = assay.Square(rung.eps, norm=rung.norm, queries=arguments.queries)
        jobs = {
            "assay": lambda m=model, a=ours, x=x, y=y: assay.attack(m, x, y, a, preflight=False).robust,
            "autoattack": lambda m=model, a=peer, x=x, y=y: m(a.perturb(x, y)).argmax(1) == y,
        }
        times, left = interleaved(jobs, arguments.repeats)
        each = {name: round(1000 * best(spent) / arguments.queries, 4) for name, spent in times.items()}
        row = {"network": rung.name, "rows": len(x), "ms_per_query": each}
        row["of_autoattack"] = round(each["assay"] / each["autoattack"], 3)
        row["robust"] = {name: int(robust.sum()) for name, robust in left.items()}
        rows.append(row)
        print(row, flush=True)
    record("square", {"queries": arguments.queries, "rows": rows})


if __name__ == "__main__":
    main()
