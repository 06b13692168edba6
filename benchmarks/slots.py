"""The same verdict for any number of slots and any order: every sample that differs is listed with its margin."""

import argparse
import warnings

import torch
from common import fashion, models, record

import assay

ATTACKS = {
    "pgd-linf": lambda: assay.PGD(0.1, steps=40, step_size=0.01),
    "pgd-l2": lambda: assay.PGD(1.0, norm="l2", steps=40),
    "apgd-linf": lambda: assay.APGD(0.1, steps=40),
    "pgd-restarts": lambda: assay.PGD(0.1, steps=10, restarts=3),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=256)
    parser.add_argument("--slots", type=int, nargs="*", default=[1, 7, 64, 512])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    data = fashion("test", arguments.n)
    x, y = data.images(), data.y
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    back = order.argsort()
    rows = []
    for name, model in models("plain", "pgd-at").items():
        for attack, make in ATTACKS.items():
            runs = {f"slots {s}": assay.attack(model, x, y, make(), slots=s, preflight=False) for s in arguments.slots}
            shuffled = assay.attack(model, x[order], y[order], make(), slots=64, preflight=False)
            runs["shuffled"] = shuffled.take(back)
            first = runs[f"slots {arguments.slots[-1]}"]
            for run, outcome in runs.items():
                differ = (outcome.status != first.status).nonzero().squeeze(1).tolist()
                rows.append(
                    {
                        "model": name,
                        "attack": attack,
                        "run": run,
                        "n": len(y),
                        "robust": round(100 * outcome.robust_accuracy, 2),
                        "differ": [
                            {"sample": i, "margin": outcome.margin[i].item(), "reference": first.margin[i].item()}
                            for i in differ
                        ],
                    }
                )
                print(rows[-1], flush=True)
    record("slots", {"rows": rows, "samples_that_differ": sum(len(r["differ"]) for r in rows)})


if __name__ == "__main__":
    main()
