"""How much of an adversarially trained network each certifier decides at small budgets, and in what time.

python certify_decided.py --mnist npz:mnist.npz             # PGD-AT at 0.1, then CROWN, alpha-CROWN, branch and bound
"""

import argparse
import json

import torch
from common import CACHE, merged, record

import assay
from assay.data import load as load_data
from assay.training import Recipe, train

CERTIFIERS = ("crown-ibp", "crown", "alpha-crown", "alpha-crown:inner=true", "branch-and-bound:seconds={seconds:g}")


def rows(model, x, y, eps, seconds):
    """Shares of the samples that are right which each certifier alone decides, and its seconds a sample."""
    attacked = assay.attack(model, x, y, assay.Standard(eps))
    right = (attacked.status != int(assay.Status.MISCLASSIFIED)).nonzero().squeeze(1)
    broken = (attacked.status == int(assay.Status.BROKEN))[right]
    x, y = x[right], y[right]
    for name in CERTIFIERS:
        spec = name.format(seconds=seconds)
        certificates = assay.certified(model, x, y, spec, eps=eps, batch=16)
        refuted = certificates.decision == int(assay.certify.Decision.BROKEN)
        yield {
            "case": f"PGD-AT, linf {eps:g}, {spec}",
            "n": len(y),
            "certified, per cent": share(certificates.certified),
            "broken by it, per cent": share(refuted),
            "decided with the attacks, per cent": share(certificates.certified | refuted | broken),
            "contradictions": int((certificates.certified & broken).sum()),
            "seconds a sample": round(float(certificates.seconds.mean()), 3),
        }


def share(of):
    """In per cent."""
    return round(100 * float(of.double().mean()), 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", required=True, help="where MNIST comes from, such as npz:mnist.npz")
    parser.add_argument("--budgets", type=float, nargs="*", default=[0.02, 0.05])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = Recipe(arch="conv-small", normalize="none", objective="pgd-at", eps=0.1, epochs=arguments.epochs)
    images = load_data(arguments.mnist, split="train")
    network = train(images, recipe, CACHE / f"decided-{arguments.epochs}", progress=lambda e: print(e, flush=True))
    test = load_data(arguments.mnist, split="test", limit=arguments.n)
    size = {"parameters": sum(p.numel() for p in network.model.parameters())}
    for eps in arguments.budgets:
        for row in rows(network.model, test.images(), test.y, eps, arguments.seconds):
            print(json.dumps(row), flush=True)
            record("certify_decided", {"rows": merged("certify_decided", [row | size], "case")})


if __name__ == "__main__":
    main()
