"""APGD-CE and targeted APGD-DLR, beside the same pair of the AutoAttack package, on three models and three norms.

The same images, budget, 100 steps, one restart, nine targets. AutoAttack's pair is run as it runs it: each attack on
the samples that survived those before.
"""

import argparse
import time
import warnings

import torch
from common import fashion, models, record

import assay

CASES = (
    ("plain", "linf", 0.05),
    ("pgd-at", "linf", 0.1),
    ("pgd-at-bn", "linf", 0.1),
    ("pgd-at", "l2", 1.0),
    ("pgd-at-l2", "l2", 1.0),
    ("pgd-at-bn", "l1", 10.0),
    ("pgd-at-l2", "l1", 10.0),
)


def theirs(model, x, y, norm, eps, seed):
    from pyautoattack import AutoAttack

    name = {"linf": "Linf", "l2": "L2", "l1": "L1"}[norm]
    adversary = AutoAttack(
        model, norm=name, eps=eps, version="custom", attacks=["apgd-ce", "apgd-t"], device="cpu", seed=seed
    )
    adversary.apgd.n_restarts = 1
    began = time.perf_counter()
    images, _ = adversary.run_standard_evaluation(x, y, batch_size=256)
    seconds = time.perf_counter() - began
    with torch.no_grad():
        return (model(images).argmax(1) == y), seconds


def ours(model, x, y, norm, eps, seed):
    pair = assay.Cascade((assay.APGD(eps, norm=norm), assay.APGD(eps, norm=norm, loss="dlr", targets=9)))
    began = time.perf_counter()
    outcome = assay.attack(model, x, y, pair, slots=256, seed=seed, preflight=False)
    return outcome.robust, time.perf_counter() - began, outcome


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--norms", nargs="+", default=["linf", "l2", "l1"])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    data = fashion("test", arguments.n)
    x, y = data.images(), data.y
    cases = [case for case in CASES if case[1] in arguments.norms]
    loaded = models(*dict.fromkeys(name for name, _, _ in cases))
    rows = []
    for name, norm, eps in cases:
        model = loaded[name]
        for seed in range(arguments.seeds):
            their_robust, their_seconds = theirs(model, x, y, norm, eps, seed)
            our_robust, our_seconds, outcome = ours(model, x, y, norm, eps, seed)
            rows.append(
                {
                    "model": name,
                    "norm": norm,
                    "eps": eps,
                    "n": len(y),
                    "seed": seed,
                    "clean": round(100 * outcome.clean_accuracy, 2),
                    "autoattack": round(100 * their_robust.float().mean().item(), 2),
                    "assay": round(100 * our_robust.float().mean().item(), 2),
                    "only_autoattack_breaks": int((our_robust & ~their_robust).sum()),
                    "only_assay_breaks": int((~our_robust & their_robust).sum()),
                    "seconds_ratio": round(our_seconds / their_seconds, 3),
                    "backwards_per_sample": round(outcome.backwards.float().mean().item(), 1),
                }
            )
            print(rows[-1], flush=True)
    record("strength", {"steps": 100, "restarts": 1, "targets": 9, "rows": rows})


if __name__ == "__main__":
    main()
