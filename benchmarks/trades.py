"""Why TRADES stays behind PGD-AT on a small network with batch normalisation: whose statistics it is left with.

In training TRADES passes clean and adversarial batches apart, so the running statistics are a mixture, while PGD-AT's
are those of adversarial images alone. Here they are estimated anew from adversarial images, the weights as they are.
"""

import argparse
import warnings

import torch
from common import CACHE, fashion, record
from torch import nn

import assay
from assay.models import load

EPS = 0.1


def adversarial_statistics(model, data, batches=40):
    """Running statistics of adversarial images only."""
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    moved = [
        assay.perturb(model, x, y, assay.PGD(EPS, steps=7), seed=i)
        for i, (x, y) in zip(range(batches), data.batches(128), strict=False)
    ]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over batches
    model.train()
    with torch.no_grad():
        for x in moved:
            model(x)
    return model.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=512)
    parser.add_argument("--suffix", default="-20-epochs")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    data, test, rows = fashion("train", 6000), fashion("test", arguments.n), []
    for name in ("pgd-at", "trades"):
        for again in (False, True):
            model = load(str(CACHE / f"train-{name}{arguments.suffix}" / "model.safetensors")).requires_grad_(False)
            model = adversarial_statistics(model, data) if again else model
            attack = assay.Cascade((assay.APGD(EPS, steps=30), assay.APGD(EPS, steps=30, loss="dlr", targets=5)))
            found = assay.attack(model, test.images(), test.y, attack, preflight=False)
            rows.append(
                {
                    "objective": name,
                    "statistics": "adversarial" if again else "as trained",
                    "clean": round(100 * found.clean_accuracy, 1),
                    "robust": round(100 * found.robust_accuracy, 1),
                }
            )
            print(rows[-1], flush=True)
    record("trades", {"n": arguments.n, "rows": rows})


if __name__ == "__main__":
    main()
