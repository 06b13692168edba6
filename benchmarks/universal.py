"""Universal perturbations against a plain and an adversarially trained model (the effect of paper 001)."""

import argparse
import time
import warnings

import torch
from common import fashion, models, record

import assay
from assay.data import random_batches


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eps", type=float, nargs="+", default=[0.1, 0.15, 0.2])
    parser.add_argument("--updates", type=int, default=60)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    train, test = fashion("train", 4000), fashion("test", 1000)
    rows = []
    for name in ("plain", "pgd-at"):
        model = models(name)[name].eval()
        for eps in arguments.eps:
            for attack in (
                assay.UniversalSign(eps, updates=arguments.updates, batches=4),
                assay.UniversalDeepFool(eps, updates=2, together=8),
            ):
                began = time.perf_counter()
                made = assay.universal(model, random_batches(train.images(), train.y, 128), attack)
                seconds = time.perf_counter() - began
                x, y = test.images(), test.y
                with torch.no_grad():
                    clean, now = model(x).argmax(1), model(made.apply(x)).argmax(1)
                rows.append(
                    {
                        "model": name,
                        "attack": attack.describe(),
                        "eps": eps,
                        "clean": (clean == y).float().mean().item(),
                        "accuracy": (now == y).float().mean().item(),
                        "fooled": (now != clean).float().mean().item(),
                        "seconds": round(seconds, 1),
                    }
                )
                print(rows[-1], flush=True)
    record("universal", {"n": 1000, "rows": rows})


if __name__ == "__main__":
    main()
